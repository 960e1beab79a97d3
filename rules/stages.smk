"""A stage: pseudo labels, training, and what the next stage and the evaluation need of it."""


rule make_pseudo_labels:
    input:
        unpack(maps_of_pseudo_labels),
        **DATA_INPUT,
        saliency=saliency_maps,
    output:
        # Never temporary: scores and training read them, and to make them again would retrain.
        of_stage("pseudo_labels/shard{shard}.h5"),
    log:
        log_of_stage("pseudo_labels/shard{shard}.log"),
    benchmark:
        benchmark_of_stage("pseudo_labels/shard{shard}.tsv")
    threads: CONFIG.resources.crf.threads
    resources:
        **cpu_job(CONFIG.resources.crf),
    params:
        shards=CONFIG.shards,
        settings=pseudo_label_settings,
        corrected=lambda wildcards: digest_of_corrected(wildcards.variant),
        maps=map_arguments,
    shell:
        command(
            "{params.maps}",
            "--saliency {input.saliency}",
            "--threads {threads}",
            "--mem-mb {resources.mem_mb}",
            "--output {output}",
            DATA,
            SETTINGS,
            RUN,
            SHARD,
        )


rule train_stage:
    input:
        **DATA_INPUT,
        model=model_before,
        pseudo_labels=all_shards(of_stage("pseudo_labels/shard{shard}.h5")),
    output:
        model=of_stage("train/model.pt"),
        log=of_stage("train/log.csv"),
    log:
        log_of_stage("train.log"),
    benchmark:
        benchmark_of_stage("train.tsv")
    threads: CONFIG.resources.train.threads
    resources:
        **network_job(CONFIG.resources.train),
    params:
        settings=training_settings,
    shell:
        command(
            "--pseudo-labels {input.pseudo_labels}",
            "--model {input.model}",
            "--output {output.model}",
            "--log-csv {output.log}",
            DATA,
            SETTINGS,
            RUN,
            HARDWARE,
        )


rule refine_cams:
    input:
        **DATA_INPUT,
        model=model_before,
    output:
        cams=intermediate(of_stage("cams/shard{shard}.h5")),
        saliency=intermediate(of_stage("saliency/shard{shard}.h5")),
    log:
        log_of_stage("refine_cams/shard{shard}.log"),
    benchmark:
        benchmark_of_stage("refine_cams/shard{shard}.tsv")
    wildcard_constraints:
        stage="[1-4]",
    threads: CONFIG.resources.infer.threads
    resources:
        **network_job(CONFIG.resources.infer),
    params:
        shards=CONFIG.shards,
        settings=refinement_settings,
    shell:
        command(
            "--model {input.model}",
            "--output-cams {output.cams}",
            "--output-saliency {output.saliency}",
            DATA,
            SETTINGS,
            RUN,
            SHARD,
            HARDWARE,
        )


rule segment:
    input:
        unpack(test_images),
        **DATA_INPUT,
        model=of_stage("train/model.pt"),
    output:
        intermediate(of_stage("predictions/{split}/shard{shard}.h5")),
    log:
        log_of_stage("predictions/{split}/shard{shard}.log"),
    benchmark:
        benchmark_of_stage("predictions/{split}/shard{shard}.tsv")
    threads: CONFIG.resources.infer.threads
    resources:
        **network_job(CONFIG.resources.infer),
    params:
        shards=CONFIG.shards,
        settings=prediction_settings,
    shell:
        command(
            "--split {wildcards.split}",
            "--model {input.model}",
            "--output {output}",
            DATA,
            SETTINGS,
            RUN,
            SHARD,
            HARDWARE,
        )


rule segment_crf:
    input:
        unpack(test_images),
        **DATA_INPUT,
        predictions=of_stage("predictions/{split}/shard{shard}.h5"),
    output:
        of_stage("predictions_crf/{split}/shard{shard}.h5"),
    log:
        log_of_stage("predictions_crf/{split}/shard{shard}.log"),
    benchmark:
        benchmark_of_stage("predictions_crf/{split}/shard{shard}.tsv")
    threads: CONFIG.resources.crf.threads
    resources:
        **cpu_job(CONFIG.resources.crf),
    params:
        shards=CONFIG.shards,
        settings=lambda wildcards: as_json(VARIANTS[wildcards.variant].prediction.crf),
    shell:
        command(
            "--split {wildcards.split}",
            "--predictions {input.predictions}",
            "--threads {threads}",
            "--mem-mb {resources.mem_mb}",
            "--output {output}",
            DATA,
            SETTINGS,
            RUN,
            SHARD,
        )

"""Classification pre-training and the CAMs of stage 0: shared by all variants."""


rule train_classifier:
    input:
        **DATA_INPUT,
    output:
        model="results/{dataset}/classifier/seed{seed}/model.pt",
        log="results/{dataset}/classifier/seed{seed}/log.csv",
    log:
        "results/logs/{dataset}/classifier/seed{seed}.log",
    benchmark:
        "results/benchmarks/{dataset}/classifier/seed{seed}.tsv"
    threads: CONFIG.resources.train.threads
    resources:
        **network_job(CONFIG.resources.train),
        weights=str(WEIGHTS),
    params:
        settings=classifier_settings(),
        weights=lambda _: digest_of_weights(WEIGHTS, "backbone.weights"),
    shell:
        command(
            "--seed {wildcards.seed}",
            "--weights {resources.weights:q}",
            "--output {output.model}",
            "--log-csv {output.log}",
            DATA,
            SETTINGS,
            HARDWARE,
        )


if CONFIG.cam.source == "files":

    rule import_cams:
        input:
            **DATA_INPUT,
        output:
            intermediate("results/{dataset}/classifier/seed{seed}/cams/shard{shard}.h5"),
        log:
            "results/logs/{dataset}/classifier/seed{seed}/cams/shard{shard}.log",
        benchmark:
            "results/benchmarks/{dataset}/classifier/seed{seed}/cams/shard{shard}.tsv"
        threads: CONFIG.resources.infer.threads
        resources:
            **cpu_job(CONFIG.resources.infer),
        params:
            shards=CONFIG.shards,
            # A function, or Snakemake would take {image_id} for a wildcard of its own.
            settings=lambda wildcards: as_json(CONFIG.cam.files),
        shell:
            command(
                "--seed {wildcards.seed}",
                "--threads {threads}",
                "--output {output}",
                DATA,
                SETTINGS,
                SHARD,
            )

else:

    rule extract_cams:
        input:
            **DATA_INPUT,
            model="results/{dataset}/classifier/seed{seed}/model.pt",
        output:
            intermediate("results/{dataset}/classifier/seed{seed}/cams/shard{shard}.h5"),
        log:
            "results/logs/{dataset}/classifier/seed{seed}/cams/shard{shard}.log",
        benchmark:
            "results/benchmarks/{dataset}/classifier/seed{seed}/cams/shard{shard}.tsv"
        threads: CONFIG.resources.infer.threads
        resources:
            **network_job(CONFIG.resources.infer),
        params:
            shards=CONFIG.shards,
            settings=view_settings(
                CONFIG.cam, CONFIG.classifier.precision, without=["source", "files"]
            ),
        shell:
            command(
                "--seed {wildcards.seed}",
                "--model {input.model}",
                "--output {output}",
                DATA,
                SETTINGS,
                SHARD,
                HARDWARE,
            )

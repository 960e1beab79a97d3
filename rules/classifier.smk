"""Classification pre-training and the CAMs of stage 0: shared by the variants that pick them."""


rule train_classifier:
    input:
        **DATA_INPUT,
    output:
        model=of_classifier("model.pt"),
        log=of_classifier("log.csv"),
    log:
        of_classifier("train.log", folder="results/logs"),
    benchmark:
        of_classifier("train.tsv", folder="results/benchmarks")
    threads: CONFIG.resources.train.threads
    resources:
        **network_job(CONFIG.resources.train),
        weights=lambda wildcards: str(WEIGHTS[wildcards.classifier]),
    params:
        settings=classifier_settings,
        weights=digest_of_start,
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


rule import_cams:
    input:
        **DATA_INPUT,
    output:
        intermediate(of_classifier("cams/shard{shard}.h5")),
    log:
        of_classifier("cams/shard{shard}.log", folder="results/logs"),
    benchmark:
        of_classifier("cams/shard{shard}.tsv", folder="results/benchmarks")
    wildcard_constraints:
        classifier=one_of(IMPORTED),
    threads: CONFIG.resources.infer.threads
    resources:
        **cpu_job(CONFIG.resources.infer),
    params:
        shards=CONFIG.shards,
        settings=lambda wildcards: as_json(CLASSIFIERS[wildcards.classifier].cam.files),
    shell:
        command(
            "--seed {wildcards.seed}",
            "--threads {threads}",
            "--output {output}",
            DATA,
            SETTINGS,
            SHARD,
        )


rule extract_cams:
    input:
        **DATA_INPUT,
        model=lambda wildcards: trained("model.pt", wildcards.classifier),
    output:
        intermediate(of_classifier("cams/shard{shard}.h5")),
    log:
        of_classifier("cams/shard{shard}.log", folder="results/logs"),
    benchmark:
        of_classifier("cams/shard{shard}.tsv", folder="results/benchmarks")
    wildcard_constraints:
        classifier=one_of(EXTRACTED),
    threads: CONFIG.resources.infer.threads
    resources:
        **network_job(CONFIG.resources.infer),
    params:
        shards=CONFIG.shards,
        settings=cam_settings,
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

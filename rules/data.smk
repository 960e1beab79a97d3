"""The index of the data set and off-the-shelf saliency."""


rule index_dataset:
    output:
        index="results/{dataset}/index.csv",
        classes="results/{dataset}/classes.csv",
        ground_truth="results/{dataset}/ground_truth.json",
        root="results/{dataset}/root.txt",
    log:
        "results/logs/{dataset}/index_dataset.log",
    benchmark:
        "results/benchmarks/{dataset}/index_dataset.tsv"
    threads: CONFIG.resources.index.threads
    resources:
        **cpu_job(CONFIG.resources.index),
    params:
        settings=dataset_settings(LEARNT),
        lists=lambda _: digests_of_lists(LEARNT),
    shell:
        command(
            "--settings {params.settings:q}",
            "--threads {threads}",
            DATA,
        )


rule index_test_images:
    input:
        **DATA_INPUT,
    output:
        TEST_IMAGES,
    log:
        "results/logs/{dataset}/index_test_images.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        settings=dataset_settings(CONFIG.dataset),
        lists=lambda _: digests_of_lists(CONFIG.dataset),
    shell:
        command(
            DATA,
            SETTINGS,
        )


rule predict_saliency:
    input:
        **DATA_INPUT,
    output:
        "results/{dataset}/saliency/{source}/shard{shard}.h5",
    log:
        "results/logs/{dataset}/saliency/{source}/shard{shard}.log",
    benchmark:
        "results/benchmarks/{dataset}/saliency/{source}/shard{shard}.tsv"
    threads: CONFIG.resources.infer.threads
    resources:
        **cpu_job(CONFIG.resources.infer),
    params:
        shards=CONFIG.shards,
        settings=source_settings,
        files=digests_of_source,
    shell:
        command(
            "--source {wildcards.source}",
            "--threads {threads}",
            "--output {output}",
            DATA,
            SETTINGS,
            SHARD,
        )

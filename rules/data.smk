"""The index of the data set and off-the-shelf saliency."""


rule index_dataset:
    input:
        code=code("index_dataset"),
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
        module="workflow_scripts.index_dataset",
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
        code=code("index_test_images"),
    output:
        TEST_IMAGES,
    log:
        "results/logs/{dataset}/index_test_images.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        module="workflow_scripts.index_test_images",
        settings=dataset_settings(CONFIG.dataset),
        lists=lambda _: digests_of_lists(CONFIG.dataset),
    shell:
        command(
            DATA,
            SETTINGS,
        )


rule predict_saliency:
    input:
        SALIENCY_FILES,
        **DATA_INPUT,
        code=code("predict_saliency"),
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
        module="workflow_scripts.predict_saliency",
        # A function, or Snakemake would take the {image_id} of a pattern for a wildcard.
        settings=lambda _: as_json(CONFIG.saliency.model_dump(include={"source", SOURCE})),
    shell:
        command(
            "--threads {threads}",
            "--output {output}",
            DATA,
            SETTINGS,
            SHARD,
        )

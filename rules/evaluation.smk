"""Scores per stage and run, and the summary over stages and seeds."""


rule evaluate_pseudo_labels:
    input:
        **DATA_INPUT,
        pseudo_labels=all_shards(of_stage("pseudo_labels/shard{shard}.h5")),
    output:
        classes=score_table("pseudo_labels", "pseudo labels"),
        images=of_stage("evaluation/pseudo_label_images.csv"),
        sizes=of_stage("evaluation/pseudo_label_sizes.csv"),
        overlaps=of_stage("evaluation/pseudo_label_overlaps.csv"),
        confusion=of_stage("evaluation/pseudo_label_confusion.csv"),
    log:
        log_of_stage("evaluate_pseudo_labels.log"),
    benchmark:
        benchmark_of_stage("evaluate_pseudo_labels.tsv")
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        settings=lambda wildcards: as_json(VARIANTS[wildcards.variant].evaluation),
    shell:
        command(
            "--pseudo-labels {input.pseudo_labels}",
            "--threads {threads}",
            SCORE_TABLES,
            DATA,
            SETTINGS,
            RUN,
        )


rule evaluate_segmentation:
    input:
        **DATA_INPUT,
        predictions=all_shards(of_stage("predictions/val/shard{shard}.h5")),
        predictions_crf=all_shards(of_stage("predictions_crf/val/shard{shard}.h5")),
    output:
        classes=score_table("segmentation", "predictions"),
        images=of_stage("evaluation/images.csv"),
        sizes=score_table("sizes", "predictions by size"),
        uncertainty=score_table("uncertainty", "worth of the order"),
        overlaps=of_stage("evaluation/overlaps.csv"),
        confusion=of_stage("evaluation/confusion.csv"),
    log:
        log_of_stage("evaluate_segmentation.log"),
    benchmark:
        benchmark_of_stage("evaluate_segmentation.tsv")
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        settings=lambda wildcards: as_json(VARIANTS[wildcards.variant].evaluation),
    shell:
        command(
            "--predictions {input.predictions}",
            "--predictions-crf {input.predictions_crf}",
            "--uncertainty {output.uncertainty}",
            "--threads {threads}",
            SCORE_TABLES,
            DATA,
            SETTINGS,
            RUN,
        )


rule summarise:
    input:
        pseudo_labels=lambda wildcards: runs(
            of_stage("evaluation/pseudo_labels.csv"),
            wildcards.variant,
        ),
        segmentation=lambda wildcards: runs(
            of_stage("evaluation/segmentation.csv"),
            wildcards.variant,
        ),
    output:
        reported(
            "results/{dataset}/{variant}/summary.csv",
            "summary",
            "Scores",
            table="all stages",
            variant="{variant}",
            seed="all",
            stage="all",
        ),
    log:
        "results/logs/{dataset}/{variant}/summarise.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        stages=lambda wildcards: stages_of_runs(wildcards.variant),
    shell:
        command(
            "--stages {params.stages}",
            "--pseudo-labels {input.pseudo_labels}",
            "--segmentation {input.segmentation}",
            "--output {output}",
        )

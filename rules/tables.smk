"""Tables of the paper's evidence, what a run took, and pseudo labels at other thresholds."""


rule make_table:
    input:
        **DATA_INPUT,
        overlaps=overlaps_of_table,
    output:
        csv=reported("results/{dataset}/tables/{table}.csv", "table", "Tables", table="{table}"),
        markdown="results/{dataset}/tables/{table}.md",
    log:
        "results/logs/{dataset}/tables/{table}.log",
    wildcard_constraints:
        table=one_of(TABLES),
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        settings=lambda wildcards: as_json(TABLES[wildcards.table]),
        seeds=SEEDS,
    shell:
        command(
            "--seeds {params.seeds}",
            "--csv {output.csv}",
            "--markdown {output.markdown}",
            DATA,
            SETTINGS,
        )


rule measure_footprint:
    input:
        **DATA_INPUT,
        scores=all_evaluations,
    output:
        csv=reported(
            "results/{dataset}/tables/footprint.csv",
            "table",
            "Tables",
            table="footprint",
        ),
        markdown="results/{dataset}/tables/footprint.md",
    log:
        "results/logs/{dataset}/tables/footprint.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    shell:
        command(
            "--benchmarks results/benchmarks/{wildcards.dataset}",
            "--logs results/logs/{wildcards.dataset}",
            "--csv {output.csv}",
            "--markdown {output.markdown}",
            DATA,
        )


rule sweep_thresholds:
    input:
        unpack(maps_of_sweep),
        **DATA_INPUT,
        off_the_shelf=lambda wildcards: all_shards(saliency_maps(wildcards)),
    output:
        of_stage("evaluation/threshold_sweep.csv"),
    log:
        log_of_stage("sweep_thresholds.log"),
    threads: CONFIG.resources.crf.threads
    resources:
        **cpu_job(CONFIG.resources.crf),
    params:
        settings=pseudo_label_settings,
        maps=map_arguments,
        ignored=lambda wildcards: VARIANTS[wildcards.variant].evaluation.ignore_prediction,
    shell:
        command(
            "{params.maps}",
            "--saliency {input.off_the_shelf}",
            "--ignore-prediction {params.ignored}",
            "--threads {threads}",
            "--output {output}",
            DATA,
            SETTINGS,
            RUN,
        )

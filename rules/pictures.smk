"""Pictures and finished files for people."""


rule draw_curves:
    input:
        classifier=lambda wildcards: trained("/log.csv", classifier_of(CONFIG, wildcards.variant)),
        stages=lambda wildcards: stage_files(of_stage("train/log.csv"), wildcards),
    output:
        "results/{dataset}/figures/{variant}_seed{seed}_curves.png",
    log:
        "results/logs/{dataset}/{variant}/draw_curves_seed{seed}.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        stages=lambda wildcards, input: numbered(input.stages, "stage "),
    shell:
        command(
            "--logs classifier={input.classifier} {params.stages:q}",
            "--output {output}",
        )


rule draw_strip:
    input:
        **DATA_INPUT,
        cams=lambda wildcards: stage_cams(wildcards),
        pseudo_labels=lambda wildcards: stage_files(
            of_stage("pseudo_labels/shard0.h5"),
            wildcards,
        ),
        predictions=lambda wildcards: stage_files(
            of_stage("predictions/val/shard0.h5"),
            wildcards,
        ),
        predictions_crf=lambda wildcards: stage_files(
            of_stage("predictions_crf/val/shard0.h5"),
            wildcards,
        )[-1:],
    output:
        "results/{dataset}/figures/{variant}_seed{seed}_strip.png",
    log:
        "results/logs/{dataset}/{variant}/draw_strip_seed{seed}.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        cams=cams_argument,
        pseudo_labels=lambda wildcards, input: numbered(input.pseudo_labels),
        predictions=lambda wildcards, input: numbered(input.predictions),
        last=lambda wildcards: len(stages_of(wildcards.variant)) - 1,
    shell:
        command(
            "{params.cams}",
            "--pseudo-labels {params.pseudo_labels}",
            "--predictions {params.predictions}",
            "--predictions-crf {params.last}={input.predictions_crf}",
            "--images 4",
            "--output {output}",
            DATA,
        )


rule make_gallery:
    input:
        **DATA_INPUT,
        test_images=TEST_IMAGES if "test" in SPLITS else [],
        maps=gallery_maps,
    output:
        "results/{dataset}/gallery/index.html",
    log:
        "results/logs/{dataset}/make_gallery.log",
    threads: CONFIG.resources.crf.threads
    resources:
        **cpu_job(CONFIG.resources.crf),
    params:
        settings=gallery_settings,
    shell:
        command(
            "--threads {threads}",
            "--output {output}",
            DATA,
            SETTINGS,
        )


rule export_masks:
    input:
        **DATA_INPUT,
        test_images=TEST_IMAGES if "test" in SPLITS else [],
        labels=expand(
            of_stage("predictions_crf/{split}/shard{shard}.h5"),
            variant=list(VARIANTS)[0],
            seed=SEEDS[0],
            stage=stages_of(list(VARIANTS)[0])[-1],
            split=SPLITS,
            shard=SHARDS,
            allow_missing=True,
        ),
    output:
        "results/{dataset}/masks/masks.csv",
    log:
        "results/logs/{dataset}/export_masks.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        alpha=CONFIG.masks.alpha,
    shell:
        command(
            "--labels {input.labels}",
            "--alpha {params.alpha}",
            "--output {output}",
            DATA,
        )

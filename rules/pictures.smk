"""Pictures and finished files for people."""


rule draw_curves:
    input:
        classifier=lambda wildcards: trained("log.csv", classifier_of(CONFIG, wildcards.variant)),
        stages=lambda wildcards: stage_files(of_stage("train/log.csv"), wildcards),
    output:
        **drawn("curves", "{seed}"),
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
            "--output {output.png}",
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
        **drawn("strip", "{seed}"),
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
        ids=CONFIG.figures.images,
    shell:
        command(
            "{params.cams}",
            "--pseudo-labels {params.pseudo_labels}",
            "--predictions {params.predictions}",
            "--predictions-crf {params.last}={input.predictions_crf}",
            "--images 4",
            IDS,
            "--output {output.png}",
            DATA,
        )


rule draw_results:
    input:
        **DATA_INPUT,
        labels=lambda wildcards: all_shards(
            of_stage("predictions_crf/val/shard{shard}.h5", stages_of(wildcards.variant)[-1]),
        ),
        scores=lambda wildcards: of_stage(
            "evaluation/images.csv",
            stages_of(wildcards.variant)[-1],
        ),
    output:
        **drawn("results", "{seed}"),
    log:
        "results/logs/{dataset}/{variant}/draw_results_seed{seed}.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        last=lambda wildcards: stages_of(wildcards.variant)[-1],
        ids=CONFIG.figures.images,
    shell:
        command(
            "--variant {wildcards.variant} --seed {wildcards.seed} --stage {params.last}",
            "--labels {input.labels}",
            "--scores {input.scores}",
            IDS,
            "--output {output.png}",
            DATA,
        )


rule draw_cams:
    input:
        **DATA_INPUT,
        cams=lambda wildcards: stage_cams(wildcards),
        pseudo_labels=lambda wildcards: stage_files(
            of_stage("pseudo_labels/shard0.h5"),
            wildcards,
        ),
    output:
        **drawn("cams", "{seed}"),
    log:
        "results/logs/{dataset}/{variant}/draw_cams_seed{seed}.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        cams=cams_argument,
        pseudo_labels=lambda wildcards, input: numbered(input.pseudo_labels),
        ids=CONFIG.figures.images,
    shell:
        command(
            "--variant {wildcards.variant}",
            "{params.cams}",
            "--pseudo-labels {params.pseudo_labels}",
            IDS,
            "--output {output.png}",
            DATA,
        )


rule draw_affinity:
    input:
        **DATA_INPUT,
        model=lambda wildcards: of_stage("train/model.pt", stages_of(wildcards.variant)[-1]),
    output:
        **drawn("affinity", "{seed}"),
    log:
        "results/logs/{dataset}/{variant}/draw_affinity_seed{seed}.log",
    threads: CONFIG.resources.infer.threads
    resources:
        **network_job(CONFIG.resources.infer),
    params:
        last=lambda wildcards: stages_of(wildcards.variant)[-1],
        settings=affinity_settings,
    shell:
        command(
            "--variant {wildcards.variant} --seed {wildcards.seed} --stage {params.last}",
            "--model {input.model}",
            "--output {output.png}",
            DATA,
            SETTINGS,
            HARDWARE,
        )


rule draw_stages:
    input:
        "results/{dataset}/{variant}/summary.csv",
    output:
        **drawn("stages"),
    log:
        "results/logs/{dataset}/{variant}/draw_stages.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        paper=paper_curve,
    shell:
        command(
            "--summary {input}",
            "--headline '{wildcards.dataset}, {wildcards.variant}'",
            "--paper {params.paper:q}",
            "--output {output.png}",
        )


rule draw_costs:
    input:
        footprint="results/{dataset}/tables/footprint.csv",
        summaries=expand(
            "results/{{dataset}}/{variant}/summary.csv",
            variant=VARIANTS,
        ),
    output:
        **COSTS
        | {
            "png": reported(
                COSTS["png"],
                "figures/costs",
                "Pictures",
                picture="costs",
                variant="all",
                seed="all",
                stage="all",
            ),
        },
    log:
        "results/logs/{dataset}/draw_costs.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        summaries=lambda wildcards, input: [
            f"{variant}={file}" for variant, file in zip(VARIANTS, input.summaries)
        ],
        shared=shared_parts,
    shell:
        command(
            "--footprint {input.footprint}",
            "--summaries {params.summaries}",
            "--shared {params.shared:q}",
            "--headline '{wildcards.dataset}: what a score costs'",
            "--output {output.png}",
        )


rule draw_scores:
    input:
        **DATA_INPUT,
        segmentation=lambda wildcards: seed_files(
            of_stage("evaluation/segmentation.csv"),
            wildcards,
        ),
        confusion=lambda wildcards: seed_files(of_stage("evaluation/confusion.csv"), wildcards),
        sizes=lambda wildcards: seed_files(
            of_stage("evaluation/sizes.csv"),
            wildcards,
            stage=stages_of(wildcards.variant),
        ),
    output:
        **drawn("classes", key="classes_"),
        **drawn("confusion", key="confusion_"),
        **drawn("sizes", key="sizes_"),
    log:
        "results/logs/{dataset}/{variant}/draw_scores.log",
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        sizes=lambda wildcards, input: sizes_argument(wildcards, input.sizes),
        last=lambda wildcards: stages_of(wildcards.variant)[-1],
        paper=paper_classes,
    shell:
        command(
            "--segmentation {input.segmentation}",
            "--confusion {input.confusion}",
            "--sizes {params.sizes}",
            "--headline '{wildcards.dataset}, {wildcards.variant}, stage {params.last}'",
            "--paper {params.paper:q}",
            "--output-classes {output.classes_png}",
            "--output-confusion {output.confusion_png}",
            "--output-sizes {output.sizes_png}",
            DATA,
        )


rule draw_sweep:
    input:
        of_stage("evaluation/threshold_sweep.csv"),
    output:
        **drawn("sweep_stage{stage}", "{seed}"),
    log:
        log_of_stage("draw_sweep.log"),
    threads: CONFIG.resources.small.threads
    resources:
        **cpu_job(CONFIG.resources.small),
    params:
        settings=pseudo_label_settings,
    shell:
        command(
            "--sweep {input}",
            "--headline '{wildcards.variant}, pseudo labels of stage {wildcards.stage}'",
            "--output {output.png}",
            SETTINGS,
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

"""What is made of the stages, for people: files of the targets, inputs of tables and pictures."""

from snakemake.logging import logger

from wsss.configuration.experiments import tables_not_made, variants_of
from wsss.datasets.voc import CLASSES as VOC_CLASSES


def reported(path, caption, category, **labels):
    """An output that the report shows, by its labels; these may hold wildcards."""
    return report(path, caption=f"report/{caption}.rst", category=category, labels=labels)


def score_table(name, table):
    """A table of a stage's evaluation for the report, where it is called `table`."""
    of_run = {"variant": "{variant}", "seed": "{seed}", "stage": "{stage}"}
    return reported(of_stage(f"evaluation/{name}.csv"), name, "Scores", table=table, **of_run)


def stage_files(pattern, wildcards):
    """A pattern for each stage of one variant and seed."""
    return expand(pattern, stage=stages_of(wildcards.variant), allow_missing=True)


def stage_cams(wildcards):
    """The first shard of the CAMs of each stage, if kept; those of stage 0 are the classifier's.

    None are made for the picture alone, where stage 0 learns from the labels of another tool.
    """
    if CONFIG.keep == "final":
        return []
    files = stage_files(of_stage("cams/shard0.h5"), wildcards)
    if imports_labels(wildcards.variant):
        return files[1:]
    first = of_classifier("cams/shard0.h5", classifier_of(CONFIG, wildcards.variant))
    return [first, *files[1:]]


def numbered(files, prefix="", first=0):
    """Arguments STAGE=FILE."""
    return [f"{prefix}{stage}={file}" for stage, file in enumerate(files, first)]


def cams_argument(wildcards, input):
    first = int(imports_labels(wildcards.variant))
    return " ".join(["--cams", *numbered(input.cams, first=first)]) if input.cams else ""


def predictions():
    """The last stage's label maps of each split that is to be predicted."""
    pattern = of_stage("predictions_crf/{split}/shard{shard}.h5")
    return [
        file
        for variant in VARIANTS
        for file in expand(
            pattern,
            dataset=DATASET,
            variant=variant,
            seed=SEEDS,
            stage=stages_of(variant)[-1],
            split=SPLITS,
            shard=SHARDS,
        )
    ]


def pictures():
    names = ["curves", "strip"]
    return expand(figure("{name}", SEEDS[0])["png"], dataset=DATASET, variant=VARIANTS, name=names)


def figure(name, seed=None, key=""):
    """The files of a figure of a variant, or of one of its seeds: KEYpng, KEYpdf and KEYcsv."""
    of_seed = "" if seed is None else f"_seed{seed}"
    stem = f"results/{{dataset}}/figures/{{variant}}{of_seed}_{name}"
    return {f"{key}{suffix}": f"{stem}.{suffix}" for suffix in ("png", "pdf", "csv")}


# The figure of all variants together.
COSTS = {suffix: f"results/{{dataset}}/figures/costs.{suffix}" for suffix in ("png", "pdf", "csv")}


def drawn(name, seed=None, key=""):
    """The same as the outputs of a rule, of which the report shows the PNG."""
    files = figure(name, seed, key)
    of_run = {"variant": "{variant}", "seed": seed or "all", "stage": "all"}
    caption, picture = f"figures/{name.partition('_')[0]}", name.replace("_", ", ")
    png = reported(files[f"{key}png"], caption, "Pictures", picture=picture, **of_run)
    return files | {f"{key}png": png}


def tables(_):
    """Input function: all tables that the configuration has, and what the run took."""
    say("tables", tables_not_made(CONFIG))
    pattern = "results/{dataset}/tables/{table}{suffix}"
    names = [*TABLES, "footprint"]
    return expand(pattern, dataset=DATASET, table=names, suffix=[".csv", ".md"])


def figures(_):
    """Input function: all figures. Those of single images are of the first seed."""
    if CONFIG.keep == "final":
        say("figures", ["no CAMs and no sweep of thresholds, since keep: final removes CAMs"])
    costs = expand([*COSTS.values()], dataset=DATASET)
    return costs + [file for variant in VARIANTS for file in figures_of(variant)]


def figures_of(variant):
    seed, staged = SEEDS[0], variant in variants_of(CONFIG).methods()
    names = [figure(name, seed) for name in ("curves", "strip", "results")]
    names += [figure(name) for name in ("classes", "confusion", "sizes")]
    names += [figure("stages"), figure("cams", seed)] if staged else []
    if VARIANTS[variant].network.affinity != "none":
        names.append(figure("affinity", seed))
    if staged and CONFIG.keep == "all":
        stages = stages_of(variant)[int(imports_labels(variant)) :]
        names += [figure(f"sweep_stage{stage}", seed) for stage in stages]
    patterns = [file for files in names for file in files.values()]
    return expand(patterns, dataset=DATASET, variant=variant)


def shared_parts(_):
    """The parts of the footprint that each variant needs beside its own."""
    parts = {}
    for name, own in VARIANTS.items():
        classifier = classifier_of(CONFIG, name)
        classifiers = {f"classifier/{made}" for made in (classifier, TRAINED[classifier])}
        parts[name] = [f"saliency/{own.saliency.source}", *sorted(classifiers)]
    return as_json(parts)


@cache
def said(line):
    logger.info(line)


def say(target, lines):
    """Lines on what a target leaves out, each once."""
    for line in lines:
        said(f"{target}: {line}")


def overlaps_of_table(wildcards):
    """Input function: the tables of overlaps of all runs in a table."""
    return [
        f"results/{wildcards.dataset}/{run.variant}/seed{seed}/stage{run.stage}/evaluation/overlaps.csv"
        for run in TABLES[wildcards.table].runs()
        for seed in SEEDS
    ]


def all_evaluations(_):
    """Input function: the scores of all stages, which are there when everything has run."""
    files = [of_stage(f"evaluation/{name}.csv") for name in ("pseudo_labels", "segmentation")]
    return [file for variant in VARIANTS for pattern in files for file in runs(pattern, variant)]


def maps_of_sweep(wildcards):
    """What pseudo labels are made of, in all shards."""
    return {name: all_shards(file) for name, file in maps_of_pseudo_labels(wildcards).items()}


def seed_files(pattern, wildcards, **more):
    """A pattern for each seed of a variant; in its last stage, if none is said."""
    last = stages_of(wildcards.variant)[-1]
    return expand(pattern, **({"stage": last} | more), seed=SEEDS, allow_missing=True)


def paper_curve(wildcards):
    """The paper's pseudo labels by stage, for the method itself on its data set."""
    rows = [PAPER.get(("figure6_pseudo_labels", f"stage{stage}")) for stage in range(5)]
    return as_json([row for row in rows if row] if wildcards.variant == "auxsegnet" else [])


def sizes_argument(wildcards, files):
    """Arguments STAGE=FILE; a stage has a file of each seed."""
    stages = stages_of_runs(wildcards.variant)
    return [f"{stage}={file}" for stage, file in zip(stages, files, strict=True)]


def paper_classes(wildcards):
    return as_json(PAPER.get(("final_classes", wildcards.variant), {}))


def affinity_settings(wildcards):
    config = VARIANTS[wildcards.variant]
    figures = CONFIG.figures.model_dump()
    return view_settings(config.refinement, config.stage.precision, figures=figures)


def masks():
    return [f"results/{DATASET}/masks/masks.csv"] if CONFIG.masks.export else []


def gallery_maps(_):
    """Input function: the maps of all runs that the gallery shows.

    None that `keep: final` removes: those of all stages would lie there at the same time, and a
    new page would have them made again.
    """
    return [
        file
        for variant in VARIANTS
        for stage in stages_of(variant)
        for pattern in maps_of_run(variant, stage)
        for file in expand(
            pattern, dataset=DATASET, variant=variant, seed=SEEDS, stage=stage, shard=SHARDS
        )
    ]


def maps_of_run(variant, stage):
    """Patterns of what is there to look at; every stage is scored on val."""
    splits = sorted({"val", *(SPLITS if stage == stages_of(variant)[-1] else [])})
    own = VARIANTS[variant]
    patterns = [
        f"results/{{dataset}}/saliency/{own.saliency.source}/shard{{shard}}.h5",
        of_stage("pseudo_labels/shard{shard}.h5"),
        *(of_stage(f"predictions_crf/{split}/shard{{shard}}.h5") for split in splits),
    ]
    if CONFIG.keep == "final":
        return patterns
    patterns += [of_stage(f"predictions/{split}/shard{{shard}}.h5") for split in splits]
    if stage > 0:
        patterns += [of_stage("cams/shard{shard}.h5"), of_stage("saliency/shard{shard}.h5")]
    elif not imports_labels(variant):
        patterns += [of_classifier("cams/shard{shard}.h5", classifier_of(CONFIG, variant))]
    return patterns


def gallery_settings(_):
    """Section `gallery`, and what there is to look at."""
    variants = {
        name: {
            "stages": own.stages,
            "source": own.saliency.source,
            "classifier": None if imports_labels(name) else classifier_of(CONFIG, name),
            "ignore_prediction": own.evaluation.ignore_prediction,
        }
        for name, own in VARIANTS.items()
    }
    return as_json(
        CONFIG.gallery.model_dump()
        | {"variants": variants, "seeds": SEEDS, "splits": SPLITS, "shards": CONFIG.shards}
        | {"intermediate": CONFIG.keep == "all"}
    )


def voc_submissions(_):
    """Input function: archives for VOC's server of the last stage of all variants and seeds."""
    refuse_voc_submission()
    return [
        f"results/{DATASET}/submission/{variant}_seed{seed}_stage{stages_of(variant)[-1]}.tar.gz"
        for variant in VARIANTS
        for seed in SEEDS
    ]


def submitted_labels(_):
    """Input function: label maps of the test images, whatever `prediction.splits` says."""
    refuse_voc_submission()
    return all_shards(of_stage("predictions_crf/test/shard{shard}.h5"))


def refuse_voc_submission():
    """End with one line where VOC's server could not take what would be made."""
    dataset = CONFIG.dataset
    if dataset.format != "voc":
        problem = f"dataset.format is {dataset.format}, but VOC's server scores VOC only"
    elif (dataset.classes or VOC_CLASSES) != VOC_CLASSES:
        problem = "dataset.classes must be VOC's 20 in their order for VOC's server; set null"
    elif dataset.voc.test_list is None:
        problem = (
            "dataset.voc.test_list is null; name the list of the 1,456 test images, such as"
            " ImageSets/Segmentation/test.txt of VOC's test archive"
        )
    else:
        return
    sys.exit(f"error: voc_submission: {problem}")


def everything_of_stage(stage):
    """Input function: scores of a stage for all variants that have it, and all seeds."""

    def tables(_):
        having = [variant for variant in VARIANTS if stage in stages_of(variant)]
        if not having:
            sys.exit(
                f"error: stage{stage} is not configured: stages is {CONFIG.stages}; "
                f"set stages: {stage + 1} for stages 0..{stage}"
            )
        return expand(
            of_stage("evaluation/{table}.csv"),
            dataset=DATASET,
            variant=having,
            seed=SEEDS,
            stage=stage,
            table=["pseudo_labels", "segmentation"],
        )

    return tables

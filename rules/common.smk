"""The resolved configuration, and the small functions that the rules are written with."""

import json
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.logging import logger

from workflow_scripts.jobs.import_closure import code_digest
from wsss.configuration.experiments import (
    paper_numbers,
    result_tables,
    tables_not_made,
    variants_of,
)
from wsss.configuration.paths import expanded_path, fetching, weights_path
from wsss.configuration.resolve import (
    classifier_config,
    classifier_of,
    picked_sources,
    plain,
    resolve,
    trained_as,
    variant_config,
)
from wsss.configuration.sections import source_key
from wsss.configuration.yaml_files import read_yaml
from wsss.datasets.corrected_masks import digest_of_masks
from wsss.datasets.formats import digest_of_listed, listed_files, without_test_images
from wsss.datasets.voc import CLASSES as VOC_CLASSES
from wsss.errors import InputError
from wsss.method.saliency import source_files
from wsss.storage.files import sha256_of

# `python` in a job is the one that runs Snakemake, whether or not its environment is active. A
# prefix replaces Snakemake's own, and without pipefail a failing job would pass for a good one.
# The folder of the run may be another than that of the code, and its Python files are not for jobs.
# Slurm tells every process of a job when its time is over or its node is taken back. The shell
# waits for the command, which may want the rest of its time to save what it has; and then for
# the end that Slurm has announced: who leaves before it has failed, and is not put back into the
# queue after a preemption.
BIN, CODE = Path(sys.executable).parent, Path(workflow.basedir)
UNTIL_THE_END = "[ $? = 0 ] || [[ ! -v SLURM_JOB_ID ]] || sleep 3600"
shell.prefix(
    f"set -euo pipefail; trap {shlex.quote(UNTIL_THE_END)} TERM; trap : USR1; "
    f"export PATH={shlex.quote(str(BIN))}:$PATH PYTHONSAFEPATH=1; "
    f"export PYTHONPATH={shlex.quote(str(CODE))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "
)

try:
    for file in workflow.configfiles:
        read_yaml(file)  # Snakemake itself takes the last of two equal keys
    CONFIG = resolve(config)
    VARIANTS = {name: variant_config(CONFIG, name) for name in CONFIG.variants}
    CLASSIFIERS = {name: classifier_config(CONFIG, name) for name in CONFIG.classifiers}
    TRAINED = {name: trained_as(CONFIG, name) for name in CLASSIFIERS}
    # Parameters keep $NAME and ~, so that what has moved reruns nothing; files are asked for.
    DATASET = CONFIG.dataset.name
    ROOT = expanded_path(CONFIG.dataset.root or f"results/{DATASET}/data", "dataset.root")
    WEIGHTS = {
        name: weights_path(own.backbone.weights, "backbone.weights")
        for name, own in CLASSIFIERS.items()
    }
except InputError as error:
    sys.exit(f"error: configuration: {error}")  # a WorkflowError would come with a traceback

SOURCES = picked_sources(CONFIG)
TABLES = result_tables(CONFIG)
PAPER = paper_numbers(CONFIG)
IMPORTED = [name for name, own in CLASSIFIERS.items() if own.cam.source == "files"]
EXTRACTED = [name for name in CLASSIFIERS if name not in IMPORTED]
SEEDS = CONFIG.seeds
SHARDS = range(CONFIG.shards)
SPLITS = CONFIG.prediction.splits


# What is learnt from and scored on knows nothing of images that are only predicted.
LEARNT = without_test_images(CONFIG.dataset)
TEST_IMAGES = "results/{dataset}/test_images.csv"

# The data set of a command.
DATA_INPUT = {
    "index": "results/{dataset}/index.csv",
    "classes": "results/{dataset}/classes.csv",
}


def one_of(names):
    """Constraint of a wildcard that stands for one of some names, if there are any."""
    return "|".join(names) or "(?!)"


def of_stage(file, stage="{stage}", folder="results"):
    return f"{folder}/{{dataset}}/{{variant}}/seed{{seed}}/stage{stage}/{file}"


def of_classifier(file, classifier="{classifier}", folder="results"):
    return f"{folder}/{{dataset}}/classifier/{classifier}/seed{{seed}}/{file}"


def log_of_stage(file):
    return of_stage(file, folder="results/logs")


def benchmark_of_stage(file):
    return of_stage(file, folder="results/benchmarks")


# Arguments of commands, to be put together by `command`.
DATA = "--data results/{wildcards.dataset} --root {resources.root:q}"
SETTINGS = "--settings {params.settings:q}"
SHARD = "--shard {wildcards.shard} --shards {params.shards}"
RUN = "--variant {wildcards.variant} --seed {wildcards.seed} --stage {wildcards.stage}"
SCORE_TABLES = (
    "--output {output.classes} --images {output.images} --sizes {output.sizes}"
    " --overlaps {output.overlaps} --confusion {output.confusion}"
)
IDS = "--ids {params.ids:q}" if CONFIG.figures.images else ""
HARDWARE = (
    "--device {resources.device} --gpus {resources.gpu} --threads {threads}"
    " --workers {resources.workers} --channels-last {resources.channels_last}"
)


def command(*arguments):
    """The shell command of a rule; what it says goes to the terminal and to its log.

    The log listens to the end: a command that has been told to stop must not break its pipe.
    """
    log = "(trap '' INT TERM USR1; exec tee {log:q})"
    return f"python -m {{params.module}} {' '.join(arguments)} 2>&1 | {log}"


def view_settings(section, precision, without=()):
    """A section as JSON for a job that runs a network on whole photographs."""
    more = {"long_side": CONFIG.images.long_side, "precision": precision}
    return as_json(section.model_dump(exclude=set(without)) | more)


def refinement_settings(wildcards):
    config = VARIANTS[wildcards.variant]
    return view_settings(config.refinement, config.stage.precision)


def prediction_settings(wildcards):
    config = VARIANTS[wildcards.variant]
    return view_settings(config.prediction, config.stage.precision, without=["crf", "splits"])


def test_images(wildcards):
    """Input function: the index of what is only predicted, where that is to be predicted."""
    return {"test_images": TEST_IMAGES} if wildcards.split == "test" else {}


def dataset_settings(section):
    """Section `dataset` without its name, its folder and the other formats; as a function, too."""
    return lambda _: as_json(section.model_dump(include={"format", "classes", section.format}))


@cache
def digest_of_weights(file, key):
    """Weights count by content, not by path: the clone that they lie in may move."""
    if not Path(file).is_file():
        sys.exit(f"error: {key}: {file} does not exist: {fetching(file)}, or correct the path")
    return sha256_of(file)


def digest_of_start(wildcards):
    """That of the weights which the training of a classifier starts from."""
    own = CONFIG.classifiers[wildcards.classifier]
    above = f"classifiers.{wildcards.classifier}." if "backbone" in own else ""
    return digest_of_weights(WEIGHTS[wildcards.classifier], f"{above}backbone.weights")


def source_settings(wildcards):
    """The settings of a source of saliency, those of its kind alone."""
    return as_json(SOURCES[wildcards.source].model_dump(exclude_none=True))


def digests_of_source(wildcards):
    """Those of the files that a source of saliency depends on."""
    name, source = wildcards.source, SOURCES[wildcards.source]
    key = f"{source_key(name, source.kind)}.weights"
    return [digest_of_weights(file, key) for file in source_files(name, source)]


def digests_of_lists(section):
    """Label and list files count by content, not by path: their folder may move."""
    return [digest_of_listed(section, file) for file in listed_files(section)]


@cache
def digest_of_corrected(variant):
    """Corrected masks count by content: people go on correcting."""
    path = VARIANTS[variant].pseudo_labels.corrected
    try:
        return digest_of_masks(path) if path else None
    except InputError as error:
        sys.exit(f"error: configuration: {error}")


def pseudo_label_settings(wildcards):
    """Section `pseudo_labels`, as far as it counts at a stage.

    Stage 0 has no updated saliency, and nothing else counts where its labels are files.
    """
    section = VARIANTS[wildcards.variant].pseudo_labels
    if wildcards.stage != "0":
        return as_json(section.model_dump(exclude={"initial", "files"}))
    section = section.model_copy(update={"background": "off_the_shelf"})
    if imports_labels(wildcards.variant):
        return as_json(section.model_dump(include={"initial", "files", "background", "corrected"}))
    return as_json(section.model_dump(exclude={"initial", "files", "saliency_crf"}))


def imports_labels(variant):
    """Whether the segmentation labels of stage 0 are another tool's, and need no CAMs."""
    return VARIANTS[variant].pseudo_labels.initial == "files"


def classifier_settings(wildcards):
    """What trains a classifier, whatever picks it; of the network only the design counts."""
    own = CLASSIFIERS[wildcards.classifier]
    sections = own.model_dump(include={"backbone", "classifier", "images"})
    return as_json(sections | {"network": {"design": own.network.design}})


def cam_settings(wildcards):
    own = CLASSIFIERS[wildcards.classifier]
    return view_settings(own.cam, own.classifier.precision, without=["source", "files"])


def training_settings(wildcards):
    """What trains a stage; the learning rate of later stages does not count in stage 0."""
    config = VARIANTS[wildcards.variant]
    sections = config.model_dump(include={"backbone", "network", "stage", "images"})
    if wildcards.stage == "0":
        sections["stage"]["later_learning_rate"] = None
    return as_json(sections)


def as_json(value):
    """A parameter: a section, or a dict of values."""
    return json.dumps(value, sort_keys=True, default=plain)


def cpu_job(job):
    """Resources of a job without a GPU: the second try gets twice the memory and time, and so on.

    Resources never rerun a job. So the folder of the data set is one: it may move.
    """
    return {
        "root": str(ROOT),
        "mem_mb": growing(job.mem_mb, CONFIG.resources.most.mem_mb),
        "runtime": growing(job.runtime, CONFIG.resources.most.runtime),
    }


def growing(wanted, most):
    """A resource that grows with the attempt, at most to what any job may ask for."""
    most = max(wanted, most or float("inf"))
    return lambda wildcards, attempt: min(attempt * wanted, most)


def network_job(job):
    """Resources of a job that runs the network; how it runs is no parameter of the method."""
    return cpu_job(job) | {
        "gpu": 0 if CONFIG.device == "cpu" else job.gpu,
        "device": CONFIG.device,
        "workers": CONFIG.compute.workers,
        "channels_last": as_json(CONFIG.compute.channels_last),
    }


def reported(path, caption, category, **labels):
    """An output that the report shows, by its labels; these may hold wildcards."""
    return report(path, caption=f"report/{caption}.rst", category=category, labels=labels)


def score_table(name, table):
    """A table of a stage's evaluation for the report, where it is called `table`."""
    of_run = {"variant": "{variant}", "seed": "{seed}", "stage": "{stage}"}
    return reported(of_stage(f"evaluation/{name}.csv"), name, "Scores", table=table, **of_run)


def intermediate(path):
    """A map that `keep: final` removes once nothing needs it any more.

    A reader that runs later has it made again, and with it all its readers run. CAMs must not have
    one beside make_pseudo_labels, or a new picture would train every stage again.
    """
    return temp(path) if CONFIG.keep == "final" else path


def all_shards(pattern, **wildcards):
    """All shards of a pattern; its other wildcards stay, or are given."""
    return expand(pattern, shard=SHARDS, allow_missing=True, **wildcards)


def maps_of_pseudo_labels(wildcards):
    """CAMs, and from stage 1 on refined saliency: of the classifier, or of the stage before."""
    if wildcards.stage == "0" and imports_labels(wildcards.variant):
        return {}
    if wildcards.stage == "0":
        return {
            "cams": of_classifier("cams/shard{shard}.h5", classifier_of(CONFIG, wildcards.variant))
        }
    return {
        "cams": of_stage("cams/shard{shard}.h5"),
        "refined": of_stage("saliency/shard{shard}.h5"),
    }


def saliency_maps(wildcards):
    """Off-the-shelf saliency from the source that the variant picks."""
    source = VARIANTS[wildcards.variant].saliency.source
    return f"results/{{dataset}}/saliency/{source}/shard{{shard}}.h5"


def map_arguments(_, input):
    names = {"cams": "--cams", "refined": "--refined-saliency"}
    return " ".join(f"{names[key]} {input[key]}" for key in names if key in input.keys())


def trained(file, classifier):
    """A file of the training of a classifier, which several may share."""
    return of_classifier(file, TRAINED[classifier])


def model_before(wildcards):
    """The model that a stage starts from, and whose affinity refined its CAMs."""
    if wildcards.stage == "0":
        return trained("model.pt", classifier_of(CONFIG, wildcards.variant))
    return of_stage("train/model.pt", int(wildcards.stage) - 1)


def stages_of(variant):
    return range(VARIANTS[variant].stages)


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
    return [file for variant in VARIANTS for file in figures_of(variant)]


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
    more = {"figures": CONFIG.figures.model_dump()}
    views = config.refinement.model_dump()
    return as_json(
        views | more | {"long_side": CONFIG.images.long_side, "precision": config.stage.precision}
    )


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


def runs(pattern, variant):
    """A pattern of one variant for each of its stages and seeds."""
    return expand(pattern, dataset=DATASET, variant=variant, stage=stages_of(variant), seed=SEEDS)


def stages_of_runs(variant):
    """The stage of each of the `runs` of a variant."""
    return [stage for stage in stages_of(variant) for _ in SEEDS]


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

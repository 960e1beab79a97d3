"""The resolved configuration, and the small functions that the rules are written with."""

import json
import shlex
import sys
from functools import cache
from pathlib import Path

from workflow_scripts.jobs.import_closure import code_digest
from wsss.configuration.experiments import result_tables
from wsss.configuration.paper_numbers import paper_numbers
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
from wsss.configuration.data_sections import source_key
from wsss.configuration.yaml_files import read_yaml
from wsss.datasets.corrected_masks import digest_of_masks
from wsss.datasets.formats import digest_of_listed, listed_files, without_test_images
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


def view_settings(section, precision, without=(), **more):
    """A section as JSON for a job that runs a network on whole photographs."""
    more |= {"long_side": CONFIG.images.long_side, "precision": precision}
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

    Stage 0 has no updated saliency, and nothing else counts where its labels are files: what needs
    a value has the same one for all.
    """
    section = VARIANTS[wildcards.variant].pseudo_labels
    if wildcards.stage != "0":
        return as_json(section.model_dump(exclude={"initial", "files"}))
    section = section.model_copy(update={"background": "off_the_shelf"})
    if imports_labels(wildcards.variant):
        section = section.model_copy(update={"regions": "pixels"})
        counts = {"initial", "files", "background", "corrected", "regions"}
        return as_json(section.model_dump(include=counts))
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


def runs(pattern, variant):
    """A pattern of one variant for each of its stages and seeds."""
    return expand(pattern, dataset=DATASET, variant=variant, stage=stages_of(variant), seed=SEEDS)


def stages_of_runs(variant):
    """The stage of each of the `runs` of a variant."""
    return [stage for stage in stages_of(variant) for _ in SEEDS]

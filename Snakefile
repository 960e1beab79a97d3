"""AuxSegNet as a workflow: from photographs with image-level labels to segmentation, by stages.

The configuration is config.yaml, and overlays given by --configfile. rules/common.smk has what the
rules are written with, rules/products.smk what is made for people. What depends on what:
rules/data.smk -> rules/classifier.smk -> rules/stages.smk -> rules/evaluation.smk, rules/pictures.smk,
rules/tables.smk, rules/submission.smk.
"""

from os.path import relpath
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")


# Before Snakemake reads it, which answers values that YAML cannot make with a traceback.
include: "rules/config_file.smk"


configfile: "config.yaml" if Path("config.yaml").is_file() else f"{workflow.basedir}/config.yaml"


# For `--software-deployment-method apptainer`; without it jobs use the Python of Snakemake, and the
# clone may lie in a folder whose name has a blank, which Snakemake takes in no path of an image.
IMAGE = relpath(f"{workflow.basedir}/containers/auxsegnet.sif")
if " " not in IMAGE:

    container: IMAGE


include: "rules/common.smk"
include: "rules/products.smk"


report: "rules/report/workflow.rst"


wildcard_constraints:
    dataset=DATASET,
    variant=one_of(VARIANTS),
    source=one_of(SOURCES),
    classifier=one_of(CLASSIFIERS),
    seed=r"\d+",
    stage="[0-4]",
    split="train|val|test",
    shard=r"\d+",


# Those that run nothing, and the one that reads a few short tables: the rest is for nodes.
localrules:
    all,
    stage0,
    stage1,
    stage2,
    stage3,
    stage4,
    tables,
    figures,
    summarise,
    measure_footprint,


include: "rules/data.smk"
include: "rules/classifier.smk"
include: "rules/stages.smk"
include: "rules/evaluation.smk"
include: "rules/pictures.smk"
include: "rules/tables.smk"
include: "rules/submission.smk"


rule all:
    default_target: True
    input:
        expand("results/{dataset}/{variant}/summary.csv", dataset=DATASET, variant=VARIANTS),
        predictions(),
        pictures(),
        masks(),
        expand("results/{dataset}/gallery/index.html", dataset=DATASET),


rule stage0:
    input:
        everything_of_stage(0),


rule stage1:
    input:
        everything_of_stage(1),


rule stage2:
    input:
        everything_of_stage(2),


rule stage3:
    input:
        everything_of_stage(3),


rule stage4:
    input:
        everything_of_stage(4),


rule tables:
    input:
        tables,


rule figures:
    input:
        figures,


rule voc_submission:
    input:
        voc_submissions,


# What a command makes follows from its code, too. A digest of all that it imports, and not the
# files themselves: the clone may move, and a file that is written again unchanged is no change.
for each in workflow.rules:
    if each.shellcmd:
        command_module = f"workflow_scripts.{each.name}"
        each.set_params(module=command_module, code=code_digest(command_module))

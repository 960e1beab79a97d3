"""The workflow through Snakemake's command line: plans, real runs of a tiny demo, and accidents."""

import csv
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import psutil
import pytest
import torch
from expected_jobs import (
    ALL_LABELS,
    CLASSIFIER,
    DATA,
    DEMO,
    END,
    END_OF_STAGES,
    FROM_STAGE_0,
    FROM_STAGE_1,
    RUN,
    stage_jobs,
)
from PIL import Image, ImageDraw
from repository import ROOT
from tiny_run import TINY_RUN
from workspace import Workspace, jobs_of

from workflow_scripts import compare_runs
from wsss.storage.artifacts import ArtifactReader


def files(pattern, **values):
    """All combinations: files("{a}{b}", a="xy", b="12") -> x1, x2, y1, y2."""
    names = [pattern]
    for key, options in values.items():
        names = [name.replace(f"{{{key}}}", str(option)) for name in names for option in options]
    return names


# --- what would be done, from nothing


@pytest.fixture(scope="module")
def fresh(fresh_workspace):
    return fresh_workspace


def test_everything(fresh):
    """In a process of its own: what other tests plan in a fork is what a user gets."""
    process = subprocess.run(
        fresh.command("-n"), cwd=fresh.folder, env=fresh.env(), capture_output=True, text=True
    )
    jobs = jobs_of(process.stdout + process.stderr)
    assert Counter(job.rule for job in jobs) == {**CLASSIFIER, **stage_jobs(3, scored=3), **END}
    assert set(jobs) == set(fresh.plan())


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_one_stage_is_what_it_needs_and_its_scores(fresh, stage):
    expected = {**CLASSIFIER, **stage_jobs(stage + 1), f"stage{stage}": 1}
    assert fresh.counts("--", f"stage{stage}") == expected


def test_a_single_file(fresh):
    needed = {**CLASSIFIER, "make_pseudo_labels": 2, "train_stage": 1, "refine_cams": 1}
    assert fresh.counts("--", f"{RUN}/stage1/pseudo_labels/shard0.h5") == needed
    assert fresh.counts("--", f"{DEMO}/saliency/u2netp/shard0.h5") == DATA


def test_a_stage_beyond_the_last(fresh):
    status, said = fresh.snakemake("-n", "--", "stage4")
    assert status != 0 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "stages is 3" in line and "stages: 5" in line
    assert "stage4" in fresh.counts("--", "stage4", overlays=[{"stages": 5}])


# Of one variant with several stages, beside the trainings and their scores.
OF_TABLES = {"make_table": 3, "measure_footprint": 1, "tables": 1}
OF_FIGURES = {
    **{f"draw_{name}": 1 for name in ("curves", "strip", "results", "cams", "affinity")},
    **{f"draw_{name}": 1 for name in ("stages", "scores", "costs")},
    **{"summarise": 1, "figures": 1},
}


def test_tables_and_figures(fresh):
    """What cannot be made is left out, and a line says why."""
    trained = {**CLASSIFIER, **stage_jobs(3, scored=3)}
    sweeps = {"sweep_thresholds": 3, "draw_sweep": 3}
    jobs = fresh.counts("--", "tables", "figures")
    assert jobs == {**trained, **OF_TABLES, **OF_FIGURES, **sweeps}
    status, said = fresh.snakemake("-n", "--", "tables", "figures", overlays=[{"keep": "final"}])
    assert status == 0 and "sweep" not in "".join(re.findall(r"rule (\w+):", said))
    (of_figures, *of_tables) = sorted(re.findall(r"^(?:tables|figures): .*", said, re.M))
    assert "keep: final" in of_figures
    assert [line.split(":")[1].strip() for line in of_tables] == [
        *("supplement_table3_classes", "table3_tasks", "table4_affinity", "table6_saliency")
    ]


def test_tables_of_the_overlays(fresh):
    """Seven tables, of which Table 6 has a row for each source."""
    names = ("ablations", "saliency-sources")
    overlays = [*(ROOT / f"config/{name}.yaml" for name in names), SMALL]
    plan = fresh.plan("--", "tables", overlays=overlays)
    made = {file for job in plan if job.rule == "make_table" for file in job.outputs}
    tables = [*TABLES[:-1], "table3_tasks", "table4_affinity", "table6_saliency"]
    tables.append("supplement_table3_classes")
    assert made == set(files(f"{DEMO}/tables/{{name}}.{{kind}}", name=tables, kind=["csv", "md"]))
    (classes,) = (job for job in plan if "supplement_table3_classes.csv" in " ".join(job.outputs))
    overlaps = {
        f"{DEMO}/{run}/evaluation/overlaps.csv"
        for run in (
            "baseline/seed0/stage0",
            "multi_task/seed0/stage0",
            "auxsegnet/seed0/stage0",
            "auxsegnet/seed0/stage2",
        )
    }
    assert {file for file in classes.inputs if file.endswith("overlaps.csv")} == overlaps


def test_two_seeds(fresh):
    jobs = fresh.counts(overlays=[{"seeds": [0, 7]}])
    doubled = {"train_classifier": 2, "extract_cams": 2}
    stages = {rule: 2 * count for rule, count in stage_jobs(3, scored=3).items()}
    assert jobs == {**DATA, **doubled, **stages, **END}
    summary = f"{DEMO}/auxsegnet/summary.csv"
    _, said = fresh.snakemake("-n", "-p", "--", summary, overlays=[{"seeds": [0, 7]}])
    assert "--stages 0 0 1 1 2 2 --pseudo-labels" in said  # a stage a table


def test_variants_share_saliency_classifier_and_cams(fresh):
    variants = {"auxsegnet": {}, "short": {"stages": 1, "network": {"affinity": "none"}}}
    plan = fresh.plan(overlays=[{"variants": variants}])
    rules = [job.rule for job in plan]
    assert all(rules.count(rule) == count for rule, count in CLASSIFIER.items())
    assert rules.count("train_stage") == 3 + 1 and rules.count("summarise") == 2
    starts = [
        job.inputs for job in plan if job.rule == "train_stage" and "stage0" in job.outputs[0]
    ]
    assert all(f"{DEMO}/classifier/default/seed0/model.pt" in inputs for inputs in starts)


def test_voc(fresh, tmp_path):
    """Five stages in eight shards. The backbone's weights are the user's to get."""
    environment = {"VOC_ROOT": str(tmp_path), "VOC_SALIENCY": str(tmp_path)}
    overlay = ROOT / "config/voc2012.yaml"
    status, said = fresh.snakemake("-n", overlays=[overlay], **environment)
    assert status != 0 and "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params" in said
    weights = {"backbone": {"weights": "weights/efficientnet-lite0.pth"}}
    jobs = fresh.counts(overlays=[overlay, weights], **environment)
    per_shard = {"predict_saliency": 8, "extract_cams": 8, "refine_cams": 4 * 8}
    per_shard |= {rule: 5 * 8 for rule in ("make_pseudo_labels", "segment", "segment_crf")}
    assert jobs == {**CLASSIFIER, **stage_jobs(5, scored=5), **per_shard, **END}


def test_voc_animals(fresh, tmp_path):
    overlay = ROOT / "config/voc2012-animals.yaml"
    jobs = fresh.counts(overlays=[overlay], VOC_ROOT=str(tmp_path))
    assert jobs == {**CLASSIFIER, **stage_jobs(3, scored=3), **END}


def test_ablations_are_seven_networks_after_stage_0(fresh):
    """On any data set; the method itself is not trained twice, whatever is asked for."""
    overlay = ROOT / "config/ablations.yaml"
    seven = {rule: 7 * count for rule, count in stage_jobs(1).items()}
    assert fresh.counts("--", "stage0", overlays=[overlay]) == {**CLASSIFIER, **seven, "stage0": 1}
    plan = fresh.plan("--", "all", overlays=[overlay])
    assert [job.rule for job in plan].count("train_stage") == 6 + 3  # auxsegnet has all stages


# Weights that are large, under the name of small ones: a plan needs no more of them.
SMALL = {"saliency": {"u2net": {"weights": "weights/u2netp.onnx"}}}


def per_variant(*stages):
    """Jobs per rule of variants with so many stages each."""
    jobs = Counter()
    for number in stages:
        jobs += Counter(stage_jobs(number, scored=number))
    return {**jobs, **{rule: len(stages) for rule in END}, "make_gallery": 1, "all": 1}


def test_saliency_sources_are_a_baseline_and_the_method_for_each_of_three(fresh):
    overlays = [ROOT / "config/saliency-sources.yaml", SMALL]
    jobs = fresh.counts(overlays=overlays)
    assert jobs == {**CLASSIFIER, **per_variant(1, 3, 1, 3, 1, 3), "predict_saliency": 3}
    missing, said = fresh.snakemake("-n", overlays=overlays[:1])
    assert missing and "error: saliency.u2net.weights: " in said
    assert "make setup WEIGHTS=u2net.onnx" in said


def test_overlays_of_experiments_share_what_is_equal(fresh):
    """Seven networks of the ablations, two of them those of the data set's own source."""
    names = ("ablations", "saliency-sources")
    jobs = fresh.counts(overlays=[*(ROOT / f"config/{name}.yaml" for name in names), SMALL])
    stages = [1] * 6 + [3] + [1, 3] * 2
    assert jobs == {**CLASSIFIER, **per_variant(*stages), "predict_saliency": 3}


def test_labels_of_others_are_trained_and_scored_as_ones_own(fresh, tmp_path):
    """Their CAMs come without a training of a classifier of their own."""
    overlays = [ROOT / "config/compare-labels.yaml"]
    folders = {"THEIR_CAMS": str(tmp_path), "THEIR_LABELS": str(tmp_path)}
    shared = {**CLASSIFIER, "import_cams": 1}
    three = {rule: 3 * count for rule, count in stage_jobs(1).items()}
    jobs = fresh.counts("--", "stage0", overlays=overlays, **folders)
    assert jobs == {**shared, **three, "stage0": 1}
    assert fresh.counts(overlays=overlays, **folders) == {**shared, **per_variant(3, 3, 3)}


NAMED = {
    "saliency": {"sources": {"wide_prior": {"centre_prior": {"spread": 0.3}}}},
    "classifiers": {
        "views": {"cam": {"scales": [1.0, 2.0]}},
        "long": {"classifier": {"epochs": 5}},
        "nobodys": {"classifier": {"epochs": 7}},
    },
    "variants": {
        "auxsegnet": {},
        "weak": {"saliency": "wide_prior", "stages": 1},
        "weak_too": {"saliency": "wide_prior", "classifier": "long", "stages": 1},
        "views": {"classifier": "views", "stages": 1},
    },
}


def test_what_variants_pick_is_made_once_and_nothing_else(fresh):
    plan = fresh.plan(overlays=[NAMED])
    made = {rule: {o for j in plan if j.rule == rule for o in j.outputs} for rule in CLASSIFIER}
    assert made["predict_saliency"] == set(
        files(f"{DEMO}/saliency/{{name}}/shard0.h5", name=["u2netp", "wide_prior"])
    )
    assert made["train_classifier"] == set(
        files(
            f"{DEMO}/classifier/{{c}}/seed0/{{f}}", c=["default", "long"], f=["model.pt", "log.csv"]
        )
    )
    assert made["extract_cams"] == set(
        files(f"{DEMO}/classifier/{{c}}/seed0/cams/shard0.h5", c=["default", "views", "long"])
    )
    rules = Counter(job.rule for job in plan)
    assert [rules[rule] for rule in CLASSIFIER] == [1, 2, 2, 3]
    inputs = {job.outputs[0]: set(job.inputs) for job in plan if job.outputs}
    labels = inputs[f"{DEMO}/weak_too/seed0/stage0/pseudo_labels/shard0.h5"]
    assert f"{DEMO}/saliency/wide_prior/shard0.h5" in labels
    assert f"{DEMO}/classifier/long/seed0/cams/shard0.h5" in labels
    start = inputs[f"{DEMO}/views/seed0/stage0/train/model.pt"]
    assert f"{DEMO}/classifier/default/seed0/model.pt" in start


def test_full_supervision_needs_no_cams(fresh, tmp_path):
    target = f"{DEMO}/full_supervision/seed0/stage0/evaluation/segmentation.csv"
    overlay = ROOT / "config/full-supervision.yaml"
    jobs = fresh.counts("--", target, overlays=[overlay], MASKS=str(tmp_path))
    assert "extract_cams" not in jobs
    assert jobs["train_stage"] == jobs["make_pseudo_labels"] == jobs["evaluate_segmentation"] == 1


def test_photographs_of_ones_own(fresh, tmp_path):
    """The last stage segments all splits, for the masks; the others only what is scored."""
    jobs = fresh.counts(overlays=[ROOT / "config/folder.yaml"], PHOTOS=str(tmp_path))
    predictions = {"segment": 3 + 2, "segment_crf": 3 + 2}
    predictions |= {"index_test_images": 1, "export_masks": 1}
    assert jobs == {**CLASSIFIER, **stage_jobs(3, scored=3), **predictions, **END}


def test_braces_in_texts_are_no_wildcards(fresh, tmp_path):
    """Names of classes and modules, and folders, come to the command as they are written."""
    root = tmp_path / "{photos}"
    data = {"name": "braces", "format": "folder", "root": str(root), "classes": ["{a}", "b{c"]}
    maps = {"source": "maps", "maps": {"folder": str(root), "pattern": "{image_id}.png"}}
    overlay = {
        "dataset": data | {"folder": {"labels": "{l}.csv", "masks": "{m}"}},
        "saliency": maps,
        "classifier": {"frozen": ["{stem}"]},
        "stage": {"frozen": ["{stem}"]},
    }
    status, said = fresh.snakemake("-n", "-p", overlays=[overlay])
    assert status == 0, said
    for text in (
        '"{a}"',
        '"b{c"',
        '"{l}.csv"',
        '"{m}"',
        '"frozen": ["{stem}"]',
        f"--root '{root}'",
    ):
        assert text in said, text


def test_keep_final_removes_maps_only(fresh):
    _, said = fresh.snakemake("-n", overlays=[{"keep": "final"}])
    removed = set(re.findall(r"Would remove temporary output (\S+)", said))
    assert removed == {
        f"{DEMO}/classifier/default/seed0/cams/shard0.h5",
        *files(f"{RUN}/stage{{s}}/{{kind}}/shard0.h5", s=[1, 2], kind=["cams", "saliency"]),
        *files(f"{RUN}/stage{{s}}/predictions/val/shard0.h5", s=[0, 1, 2]),
    }
    _, said = fresh.snakemake("-n", overlays=[{"keep": "all"}])
    assert "Would remove" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage: {learning_rte: 0.1}", "stage.learning_rte: unknown key (did you mean"),
        ("stages: 2\nstages: 3", "line 2: the key 'stages' stands twice"),
        ("dataset: {format: voc, root: $VOC_ROOT}", "VOC_ROOT is not set"),
    ],
)
def test_a_wrong_configuration_is_one_line(fresh, tmp_path, text, message):
    (tmp_path / "wrong.yaml").write_text(text)
    status, said = fresh.snakemake("-n", overlays=[tmp_path / "wrong.yaml"])
    assert status != 0
    lines = [line for line in said.splitlines() if "is extended by additional config" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: configuration: ")
    assert message in lines[0]


def test_a_value_that_yaml_cannot_make_in_config_yaml_is_one_line(fresh, tmp_path):
    """Snakemake shows a traceback for it; the Snakefile looks at the file before."""
    workspace = fresh.copy(tmp_path / "copy")
    config = workspace.folder / "config.yaml"
    config.write_text(config.read_text() + "seeds: !!int abc\n")
    status, said = workspace.snakemake("-n")
    assert status != 0 and "Traceback" not in said
    assert re.fullmatch(r"error: configuration: config.yaml, line \d+: 'abc' cannot .*\n", said)


# --- after a real run


@pytest.fixture(scope="module")
def finished(finished_workspace):
    return finished_workspace


SCORE_TABLES = [
    "pseudo_labels",
    "segmentation",
    "uncertainty",
    *files(
        "{of}{kind}", of=["pseudo_label_", ""], kind=["images", "sizes", "overlaps", "confusion"]
    ),
    "threshold_sweep",
]
FIGURES = [
    *files(
        "auxsegnet_seed0_{name}",
        name=["curves", "strip", "results", "cams", "affinity", "sweep_stage0", "sweep_stage1"],
    ),
    *files("auxsegnet_{name}", name=["stages", "classes", "confusion", "sizes"]),
    "costs",
]
TABLES = ["final", "final_classes", "table5_stages", "footprint"]
EXPECTED_FILES = [
    *files(f"{DEMO}/{{name}}", name=["index.csv", "classes.csv", "ground_truth.json", "root.txt"]),
    *files(f"{DEMO}/saliency/u2netp/shard{{k}}.h5", k=[0, 1]),
    *files(f"{DEMO}/classifier/default/seed0/{{name}}", name=["model.pt", "log.csv"]),
    *files(f"{DEMO}/classifier/default/seed0/cams/shard{{k}}.h5", k=[0, 1]),
    *files(f"{RUN}/stage1/{{kind}}/shard{{k}}.h5", kind=["cams", "saliency"], k=[0, 1]),
    *files(f"{RUN}/stage{{s}}/pseudo_labels/shard{{k}}.h5", s=[0, 1], k=[0, 1]),
    *files(f"{RUN}/stage{{s}}/train/{{name}}", s=[0, 1], name=["model.pt", "log.csv"]),
    *files(f"{RUN}/stage{{s}}/predictions/val/shard{{k}}.h5", s=[0, 1], k=[0, 1]),
    *files(f"{RUN}/stage{{s}}/predictions_crf/val/shard{{k}}.h5", s=[0, 1], k=[0, 1]),
    *files(f"{RUN}/stage{{s}}/evaluation/{{name}}.csv", s=[0, 1], name=SCORE_TABLES),
    f"{DEMO}/auxsegnet/summary.csv",
    *files(f"{DEMO}/figures/{{name}}.{{kind}}", name=FIGURES, kind=["png", "pdf", "csv"]),
    *files(f"{DEMO}/tables/{{name}}.{{kind}}", name=TABLES, kind=["csv", "md"]),
    *files(f"{DEMO}/gallery/{{name}}", name=["index.html", "style.css", "data.js"]),
    *files(f"{DEMO}/gallery/{{name}}.js", name=["layers", "view", "page", "controls"]),
    *files(f"{DEMO}/gallery/images/train_000{{n}}.{{suffix}}", n=range(8), suffix=["jpg", "js"]),
    *files(f"{DEMO}/gallery/images/val_000{{n}}.{{suffix}}", n=range(4), suffix=["jpg", "js"]),
]


def test_everything_lies_where_it_should_and_nothing_else(finished):
    found = (p for p in (finished.folder / DEMO).rglob("*") if p.is_file())
    names = {str(path.relative_to(finished.folder)) for path in found}
    assert {name for name in names if not name.startswith(f"{DEMO}/data/")} == set(EXPECTED_FILES)
    logs = [p.name for p in (finished.folder / "results/logs/demo").rglob("*.log")]
    assert "index_dataset.log" in logs and logs.count("train.log") == 1 + 2


@pytest.mark.parametrize(
    ("pattern", "kind", "images", "arrays"),
    [
        ("demo/saliency/u2netp/*.h5", "saliency", 8, "uint8"),
        ("demo/classifier/default/seed0/cams/*.h5", "cams", 8, "float16"),
        ("demo/auxsegnet/seed0/stage1/cams/*.h5", "cams", 8, "float16"),
        ("demo/auxsegnet/seed0/stage1/saliency/*.h5", "refined_saliency", 8, "float16"),
        ("demo/auxsegnet/seed0/stage1/pseudo_labels/*.h5", "pseudo_labels", 8, "uint8"),
        ("demo/auxsegnet/seed0/stage1/predictions/val/*.h5", "predictions", 4, "mixed"),
        ("demo/auxsegnet/seed0/stage1/predictions_crf/val/*.h5", "predictions_crf", 4, "uint8"),
    ],
)
def test_what_the_artifacts_hold(finished, pattern, kind, images, arrays):
    reader = ArtifactReader(sorted((finished.folder / "results").glob(pattern)), kind)
    assert len(reader.paths) == 2 and len(reader.ids) == images
    with open(finished.folder / DEMO / "index.csv", newline="") as file:
        sizes = {r["image_id"]: (int(r["height"]), int(r["width"])) for r in csv.DictReader(file)}
    for image_id in reader.ids:
        array = reader.read(image_id).array
        parts = array if isinstance(array, dict) else {"": array}
        if arrays != "mixed":
            assert {str(part.dtype) for part in parts.values()} == {arrays}
        for part in (p for p in parts.values() if p.dtype == np.uint8):
            assert part.shape == sizes[image_id]


def test_the_gallery_shows_what_was_kept(workspace):
    """All maps of a run; with `keep: final` those that stay, and the rest is not made again."""
    script = workspace.folder / DEMO / "gallery/data.js"

    def layers():
        data = json.loads(script.read_text().removeprefix("const data = ").removesuffix(";\n"))
        return [list(run["layers"]) for run in data["runs"]], len(data["images"])

    both = ["pseudo_label", "unrefined", "refined", "merged", "crf"]
    later = ["cam", "saliency", "refined_saliency", "saliency_target", *both]
    assert layers() == ([["cam", "saliency", *both], later], 8 + 4)
    final = {"keep": "final"}
    assert workspace.counts(overlays=[final]) == {"draw_strip": 1, "make_gallery": 1, "all": 1}
    workspace.make("all", overlays=[final])
    kept = ["saliency", "pseudo_label", "crf"]
    assert layers()[0] == [kept, ["saliency", "saliency_target", *kept[1:]]]


def test_columns_of_the_summary(finished):
    with open(finished.folder / DEMO / "auxsegnet/summary.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = "pseudo_precision pseudo_recall pseudo_miou"
    scores += " val_miou_unrefined val_miou_refined val_miou_crf"
    columns = ["stage", *(c + end for c in scores.split() for end in ("", "_std")), "runs"]
    assert list(rows[0]) == columns
    assert [row["stage"] for row in rows] == ["0", "1"]
    assert all(0 <= float(row[name]) <= 100 for row in rows for name in scores.split())
    assert all(row[f"{name}_std"] == "" for row in rows for name in scores.split())
    assert {row["runs"] for row in rows} == {"1"}


def test_runs_compare_as_they_were_scored(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.folder)  # the root of the demo is relative
    expected = {}
    for stage in (0, 1):
        with open(f"{RUN}/stage{stage}/evaluation/segmentation.csv", newline="") as file:
            means = (row for row in csv.DictReader(file) if row["class_id"] == "")
            expected |= {f"auxsegnet/stage{stage}/{m['prediction']}": m["iou"] for m in means}
    assert len(expected) == 8
    words = [DEMO, "--runs", *expected, "--seeds", "0", "--output", str(tmp_path / "table.csv")]
    compare_runs.main(words)
    with open(tmp_path / "table.csv", newline="") as file:
        assert {row["run"]: row["miou"] for row in csv.DictReader(file)} == expected


def test_tables_say_what_the_evaluation_says(finished):
    """Stages of Table 5, and classes of the final result, from the tables of scores."""

    def rows(path):
        with open(finished.folder / DEMO / path, newline="") as file:
            return list(csv.DictReader(file))

    scores = [rows(f"auxsegnet/seed0/stage{s}/evaluation/segmentation.csv") for s in (0, 1)]
    means = [
        {row["prediction"]: row["iou"] for row in of_stage if row["class_id"] == ""}
        for of_stage in scores
    ]
    stages, steps = rows("tables/table5_stages.csv")
    assert [stages["Stage0"], stages["Stage1"]] == [mean["refined"] for mean in means]
    assert stages["Stage1_runs"] == "1" and stages["Stage1_std"] == ""
    step = float(means[1]["refined"]) - float(means[0]["refined"])
    assert float(steps["Stage1"]) == pytest.approx(step, abs=0.011)
    expected = [row["iou"] for row in scores[1] if row["prediction"] == "crf"]
    assert [row["auxsegnet"] for row in rows("tables/final_classes.csv")] == expected
    (final,) = rows("tables/final.csv")
    assert (final["Final*"], final["Final"]) == (means[1]["refined"], means[1]["crf"])


def test_the_footprint_has_every_step_of_every_stage(finished):
    with open(finished.folder / DEMO / "tables/footprint.csv", newline="") as file:
        rows = {(row["part"], row["stage"], row["step"]): row for row in csv.DictReader(file)}
    steps = ["pseudo_labels", "train", "predictions", "predictions_crf"]
    steps += ["evaluate_pseudo_labels", "evaluate_segmentation"]
    shared = {("", "", "index_dataset"), ("saliency/u2netp", "", "saliency"), ("all", "", "")}
    shared |= {("classifier/default", "", step) for step in ("train", "cams")}
    of_stages = {("auxsegnet", str(stage), step) for stage in (0, 1) for step in steps}
    assert rows.keys() == shared | of_stages | {("auxsegnet", "1", "refine_cams")}
    seconds = {key: float(row["seconds"]) for key, row in rows.items()}
    total = seconds.pop(("all", "", ""))
    assert total == pytest.approx(sum(seconds.values()), abs=0.1)
    assert rows["auxsegnet", "0", "predictions"]["jobs"] == "2"
    assert rows["all", "", ""]["gpu_hours"] == "0.00"


def test_figures_can_be_looked_at(finished):
    for name in FIGURES:
        with Image.open(finished.folder / f"{DEMO}/figures/{name}.png") as image:
            colours = len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))
            assert image.width > 400 and image.height > 100 and colours > 20, name


def test_the_sweep_has_the_scores_of_the_run_among_its_own(finished):
    with open(finished.folder / RUN / "stage1/evaluation/threshold_sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["tuned_on"] for row in rows} == {"ground truth"}
    (own,) = (
        row for row in rows if (row["cam_threshold"], row["saliency_threshold"]) == ("0.2", "0.06")
    )
    with open(finished.folder / RUN / "stage1/evaluation/pseudo_labels.csv", newline="") as file:
        mean = next(row for row in csv.DictReader(file) if row["class_id"] == "")
    assert [own[s] for s in ("iou", "precision", "recall")] == [
        mean[s] for s in ("iou", "precision", "recall")
    ]


def test_the_learning_rate_is_reset_at_each_stage(finished):
    """Two steps each, from the configured rate down; stage 1 has one of its own."""
    firsts = [TINY_RUN["stage"][key] for key in ("learning_rate", "later_learning_rate")]
    for stage, first in enumerate(firsts):
        with open(finished.folder / RUN / f"stage{stage}/train/log.csv", newline="") as file:
            rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
        assert rates == pytest.approx([first, first * 0.5**0.9])


def test_up_to_date_says_so(finished):
    status, said = finished.snakemake("all")
    assert status == 0 and "Nothing to be done" in said


@pytest.mark.parametrize(
    "change",
    [
        {"device": "auto", "compute": {"workers": 3}, "resources": {"train": {"gpu": 2}}},
        {"compute": {"channels_last": True}},
        {"resources": {"train": {"threads": 7, "gpu": 0, "mem_mb": 123, "runtime": 9}}},
        {"dataset": {"folder": {"images": "elsewhere"}, "voc": {"val_list": "other.txt"}}},
        {"saliency": {"maps": {"folder": "/elsewhere"}, "centre_prior": {"spread": 0.3}}},
    ],
    ids=str,
)
def test_what_changes_no_result_reruns_nothing(finished, change):
    assert finished.counts(overlays=[change]) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"prediction": {"crf": {"iterations": 3}}},
            {"segment_crf": 4, "evaluate_segmentation": 2, **END_OF_STAGES},
        ),
        (
            {"pseudo_labels": {"saliency_crf": {"iterations": 2}}},
            {**FROM_STAGE_1, "make_pseudo_labels": 2, "evaluate_pseudo_labels": 1},
        ),
        ({"pseudo_labels": {"cam_threshold": 0.3}}, ALL_LABELS),
        ({"stage": {"later_learning_rate": 0.003}}, FROM_STAGE_1),
        ({"stage": {"learning_rate": 0.003}}, FROM_STAGE_0),
        (
            {"classifier": {"learning_rate": 0.003}},
            {**ALL_LABELS, "train_classifier": 1, "extract_cams": 2},
        ),
        ({"network": {"affinity": "segmentation"}}, FROM_STAGE_0),
        ({"variants": {"auxsegnet": {"network": {"design": "official"}}}}, FROM_STAGE_0),
        (
            {"network": {"design": "official"}},
            {**ALL_LABELS, "train_classifier": 1, "extract_cams": 2},
        ),
        ({"cam": {"flip": True}}, {**ALL_LABELS, "extract_cams": 2}),
        ({"variants": {"auxsegnet": {"classifier": "default", "saliency": "u2netp"}}}, {}),
        ({"classifiers": {"other": {"classifier": {"epochs": 3}}}}, {}),
        (
            {"variants": {"auxsegnet": {"saliency": "centre_prior"}}},
            {**ALL_LABELS, "predict_saliency": 2},
        ),
        ({"saliency": {"source": "centre_prior"}}, {**ALL_LABELS, "predict_saliency": 2}),
        (
            {
                "classifiers": {"views": {"cam": {"flip": True}}},
                "variants": {"auxsegnet": {"classifier": "views"}},
            },
            {**ALL_LABELS, "extract_cams": 2},
        ),
        (
            {"evaluation": {"ignore_prediction": "drop"}},
            {
                "evaluate_pseudo_labels": 2,
                "evaluate_segmentation": 2,
                "summarise": 1,
                "make_gallery": 1,
                "all": 1,
            },
        ),
        (
            {"stages": 3},
            {
                **FROM_STAGE_1,
                "refine_cams": 2,
                "make_pseudo_labels": 2,
                "evaluate_pseudo_labels": 1,
            },
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_changed_setting_reruns_what_it_touches(finished, change, expected):
    assert finished.counts(overlays=[change]) == expected


def test_keep_final_never_trains_again(workspace):
    """Maps that are gone are made again by the trained networks, and only the new is trained."""
    final = {"keep": "final"}
    status, said = workspace.snakemake("--delete-temp-output", overlays=[final])
    assert status == 0, said
    assert not any((workspace.folder / RUN).glob("stage*/cams/*.h5"))
    workspace.make("all", overlays=[final])
    assert not any((workspace.folder / RUN).glob("stage*/predictions/val/*.h5"))
    assert workspace.counts(overlays=[final]) == {}
    for change in (
        {"prediction": {"crf": {"iterations": 3}}},
        {"evaluation": {"ignore_prediction": "drop"}},
    ):
        rules = workspace.counts(overlays=[final, change])
        assert rules["evaluate_segmentation"] == 2
        assert not {"train_stage", "make_pseudo_labels", "refine_cams"} & set(rules)
    rules = workspace.counts(overlays=[final, {"stages": 3}])
    assert rules["train_stage"] == rules["make_pseudo_labels"] / 2 == 1


def test_predictions_of_all_configured_splits(finished):
    """Those of the last stage; `test` is never scored, and `train` only as pseudo labels."""
    jobs = finished.counts(overlays=[{"prediction": {"splits": ["val", "train", "test"]}}])
    pages = {"make_gallery": 1, "all": 1}
    assert jobs == {"index_test_images": 1, "segment": 4, "segment_crf": 4, **pages}


def test_forcing_one_file_or_one_rule(finished):
    scores = f"{RUN}/stage0/evaluation/segmentation.csv"
    assert finished.counts("-f", "--", scores) == {"evaluate_segmentation": 1}
    labels = f"{RUN}/stage0/predictions_crf/val/shard0.h5"
    tables = {"evaluate_segmentation": 1, "summarise": 1}
    follows = {"segment_crf": 1, **tables, "make_gallery": 1, "all": 1}
    assert finished.counts("-R", labels, "--", "all") == follows
    follows = {"segment_crf": 4, "evaluate_segmentation": 2, **END_OF_STAGES}
    assert finished.counts("-R", "segment_crf", "--", "all") == follows


@pytest.fixture
def workspace(finished, tmp_path):
    """A finished workspace that a test may change."""
    return finished.copy(tmp_path / "workspace")


def test_edits(workspace):
    for name in ("README.md", "config.yaml", "Snakefile", "rules/stages.smk"):
        with open(workspace.folder / name, "a") as file:
            file.write("\n# a comment\n")
    for name in ("wsss/method/crf.py", "wsss/training/loop.py", "rules/common.smk"):
        (workspace.folder / name).touch()
    assert workspace.counts() == {}
    with open(workspace.folder / "wsss/method/crf.py", "a") as file:
        file.write("\n# an edit that Snakemake must take for one\n")
    assert workspace.counts() == ALL_LABELS


def digest(path, kind):
    return ArtifactReader(path, kind).headers[path]["content_digest"]


def test_made_again_the_same(workspace):
    """Saliency, CAMs and a trained network: remade from the same, equal to the bit."""
    artifacts = {
        "saliency": workspace.folder / DEMO / "saliency/u2netp/shard0.h5",
        "cams": workspace.folder / DEMO / "classifier/default/seed0/cams/shard1.h5",
    }
    before = {kind: digest(path, kind) for kind, path in artifacts.items()}
    model = workspace.folder / RUN / "stage1/train/model.pt"
    weights = torch.load(model, weights_only=True)["model"]
    remake(workspace, model)  # by itself, while nothing before it has changed
    remake(workspace, *artifacts.values())
    assert {kind: digest(path, kind) for kind, path in artifacts.items()} == before
    again = torch.load(model, weights_only=True)["model"]
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def remake(workspace, *paths):
    """Force these files, and see that they were written."""
    written = {path: path.stat().st_mtime_ns for path in paths}
    targets = [str(path.relative_to(workspace.folder)) for path in paths]
    status, said = workspace.snakemake("-f", "--", *targets)
    assert status == 0, said[-5000:]
    assert all(path.stat().st_mtime_ns > before for path, before in written.items())


def killed(workspace, target, module):
    """Run Snakemake for a target and kill the command while it writes; returns the status."""
    path = workspace.folder / target
    with subprocess.Popen(
        workspace.command("-f", "--", target),
        cwd=workspace.folder,
        env=workspace.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        deadline = time.monotonic() + 120
        while not list(path.parent.glob(f".{path.stem}.*.partial{path.suffix}")):
            assert run.poll() is None and time.monotonic() < deadline, "the job never wrote"
            time.sleep(0.005)
        for process in psutil.Process(run.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # one that ended with another
                if module in process.cmdline() and "python" in process.name():
                    process.kill()
        return run.wait()


def test_a_killed_job_leaves_nothing_half_done(workspace):
    target = f"{DEMO}/saliency/u2netp/shard0.h5"
    before = digest(workspace.folder / target, "saliency")
    assert killed(workspace, target, "workflow_scripts.predict_saliency") != 0
    assert not (workspace.folder / target).exists()
    workspace.make(target)
    assert digest(workspace.folder / target, "saliency") == before


def test_a_missing_image_is_one_line_and_a_retry_gets_more(workspace):
    image = workspace.folder / DEMO / "data/images/train_0000.png"
    image.unlink()
    saliency = f"{DEMO}/saliency/u2netp/shard0.h5"
    most = {"resources": {"infer": {"runtime": 200}, "most": {"runtime": 300}}}
    status, said = workspace.snakemake("--retries", "1", "-f", "--", saliency, overlays=[most])
    assert status != 0 and "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and len(set(lines)) == 1
    assert image.name in lines[0]
    log = workspace.folder / "results/logs/demo/saliency/u2netp/shard0.log"
    assert lines[0] in log.read_text()
    memory = re.findall(r"\bmem_mb=(\d+)", said)
    assert [int(value) / int(memory[0]) for value in memory] == [1, 2]
    assert re.findall(r"\bruntime=(\d+)", said) == ["200", "300"]


# --- photographs without ground truth


PHOTOGRAPHS = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six photographs of balls and boxes; the last one has no labels."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    rows = ["image_id,labels"]
    for number in range(PHOTOGRAPHS):
        image = Image.fromarray(random.integers(90, 130, (64, 96, 3), np.uint8))
        box, is_ball = (20 + 3 * number, 10, 60 + 3 * number, 50), number % 2
        draw = ImageDraw.Draw(image)
        (draw.ellipse if is_ball else draw.rectangle)(
            box, (220, 40, 40) if is_ball else (30, 60, 220)
        )
        image.save(folder / f"images/photo {number}.jpg")
        rows.append(f"photo {number},{'ball' if is_ball else 'box'}")
    (folder / "labels.csv").write_text("\n".join(rows[:-1]))
    return folder


@pytest.fixture(scope="module")
def segmented(photos, tmp_path_factory):
    """A real run on them, one stage."""
    folder = tmp_path_factory.mktemp("own")
    overlay = folder / "tiny.yaml"
    overlay.write_text(json.dumps(TINY_RUN | {"stages": 1}))
    overlays = [ROOT / "config/folder.yaml", overlay]
    workspace = Workspace.create(folder, overlays, PHOTOS=str(photos))
    workspace.make()
    return workspace


def test_masks_of_all_photographs(segmented):
    masks = segmented.folder / "results/photos/masks"
    with open(masks / "masks.csv", newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert sorted(rows) == [f"photo {number}" for number in range(PHOTOGRAPHS)]
    for row in rows.values():
        with Image.open(masks / row["mask"]) as mask:
            assert mask.mode == "P" and mask.size == (96, 64)
            assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
        with Image.open(masks / row["overlay"]) as overlay:
            assert overlay.size == (96, 64)


def test_without_ground_truth_the_scores_are_empty(segmented):
    with open(segmented.folder / "results/photos/auxsegnet/summary.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("stage") == "0" and row.pop("runs") == "1"
    assert set(row.values()) == {""}


def test_a_moved_folder_reruns_nothing_but_a_changed_label_does(segmented, photos, tmp_path):
    assert segmented.counts() == {}
    moved = tmp_path / "moved house"
    shutil.copytree(photos, moved)
    assert segmented.counts(PHOTOS=str(moved)) == {}
    with open(moved / "labels.csv", "a") as file:
        file.write(f"\nphoto {PHOTOGRAPHS - 1},ball")
    jobs = segmented.counts(PHOTOS=str(moved))
    assert jobs["index_dataset"] == jobs["train_classifier"] == jobs["export_masks"] == 1


def test_jobs_read_the_folder_where_it_is_now(segmented, photos, tmp_path):
    moved = tmp_path / "moved house"
    shutil.copytree(photos, moved)
    workspace = segmented.copy(tmp_path / "workspace")
    target = "results/photos/masks/masks.csv"
    labels = workspace.folder / target
    before = labels.read_text()
    (moved / "images/photo 0.jpg").unlink()
    status, said = workspace.snakemake("-f", "--", target, PHOTOS=str(moved))
    assert status != 0 and f"error: image {moved}/images/photo 0.jpg does not exist" in said
    shutil.copy2(photos / "images/photo 0.jpg", moved / "images")
    status, said = workspace.snakemake("-f", "--", target, PHOTOS=str(moved))
    assert status == 0 and labels.read_text() == before

"""Tables of scores against scikit-learn and sums by hand, and how they look in their files."""

import csv
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import jaccard_score, precision_score, recall_score

from workflow_scripts import evaluate_pseudo_labels, evaluate_segmentation
from workflow_scripts import summarise as summarise_command
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.method.evaluation import (
    SUMMARY_COLUMNS,
    read_table,
    score_table,
    stage_scores,
    summarise,
    with_ground_truth,
    write_table,
)
from wsss.method.metrics import ConfusionMatrix
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog", "cow")


def random_pairs(images=3):
    rng = np.random.default_rng(0)
    for _ in range(images):
        truth = rng.integers(0, 4, (11, 13)).astype(np.uint8)
        guess = rng.integers(0, 4, truth.shape).astype(np.uint8)
        yield truth, np.where(rng.random(truth.shape) < 0.5, truth, guess).astype(np.uint8)


def scored(pairs, ignore_prediction="miss"):
    matrix = ConfusionMatrix(len(CLASSES), ignore_prediction)
    for truth, prediction in pairs:
        matrix.update(prediction, truth)
    return score_table(matrix, CLASSES)


def cells(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_score_equals_scikit_learn_in_percent():
    pairs = list(random_pairs())
    truth, prediction = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    table = scored(pairs)
    assert list(table["class"]) == ["background", *CLASSES, "mean"]
    assert list(table["class_id"][:-1]) == [0, 1, 2, 3]
    assert set(table["images"]) == {3} and set(table["ignore_prediction"]) == {"miss"}
    for name, function in (
        ("iou", jaccard_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        expected = 100 * function(truth, prediction, average=None)
        np.testing.assert_allclose(table[name][:-1], expected)
        assert table[name].iloc[-1] == pytest.approx(expected.mean())


def test_undefined_scores_are_empty_cells(tmp_path):
    truth = np.array([[0, 0, 0, 1]], np.uint8)
    prediction = np.array([[0, 0, 1, 1]], np.uint8)
    table = scored([(truth, prediction)], "drop")
    write_table(tmp_path / "scores.csv", table)
    rows = {row["class"]: row for row in cells(tmp_path / "scores.csv")}
    assert rows["background"]["iou"] == "66.67"
    assert rows["cat"]["precision"] == "50.00"
    assert [rows["cow"][name] for name in ("iou", "precision", "recall")] == ["", "", ""]
    assert rows["mean"]["iou"] == "58.33"
    assert rows["mean"]["class_id"] == ""
    assert rows["cat"]["class_id"] == "1"
    assert rows["cow"]["ignore_prediction"] == "drop"


def test_without_masks_the_cells_are_empty(tmp_path):
    write_table(tmp_path / "scores.csv", scored([]))
    for row in cells(tmp_path / "scores.csv"):
        assert (row["iou"], row["precision"], row["recall"], row["images"]) == ("", "", "", "0")


# --- the commands


MASKS = "VOCdevkit/VOC2012/SegmentationClass"
WHO = {"variant": "auxsegnet", "seed": 0, "stage": 1}


@pytest.fixture
def scored_run(tmp_path):
    """Three train and two val images, all labelled cat; only a, c and d have a mask, all cat."""
    label = np.ones((9, 9), np.uint8)
    records = []
    for image_id, split in zip("abcde", ("train",) * 3 + ("val",) * 2, strict=True):
        mask = f"{MASKS}/{image_id}.png" if image_id in "acd" else None
        if mask:
            write_palette_png(tmp_path / mask, label)
        records.append(ImageRecord(image_id, split, True, "x.jpg", mask, 9, 9, ("cat",)))
    index = DatasetIndex(tmp_path, ("cat",), (1,), tuple(records))
    write_dataset(index, tmp_path / "data")

    def artifact(kind, split, array, **attributes):
        ids = [record.image_id for record in index.split(split)]
        identity = WHO | {"dataset": "data", "index_digest": index.digest, "classes": ["cat"]}
        identity |= {"split": split}
        path = tmp_path / f"{kind}.h5"
        with ArtifactWriter(
            path, kind, identity=identity, parameters={}, sources={}, expected=ids
        ) as writer:
            for image_id in ids:
                writer.write(image_id, array, **attributes)
        return path

    artifact("pseudo_labels", "train", {"segmentation": label, "saliency": label})
    probabilities = np.array([[[0.1]], [[0.9]]], np.float16)
    arrays = {"unrefined": label, "refined": label, "probabilities": probabilities}
    artifact("predictions", "val", arrays, keys=[0, 1], size=[9, 9])
    artifact("predictions_crf", "val", label, confidence=0.9, uncertain=0.0)
    return tmp_path


def scores_of(run, command, *files):
    options = {"--data": run / "data", "--settings": '{"ignore_prediction": "miss"}', **dict(files)}
    options |= {f"--{key}": value for key, value in WHO.items()} | {"--output": run / "table.csv"}
    for name in ("images", "sizes", "overlaps", "confusion"):
        options[f"--{name}"] = run / f"{name}.csv"
    command.main([str(word) for pair in options.items() for word in pair])
    return cells(run / "table.csv")


def test_tables_say_what_they_were_scored_against(scored_run):
    pseudo = scores_of(
        scored_run,
        evaluate_pseudo_labels,
        ("--pseudo-labels", scored_run / "pseudo_labels.h5"),
    )
    assert {(row["images"], row["of"], row["ground_truth"]) for row in pseudo} == {
        ("2", "3", MASKS)
    }
    segmentation = scores_of(
        scored_run,
        evaluate_segmentation,
        ("--predictions", scored_run / "predictions.h5"),
        ("--predictions-crf", scored_run / "predictions_crf.h5"),
        ("--uncertainty", scored_run / "uncertainty.csv"),
    )
    assert {row["prediction"] for row in segmentation} == {"unrefined", "refined", "merged", "crf"}
    assert {(row["images"], row["of"], row["ground_truth"]) for row in segmentation} == {
        ("1", "2", MASKS)
    }
    assert {row["iou"] for row in pseudo + segmentation if row["class"] == "cat"} == {"100.00"}


def test_without_ground_truth_none_is_named(tmp_path):
    table = with_ground_truth(scored([]), [], 7)
    write_table(tmp_path / "scores.csv", table)
    rows = cells(tmp_path / "scores.csv")
    assert {(row["images"], row["of"], row["ground_truth"]) for row in rows} == {("0", "7", "")}


# --- the summary


def segmentation_table(**ious):
    rows = [
        row
        for kind, value in ious.items()
        for row in (
            {"prediction": kind, "class_id": 0, "class": "background", "iou": 99.0},
            {"prediction": kind, "class_id": 1, "class": "mean", "iou": 98.0},  # only a name
            {"prediction": kind, "class_id": None, "class": "mean", "iou": value},
        )
    ]
    return pd.DataFrame(rows)


PSEUDO = pd.DataFrame(
    {
        "class_id": [0, 1, None],
        "class": ["background", "mean", "mean"],
        "precision": [1.0, 2.0, 85.6],
        "recall": [1.0, 2.0, 42.9],
        "iou": [1.0, 2.0, 40.6],
    }
)


def test_stage_scores_take_the_means():
    scores = stage_scores(PSEUDO, segmentation_table(unrefined=60.0, refined=64.1, crf=69.0))
    assert scores == {
        "pseudo_precision": 85.6,
        "pseudo_recall": 42.9,
        "pseudo_miou": 40.6,
        "val_miou_unrefined": 60.0,
        "val_miou_refined": 64.1,
        "val_miou_crf": 69.0,
    }
    assert tuple(scores) == SUMMARY_COLUMNS


def test_network_without_affinity_has_no_refined_score(tmp_path):
    scores = stage_scores(PSEUDO, segmentation_table(unrefined=60.0, crf=61.0))
    write_table(tmp_path / "summary.csv", summarise({0: [scores]}))
    (row,) = cells(tmp_path / "summary.csv")
    assert row["val_miou_refined"] == ""
    assert row["val_miou_crf"] == "61.00"


def test_summary_is_mean_and_standard_deviation_over_runs(tmp_path):
    runs = {1: [dict.fromkeys(SUMMARY_COLUMNS, 50.0)], 0: []}
    for miou in (40.0, 41.0, 45.0):
        runs[0].append(dict.fromkeys(SUMMARY_COLUMNS, 20.0) | {"val_miou_crf": miou})
    write_table(tmp_path / "summary.csv", summarise(runs))
    first, second = cells(tmp_path / "summary.csv")
    beside = [name for column in SUMMARY_COLUMNS for name in (column, f"{column}_std")]
    assert list(first) == ["stage", *beside, "runs"]
    assert (first["stage"], first["runs"]) == ("0", "3")
    assert first["val_miou_crf"] == "42.00"
    # Squared distances 4, 1 and 9, over 3 - 1.
    assert float(first["val_miou_crf_std"]) == pytest.approx(math.sqrt(7), abs=0.005)
    assert first["pseudo_miou_std"] == "0.00"
    assert (second["stage"], second["runs"]) == ("1", "1")
    assert second["val_miou_crf"] == "50.00"
    assert second["val_miou_crf_std"] == ""


def test_summary_without_masks_is_empty_and_complete(tmp_path):
    scores = [dict.fromkeys(SUMMARY_COLUMNS, math.nan) for _ in range(2)]
    write_table(tmp_path / "summary.csv", summarise({0: scores}))
    (row,) = cells(tmp_path / "summary.csv")
    assert row.pop("stage") == "0" and row.pop("runs") == "2"
    assert set(row.values()) == {""}


def test_a_table_that_is_damaged_or_another_is_refused_by_name(tmp_path):
    path = tmp_path / "scores.csv"
    write_table(path, scored(random_pairs()))
    assert len(read_table(path)) == 5
    whole = path.read_text()
    first, second = whole.splitlines()[:2]
    for content in (
        "",
        "a,b\n1,2\n",
        whole[: len(whole) // 2],
        whole.replace("iou", "loss"),
        f"{first}\n{second},1,2,3\n",
        whole.replace("cat", "cat,cat"),
        "\0" * 50,
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=r"scores\.csv: .*remake it") as error:
            read_table(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        read_table(tmp_path / "gone.csv")


def test_summarise_takes_each_table_for_what_it_is(tmp_path):
    write_table(tmp_path / "labels.csv", scored(random_pairs()))
    kinds = [scored(random_pairs()).assign(prediction=k) for k in ("refined", "crf")]
    write_table(tmp_path / "predictions.csv", pd.concat(kinds))
    write_table(tmp_path / "twice.csv", pd.concat([*kinds, *kinds]))

    def summarised(pseudo, segmentation):
        given = {"--stages": 0, "--pseudo-labels": pseudo, "--segmentation": segmentation}
        given["--output"] = tmp_path / "summary.csv"
        summarise_command.main([str(word) for pair in given.items() for word in pair])

    labels, predictions, twice = (
        tmp_path / f"{name}.csv" for name in ("labels", "predictions", "twice")
    )
    summarised(labels, predictions)
    for wrong in ((labels, labels), (predictions, predictions), (labels, twice)):
        with pytest.raises(InputError, match=r"(labels|predictions|twice)\.csv: a table of scores"):
            summarised(*wrong)

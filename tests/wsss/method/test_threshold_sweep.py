"""The sweep over thresholds against `fuse` at each pair, and against the pseudo labels of a run."""

import csv
import json
from itertools import product

import numpy as np
import pytest
from label_pairs import pair
from PIL import Image

from workflow_scripts import sweep_thresholds
from wsss.configuration.method_sections import SALIENCY_CRF, PseudoLabels
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.method.metrics import ConfusionMatrix
from wsss.method.pseudo_labels import fuse, make_pseudo_labels
from wsss.method.threshold_sweep import ThresholdSweep, sweep_table
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import write_palette_png

CLASSES = ("cat", "dog", "cow")
CAM, SALIENCY = [0.2, 0.0, 0.7, 0.1, 1.0], [0.5, 0.06, 0.0]
KEYS = ([0, 2], [1], [], [0, 1, 2])


def image(seed):
    """CAMs, keys, saliency and ground truth; many values lie on a threshold, and CAMs tie."""
    rng = np.random.default_rng(seed)
    truth, _ = pair(seed)
    keys = KEYS[seed % len(KEYS)]
    cams = rng.choice(np.float32([*CAM, 0.05, 0.3, 0.9]), (len(keys), *truth.shape))
    saliency = rng.choice(np.float32([*SALIENCY, 0.03, 0.8]), truth.shape)
    return cams, keys, saliency, truth


@pytest.mark.parametrize("ignored", ["miss", "drop", "background"])
def test_each_pair_equals_the_fusion_at_its_thresholds(ignored):
    sweep = ThresholdSweep(len(CLASSES), [*CAM, CAM[0]], SALIENCY)
    for seed in range(6):
        sweep.add(*sweep.cells(*image(seed)))
    found = list(sweep.matrices(ignored))
    assert [p[:2] for p in found] == [(c, s) for c in sorted(CAM) for s in sorted(SALIENCY)]
    for cam_threshold, saliency_threshold, matrix in found:
        expected = ConfusionMatrix(len(CLASSES), ignored)
        for seed in range(6):
            cams, keys, saliency, truth = image(seed)
            label = fuse(cams, keys, saliency, cam_threshold, saliency_threshold)
            expected.update(label, truth)
        np.testing.assert_array_equal(matrix.matrix, expected.matrix)
        np.testing.assert_array_equal(matrix.missed, expected.missed)
        assert matrix.images == 6 and matrix.matrix.dtype == np.int64


def test_the_table_says_that_ground_truth_was_used():
    sweep = ThresholdSweep(len(CLASSES), [0.25], [0.005])
    sweep.add(*sweep.cells(*image(0)))
    table = sweep_table(sweep)
    ((_, _, matrix),) = sweep.matrices()
    (row,) = table.to_dict("records")
    assert (row.pop("cam_threshold"), row.pop("saliency_threshold")) == ("0.25", "0.005")
    assert {name: row.pop(name) / 100 for name in ("iou", "precision", "recall")} == pytest.approx(
        matrix.means()
    )
    assert row == {"images": 1, "ignore_prediction": "miss", "tuned_on": "ground truth"}


# --- the command


@pytest.fixture
def run(tmp_path):
    """Arguments of a stage's maps of four train images, one of which is not scored.

    And what makes the score of the labels at a pair of thresholds.
    """
    who = {"seed": 0, "stage": 1, "variant": "auxsegnet"}
    images, records = {}, []
    for seed, name in enumerate("abcd"):
        rng = np.random.default_rng(seed)
        truth, _ = pair(seed)
        keys = KEYS[seed]
        maps = {
            "cams": rng.random((len(keys), 8, 11)).astype(np.float16),
            "saliency": rng.integers(0, 256, truth.shape, np.uint8),
            "refined_saliency": rng.random((8, 11)).astype(np.float16),
        }
        photograph = rng.integers(0, 256, (*truth.shape, 3), np.uint8)
        Image.fromarray(photograph).save(tmp_path / f"{name}.png")
        write_palette_png(tmp_path / f"masks/{name}.png", truth)
        size = truth.shape[::-1]
        labels = tuple(CLASSES[key] for key in keys)
        mask = f"masks/{name}.png"
        records.append(ImageRecord(name, "train", name != "d", f"{name}.png", mask, *size, labels))
        images[name] = photograph, keys, maps, truth
    index = DatasetIndex(tmp_path, CLASSES, (1, 2, 3), tuple(records))
    write_dataset(index, tmp_path / "data")
    data = {"dataset": "data", "index_digest": index.digest, "classes": list(CLASSES)}
    words = ["--data", tmp_path / "data"]
    for kind in ("cams", "saliency", "refined_saliency"):
        words.append(f"--{kind.replace('_', '-')}")
        for shard, ids in enumerate(("ab", "cd")):
            words.append(tmp_path / f"{kind}{shard}.h5")
            identity = data | ({} if kind == "saliency" else who)
            about = {"identity": identity, "parameters": {}, "sources": {}, "expected": list(ids)}
            with ArtifactWriter(words[-1], kind, **about) as writer:
                for name in ids:
                    attributes = {"keys": images[name][1]} if kind == "cams" else {}
                    writer.write(name, images[name][2][kind], **attributes)
    for key, value in who.items():
        words += [f"--{key}", value]

    def score(settings):
        matrix = ConfusionMatrix(len(CLASSES))
        for photograph, keys, maps, truth in list(images.values())[:3]:
            cams = maps["cams"].astype(np.float32)
            refined = maps["refined_saliency"].astype(np.float32)
            label = make_pseudo_labels(photograph, cams, keys, maps["saliency"], refined, settings)
            matrix.update(label[1], truth)
        return {name: f"{100 * value:.2f}" for name, value in matrix.means().items()}

    return [*map(str, words), "--output", str(tmp_path / "sweep.csv")], score


@pytest.mark.parametrize(
    ("background", "regions"),
    [("updated", "pixels"), ("off_the_shelf", "pixels"), ("updated", "objects")],
)
def test_the_command_scores_what_make_pseudo_labels_would_make(run, tmp_path, background, regions):
    words, score = run
    given = {
        "background": background,
        "regions": regions,
        "saliency_crf": SALIENCY_CRF.model_dump(),
    }
    words += ["--settings", json.dumps(given)]
    words += ["--cam-thresholds", "0.5", "0.9", "--saliency-thresholds", "0.3"]
    sweep_thresholds.main(words)
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["cam_threshold"], row["saliency_threshold"]) for row in rows]
    # Those of the settings are among them.
    assert pairs == list(product(("0.2", "0.5", "0.9"), ("0.06", "0.3")))
    for row, (cam, saliency) in zip(rows, pairs, strict=True):
        settings = PseudoLabels(
            **given, cam_threshold=float(cam), saliency_threshold=float(saliency)
        )
        assert {name: row[name] for name in ("iou", "precision", "recall")} == score(settings)
    assert {(row["images"], row["of"], row["ground_truth"]) for row in rows} == {
        ("3", "4", "masks")
    }
    assert {row["tuned_on"] for row in rows} == {"ground truth"}


def test_the_number_of_processes_does_not_matter(run, tmp_path):
    words, _ = run
    words += ["--settings", '{"background": "off_the_shelf", "regions": "pixels"}']
    tables = []
    for threads in ("1", "2"):
        sweep_thresholds.main([*words, "--threads", threads])
        tables.append((tmp_path / "sweep.csv").read_text())
    assert tables[0] == tables[1]


def test_labels_of_another_tool_have_no_thresholds(run, capsys):
    settings = {
        "regions": "pixels",
        "background": "off_the_shelf",
        "initial": "files",
        "files": {"folder": "labels"},
    }
    with pytest.raises(SystemExit):
        sweep_thresholds.main([*run[0], "--settings", json.dumps(settings)])
    assert "labels from files have no thresholds" in capsys.readouterr().err

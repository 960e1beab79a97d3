"""Corrected masks stand in for pseudo labels, and no score is of them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands_on_artifacts import FILES, FUSION, SALIENCY, SIZE, build, call

from workflow_scripts import (
    evaluate_pseudo_labels,
    make_pseudo_labels,
    sample_masks,
    sweep_thresholds,
)
from wsss.datasets.index import read_dataset, write_dataset
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.palette import write_palette_png

MASK = np.zeros(SIZE, np.uint8)
MASK[5:20, 5:30], MASK[30:, 40:], MASK[20:25] = 1, 7, 255
RUN = ["--variant", "auxsegnet", "--seed", 0]


@pytest.fixture
def corrected(tmp_path):
    """Masks of one of two training images, of one that is validated on, and of a stranger."""
    for name in ("train0", "val1", "holiday"):
        write_palette_png(tmp_path / f"corrected/{name}.png", MASK)
    return tmp_path / "corrected"


def run(command, *words):
    command.main([str(word) for word in words])


def make(folder, corrected, stage=1, threads=1):
    """Pseudo labels of a stage, by fusion, and those masks."""
    output = folder / f"made{stage}.h5"
    words = ["--cams", folder / ("cams.h5" if stage else "cams0.h5"), "--threads", threads]
    words += ["--refined-saliency", folder / "refined.h5"] if stage else []
    words += ["--saliency", folder / "saliency.h5", "--shard", 0, "--shards", 1]
    settings = FUSION | {"corrected": str(corrected) if corrected else None}
    words += ["--data", folder, *RUN, "--stage", stage, "--settings", json.dumps(settings)]
    run(make_pseudo_labels, *words, "--output", output)
    return ArtifactReader(output, "pseudo_labels")


@pytest.mark.parametrize("stage", [0, 1])
def test_a_corrected_mask_beats_the_pseudo_label_at_every_stage(folder, corrected, stage, caplog):
    before, after = make(folder, None, stage), None
    others = before.read("train1")
    (folder / f"made{stage}.h5").unlink()
    after = make(folder, corrected, stage, threads=2)
    label = after.read("train0")
    np.testing.assert_array_equal(label.array["segmentation"], MASK)
    saliency = label.array["saliency"]
    assert (saliency[MASK == 0] == 0).all() and (saliency[(MASK == 1) | (MASK == 7)] == 255).all()
    if stage == 0:  # where nobody knows, it stays what it was
        np.testing.assert_array_equal(saliency[MASK == 255], SALIENCY[MASK == 255])
    for name, array in others.array.items():
        np.testing.assert_array_equal(after.read("train1").array[name], array)
    assert label.attributes == {"corrected": True} and after.read("train1").attributes == {}
    (header,) = after.headers.values()
    assert header["sources"].keys() >= {str(corrected)}


def test_what_is_passed_over_is_told(folder, corrected, caplog):
    caplog.set_level("INFO")
    make(folder, corrected)
    assert "1 training images have corrected masks" in caplog.text
    assert "1 masks of images that are not trained on: val1" in caplog.text
    assert "1 masks that are called like no image to learn from: holiday" in caplog.text
    assert "nearly" not in caplog.text


def test_a_mask_of_nearly_the_name_is_told(folder, corrected, caplog):
    caplog.set_level("INFO")
    (corrected / "train0.png").rename(corrected / "Train00.png")
    label = make(folder, corrected).read("train0")
    np.testing.assert_array_equal(label.array["segmentation"], MASK)
    assert "taken for nearly the same name: Train00 is train0" in caplog.text


def test_a_mask_that_cannot_be_read_leaves_nothing(folder, corrected):
    write_palette_png(corrected / "train0.png", MASK[:-1])
    with pytest.raises(InputError, match=r"train0\.png is 64x47, but the index has 64x48"):
        make(folder, corrected)
    assert not (folder / "made1.h5").exists()


def test_corrected_images_are_left_out_of_the_scores(folder, corrected, tmp_path):
    make(folder, corrected)
    words = ["--data", folder, *RUN, "--stage", 1, "--pseudo-labels", folder / "made1.h5"]
    words += ["--settings", json.dumps({"ignore_prediction": "miss"})]
    words += ["--output", tmp_path / "a.csv", "--images", tmp_path / "b.csv"]
    for name in ("sizes", "overlaps", "confusion"):
        words += [f"--{name}", tmp_path / f"{name}.csv"]
    run(evaluate_pseudo_labels, *words)
    assert pd.read_csv(tmp_path / "b.csv")["image_id"].tolist() == ["train1"]
    table = pd.read_csv(tmp_path / "a.csv")
    assert set(table["images"]) == {1} and set(table["of"]) == {2}


def test_corrected_images_are_left_out_of_a_sweep(folder, corrected, tmp_path):
    words = ["--data", folder, *RUN, "--stage", 1, "--output", tmp_path / "sweep.csv"]
    for option, name in (("cams", "cams"), ("saliency",) * 2, ("refined-saliency", "refined")):
        words += [f"--{option}", folder / f"{name}.h5"]
    settings = FUSION | {"corrected": str(corrected)}
    run(sweep_thresholds, *words, "--settings", json.dumps(settings))
    assert set(pd.read_csv(tmp_path / "sweep.csv")["images"]) == {1}


def test_labels_of_a_run_without_corrected_masks_are_scored_as_before(folder, capsys):
    assert FILES["labels"] and read_dataset(folder).split("train")[0].mask
    assert call("evaluate_pseudo_labels", folder, capsys)[0] == 0
    assert set(pd.read_csv(folder / "../out.png")["images"]) == {2}


# --- true masks of a share of the images ---------------------------------------------------------


def sampled(folder, share, out, *more):
    run(sample_masks, folder, "--share", share, "--out", out, *more)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_sample_holds_true_masks_and_a_larger_one_those_of_a_smaller(tmp_path, tiny_backbone):
    folder = build(tmp_path, count=20)
    index = read_dataset(folder)
    truth = {f"{r.image_id}.png": (index.root / r.mask).read_bytes() for r in index.split("train")}
    few, many = (sampled(folder, share, tmp_path / str(share)) for share in (0.1, 0.5))
    assert (len(few), len(many)) == (2, 10)
    assert few.items() < many.items() < truth.items()
    assert sampled(folder, 0.1, tmp_path / "0.1") == few
    assert sampled(folder, 0.1, tmp_path / "other", "--seed", 1).keys() != few.keys()
    with pytest.raises(InputError, match=r"0\.5 holds other masks, such as train"):
        sampled(folder, 0.1, tmp_path / "0.5")


def test_a_share_of_no_image_or_of_more_than_have_masks_is_refused(folder, tmp_path, capsys):
    with pytest.raises(InputError, match=r"0\.1 of 2 training images are 0, and 2 have a mask"):
        sampled(folder, 0.1, tmp_path / "out")
    with pytest.raises(SystemExit):
        sampled(folder, 5, tmp_path / "out")
    index = read_dataset(folder)
    unmasked = [replace(record, mask=None) for record in index.records]
    write_dataset(replace(index, records=tuple(unmasked)), folder)
    with pytest.raises(InputError, match=r"are 1, and 0 have a mask"):
        sampled(folder, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()

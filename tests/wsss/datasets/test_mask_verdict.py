"""Masks against labels: what is usual, and what can score nothing."""

import logging

import numpy as np
import pytest
from PIL import Image

from workflow_scripts import index_dataset
from wsss.configuration.data_sections import UnnamedDataset
from wsss.datasets.ground_truth import classes_in, verdict_on_masks
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError

NAMES = ("cat", "dog", "horse")


def index_of(tmp_path, labels):
    """Images without files; `labels` by image id."""
    records = [
        ImageRecord(i, "train", True, f"{i}.jpg", f"{i}.png", 8, 8, tuple(names))
        for i, names in labels.items()
    ]
    return DatasetIndex(tmp_path, NAMES, (1, 2, 5), tuple(records), other_values=(3, 4))


def test_classes_are_told_from_background_and_from_what_does_not_count():
    mask = np.array([[0, 3, 3], [255, 2, 0]], np.uint8)
    assert classes_in(mask) == {2, 3}
    assert classes_in(np.full((3, 3), 255, np.uint8)) == set()


def test_masks_of_their_labels_are_fine(tmp_path):
    index = index_of(tmp_path, {"a": ["cat"], "b": ["dog", "horse"], "c": []})
    found = {"a": {1}, "b": {2, 3}, "c": set()}
    assert verdict_on_masks(index, found) is None
    assert verdict_on_masks(index, found | {"a": {1, 2}}) is None  # more than its label says
    assert verdict_on_masks(index, {}) is None


def test_masks_without_any_class_are_wrong(tmp_path):
    index = index_of(tmp_path, {"a": ["cat"], "b": ["dog"]})
    verdict = verdict_on_masks(index, {"a": set(), "b": set()})
    assert verdict.wrong and verdict.message.startswith("none of 2 masks has a pixel of a class")
    assert verdict.message.endswith("1 cat, 2 dog, 5 horse")


def test_another_order_of_the_classes_is_wrong(tmp_path):
    index = index_of(tmp_path, {f"{name}{n}": [name] for name in NAMES for n in range(3)})
    found = {r.image_id: {(NAMES.index(r.labels[0]) + 1) % 3 + 1} for r in index.records}
    verdict = verdict_on_masks(index, found)
    assert verdict.wrong and "9 of 9 lack a class that their labels name" in verdict.message
    assert "cat0 (cat; its mask: dog)" in verdict.message


def test_objects_of_one_value_are_wrong_where_there_are_several_classes(tmp_path):
    """Masks of 0 and 1, whatever the object is."""
    index = index_of(tmp_path, {"a": ["cat"], "b": ["dog"], "c": ["horse"]})
    assert verdict_on_masks(index, {image_id: {1} for image_id in "abc"}).wrong


def test_a_few_that_lack_a_label_are_told(tmp_path):
    index = index_of(tmp_path, {"a": ["cat", "dog"], "b": ["dog"], "c": ["cat"]})
    verdict = verdict_on_masks(index, {"a": {1}, "b": {2}, "c": {1}})
    assert not verdict.wrong
    shown = "a (cat and dog; its mask: cat)"
    assert verdict.message == f"1 of 3 lack a class that their labels name: {shown}"


@pytest.fixture
def folder(tmp_path):
    """Two photographs, a cat and a dog; masks are for the tests to draw."""
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for image_id in ("cat1", "dog1"):
        Image.new("RGB", (16, 12), "grey").save(tmp_path / f"images/{image_id}.jpg")
    (tmp_path / "labels.csv").write_text("image_id,labels\ncat1,cat\ndog1,dog\n")
    return tmp_path


def run_index(folder, **values):
    """Make the index, with masks of one value each."""
    for image_id, value in values.items():
        mask = np.zeros((12, 16), np.uint8)
        mask[3:9, 4:12] = value
        Image.fromarray(mask).save(folder / f"masks/{image_id}.png")
    section = {"format": "folder", "root": str(folder), "folder": {"masks": "masks"}}
    settings = UnnamedDataset.model_validate(section).model_dump_json()
    index_dataset.main(["--data", str(folder / "results"), "--settings", settings])


@pytest.mark.parametrize(
    ("cat", "dog", "complaint"),
    [
        (255, 255, "none of 2 masks has"),
        (2, 1, "2 of 2 lack"),
        (1, 7, r"dog1\.png has the value 7"),
    ],
)
def test_the_index_refuses_masks_that_are_wrong(folder, cat, dog, complaint):
    with pytest.raises(InputError, match=complaint):
        run_index(folder, cat1=cat, dog1=dog)
    assert not (folder / "results").exists()


def test_the_index_tells_of_a_few(folder, caplog):
    caplog.set_level(logging.WARNING)
    run_index(folder, cat1=1, dog1=0)
    assert "masks: 1 of 2 lack a class that their labels name: dog1" in caplog.text
    assert (folder / "results/index.csv").is_file()

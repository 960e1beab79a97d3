"""Finished masks: indices survive, the table says what was found, nothing else is touched."""

import csv

import numpy as np
import pytest
from PIL import Image, ImageColor

from workflow_scripts import export_masks
from wsss.datasets.cam_files import write_psa
from wsss.datasets.index import (
    LONGEST_ID,
    DatasetIndex,
    ImageRecord,
    check_id,
    write_dataset,
    write_test_images,
)
from wsss.errors import InputError
from wsss.reports.mask_files import mask_names, write_class_table, write_mask_files
from wsss.storage.artifacts import ArtifactWriter

CLASSES = ("cat", "dog", "sheep")
SPLITS = {"a": "val", "b": "val", "a_overlay": "test"}
SURE = {
    "a": {"confidence": 0.75, "uncertain": 0.125},
    "b": {"confidence": 0.98765, "uncertain": 0.0},
    "a_overlay": {"confidence": 0.3, "uncertain": 0.05},
}


def label_of(number):
    label = np.zeros((20, 25), np.uint8)
    label[:10] = number  # half of the image; number 0 finds nothing
    if number == 1:
        label[10:12] = 3  # a tenth
    return label


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "photographs"
    root.mkdir()
    records = []
    for image_id, split in SPLITS.items():
        Image.new("RGB", (25, 20), (200, 200, 200)).save(root / f"{image_id}.jpg", quality=100)
        records.append(ImageRecord(image_id, split, False, f"{image_id}.jpg", None, 25, 20, ()))
    index = DatasetIndex(root, CLASSES, (1, 2, 3), tuple(records))
    write_dataset(index, tmp_path / "own")
    write_test_images(index, tmp_path / "own")
    return index


def artifact(path, index, labels, **changes):
    who = {"dataset": "own", "index_digest": index.digest, "classes": list(CLASSES)}
    with ArtifactWriter(
        path,
        "predictions_crf",
        identity=who | {"variant": "auxsegnet", "seed": 0, "stage": 2} | changes,
        parameters={},
        sources={},
        expected=list(labels),
    ) as writer:
        for image_id, label in labels.items():
            writer.write(image_id, label, **SURE[image_id])
    return str(path)


@pytest.fixture
def shards(tmp_path, dataset):
    return [
        artifact(tmp_path / "val0.h5", dataset, {"a": label_of(1)}, split="val"),
        artifact(tmp_path / "val1.h5", dataset, {"b": label_of(0)}, split="val"),
        artifact(tmp_path / "test0.h5", dataset, {"a_overlay": label_of(2)}, split="test"),
    ]


def export(folder, shards, *more):
    output = folder / "masks" / "masks.csv"
    command = ["--data", folder / "own", "--labels", *shards, "--output", output, *more]
    export_masks.main([str(part) for part in command])
    with open(folder / "masks" / "masks.csv", newline="") as file:
        return {row["image_id"]: row for row in csv.DictReader(file)}


def test_masks_hold_the_indices_and_voc_colours(tmp_path, shards):
    export(tmp_path, shards)
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), label_of(1))
        assert mask.getpalette()[: 3 * 4] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def test_mask_overlay_and_table_show_a_class_beyond_those_of_voc_in_one_colour(tmp_path):
    classes = [f"class {value}" for value in range(1, 81)]
    image, label = np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 64, np.uint8)
    write_mask_files(tmp_path, "a", image, label, classes, alpha=1)
    write_class_table(tmp_path / "classes.csv", classes)
    with open(tmp_path / "classes.csv", newline="") as file:
        colour = ImageColor.getrgb(list(csv.DictReader(file))[64]["colour"])
    mask, overlay = (Image.open(tmp_path / name).convert("RGB") for name in mask_names("a"))
    assert mask.getcolors() == [(64, colour)]
    assert np.abs(np.array(overlay).astype(int) - colour).max() < 12  # JPEG is not exact


def test_overlay_tints_objects_only(tmp_path, shards):
    export(tmp_path, shards, "--alpha", "0.5")
    overlay = np.array(Image.open(tmp_path / "masks" / "a_overlay_overlay.jpg")).astype(int)
    # JPEG is not exact: well within the object and well within the background.
    assert np.abs(overlay[3:6, 5:20] - [100, 164, 100]).max() < 12
    assert np.abs(overlay[16:19, 5:20] - 200).max() < 12


def test_table_names_files_classes_and_shares(tmp_path, shards):
    rows = export(tmp_path, shards)
    assert list(rows) == ["a_overlay", "a", "b"]  # what most needs a look comes first
    assert rows["a"] == {
        "image_id": "a",
        "mask": "a.png",
        "overlay": "a_overlay.jpg",
        "classes": "cat;sheep",
        "shares": "cat=0.5;sheep=0.1",
        "confidence": "0.7500",
        "uncertain": "0.1250",
    }
    assert rows["b"]["classes"] == rows["b"]["shares"] == ""
    assert rows["a_overlay"]["shares"] == "dog=0.5"
    named = {row[key] for row in rows.values() for key in ("mask", "overlay")}
    assert len(named) == 6  # an id that looks like another one's overlay overwrites nothing
    assert named | {"masks.csv"} == {path.name for path in (tmp_path / "masks").iterdir()}


def test_label_maps_that_say_nothing_of_it_are_refused(tmp_path, dataset, monkeypatch):
    """As of the version before: masks without an order would pass for ones that are all sure."""
    monkeypatch.setitem(SURE, "b", {"confidence": 0.5})
    old = artifact(tmp_path / "old.h5", dataset, {"b": label_of(0)})
    with pytest.raises(InputError, match=r"old\.h5: image b without 'uncertain'.*remake it"):
        export(tmp_path, [old])
    assert not (tmp_path / "masks").exists()


def test_what_an_earlier_run_left_of_other_photographs_is_removed(tmp_path, shards):
    """Ids that look like another one's overlay are taken for what they are."""
    image, label = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    folder = tmp_path / "masks"
    folder.mkdir()
    for image_id in ("gone", "b", "b_overlay", "gone_overlay"):
        write_mask_files(folder, image_id, image, label, CLASSES, alpha=1)
    rows = export(tmp_path, shards)
    kept = {name for image_id in rows for name in mask_names(image_id)}
    assert {path.name for path in folder.iterdir()} == kept | {"masks.csv"}


def test_files_without_an_overlay_are_left_alone(tmp_path, shards):
    (tmp_path / "masks").mkdir()
    old = tmp_path / "masks" / "gone.png"
    old.write_bytes(b"of an image that has left the data set")
    export(tmp_path, shards)
    assert old.read_bytes() == b"of an image that has left the data set"


def test_a_link_in_the_folder_is_replaced_not_followed(tmp_path, shards):
    (tmp_path / "masks").mkdir()
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"precious")
    (tmp_path / "masks" / "a.png").symlink_to(outside)
    export(tmp_path, shards)
    assert outside.read_bytes() == b"precious"
    assert np.array_equal(np.array(Image.open(tmp_path / "masks" / "a.png")), label_of(1))


@pytest.mark.parametrize("image_id", ["../evil", "a/b", "/tmp/evil", "..", "a\nb", ""])
def test_ids_that_lead_elsewhere_are_refused(tmp_path, dataset, image_id):
    record = ImageRecord(image_id, "val", False, "a.jpg", None, 25, 20, ())
    with pytest.raises(InputError):
        export_masks.export_image(tmp_path / "masks", dataset, record, label_of(1), 0.5)
    assert not list(tmp_path.rglob("*evil*"))


def test_other_stages_sizes_kinds_and_opacities_are_refused(tmp_path, dataset, shards):
    other = artifact(tmp_path / "other.h5", dataset, {"b": label_of(0)}, stage=1)
    with pytest.raises(InputError, match="made for stage 1, needed is 2"):
        export(tmp_path, [shards[0], other])
    small = artifact(tmp_path / "small.h5", dataset, {"b": np.zeros((5, 5), np.uint8)})
    with pytest.raises(InputError, match="image b: its label map is 5x5, the image 25x20"):
        export(tmp_path, [small])
    with pytest.raises(InputError, match="opacity"):
        export(tmp_path, shards, "--alpha", "2")
    with pytest.raises(InputError, match="no such file"):
        export(tmp_path, [tmp_path / "absent.h5"])
    assert not (tmp_path / "masks" / "masks.csv").exists()


@pytest.mark.parametrize("image_id", ["x" * LONGEST_ID, "é" * (LONGEST_ID // 2)])
def test_all_files_of_the_longest_id_can_be_written(tmp_path, monkeypatch, image_id):
    """By a process of the highest number, on a machine of the longest name that Linux takes."""
    monkeypatch.setattr("wsss.storage.files.socket.gethostname", lambda: "h" * 64)
    monkeypatch.setattr("wsss.storage.files.os.getpid", lambda: 4194304)
    assert check_id(image_id, "list") == image_id
    image, label = np.zeros((9, 12, 3), np.uint8), np.zeros((9, 12), np.uint8)
    write_mask_files(tmp_path, image_id, image, label, CLASSES, 0.5)
    write_psa(tmp_path / f"{image_id}.npy", [0], np.zeros((1, 9, 12), np.float32), None)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".jpg", ".npy"}

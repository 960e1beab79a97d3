"""From folders on disk to an index, and back from CSV."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from PIL import Image
from repository import ROOT

from wsss.configuration.data_sections import UnnamedDataset
from wsss.configuration.resolve import load
from wsss.datasets.formats import build_index, listed_files, with_test_images, without_test_images
from wsss.datasets.index import (
    DatasetIndex,
    ImageRecord,
    check_id,
    read_dataset,
    resolve_root,
    write_dataset,
    write_test_images,
)
from wsss.datasets.voc import CLASSES, read_list
from wsss.errors import InputError
from wsss.storage.palette import write_palette_png

CONFIG = ROOT / "config"
DEVKIT = "VOCdevkit/VOC2012"


def save_image(path, width=20, height=12, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "teal").save(path, **options)


def save_mask(path, *values, width=20, height=12):
    mask = np.resize(np.array(values or (0,), np.uint8), (height, width))
    write_palette_png(path, mask)
    return mask


def record(image_id="a", split="train", **changes):
    fields = ImageRecord(image_id, split, True, f"{image_id}.jpg", None, 20, 12, ("cat",))
    return replace(fields, **changes)


def index_of(*records, classes=("cat", "dog"), mask_values=(8, 12), root=".", others=()):
    return DatasetIndex(root, classes, mask_values, records, others)


# --- ids and roots


@pytest.mark.parametrize(
    "image_id", ["2007_000032", "a b", "été", "a.b", "x" * 160, "é" * 80, "{a}"]
)
def test_good_ids_pass(image_id):
    assert check_id(image_id, "list.txt") == image_id


@pytest.mark.parametrize(
    "image_id",
    [
        *("", "a/b", "/a", "a\\b", "..", "a..b", ".hidden", "a\nb", "a\0b", "a\x7f", " a"),
        *("x" * 161, "é" * 81, "日" * 80, "\udcff"),
    ],
)
def test_bad_ids_are_refused_with_id_and_source(image_id):
    with pytest.raises(InputError, match=r"list\.txt") as caught:
        check_id(image_id, "list.txt")
    assert repr(image_id)[1:20] in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        index_of(record(image_id=image_id, image="a.jpg"))


def test_root_expands_variables_and_home(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SOME_ROOT", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("$SOME_ROOT/data", "${SOME_ROOT}/data", "~/data", tmp_path / "data"):
        assert resolve_root(text) == tmp_path / "data"


@pytest.mark.parametrize("text", [None, "", "$NO_SUCH_VARIABLE_HERE/x", "/no/such/folder"])
def test_root_that_is_not_there_names_the_key(text):
    with pytest.raises(InputError, match=r"dataset\.root"):
        resolve_root(text)


# --- index


def test_index_survives_the_csv_files(tmp_path):
    index = index_of(
        record("a b", labels=("cat", "dog"), mask="masks/a b.png"),
        record("été", split="val", scored=False, labels=()),
        root=tmp_path,
        others=(3,),
    )
    write_dataset(index, tmp_path / "o")
    again = read_dataset(tmp_path / "o")
    assert again == read_dataset(tmp_path / "o", tmp_path) == index
    assert again.digest == index.digest
    assert (tmp_path / "o/classes.csv").read_text() == (
        "class_id,name,mask_value\n0,background,0\n1,cat,8\n2,dog,12\n255,(not learnt),3\n"
    )
    assert (tmp_path / "o/index.csv").read_text(encoding="utf-8").splitlines()[1] == (
        "a b,train,1,a b.jpg,masks/a b.png,20,12,cat;dog"
    )


def test_digest_follows_the_content_and_not_the_root(tmp_path):
    index = index_of(record("a"), record("b"))
    assert replace(index, root=tmp_path).digest == index.digest
    others = [
        index_of(record("a"), record("c")),
        index_of(record("b"), record("a")),
        index_of(record("a"), record("b", scored=False)),
        index_of(record("a"), record("b", mask="b.png")),
        index_of(record("a"), record("b"), mask_values=(8, 13)),
        index_of(record("a"), record("b"), classes=("cat", "cow")),
        index_of(record("a"), record("b"), others=(9,)),
    ]
    assert len({index.digest, *(other.digest for other in others)}) == 8


def test_images_that_are_only_predicted_have_a_file_of_their_own(tmp_path):
    """They may come later: what has been made for the others still fits."""
    learnt = index_of(record("a"), record("b", split="val"), root=tmp_path)
    whole = replace(learnt, records=(*learnt.records, record("c", split="test", scored=False)))
    write_dataset(whole, tmp_path)
    write_test_images(whole, tmp_path)
    assert read_dataset(tmp_path) == learnt and whole.digest == learnt.digest
    assert read_dataset(tmp_path, test=True) == whole
    (tmp_path / "test_images.csv").unlink()
    assert read_dataset(tmp_path) == learnt
    with pytest.raises(InputError, match=r"test_images\.csv"):
        read_dataset(tmp_path, test=True)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("image_id,split", "image_id,part", "columns"),
        (",20,12,", ",wide,12,", "wide"),
        (",20,12,", ",20,12,x,", "lengths"),
        ("cat;dog", "cat;cow", "cow"),
        ("a.jpg", "../a.jpg", "leads out"),
        ("a.jpg", "/etc/passwd", "leads out"),
        ("train", "training", "training"),
    ],
)
def test_a_spoilt_index_file_is_refused(tmp_path, old, new, complaint):
    write_dataset(index_of(record("a", labels=("cat", "dog"))), tmp_path)
    text = (tmp_path / "index.csv").read_text()
    assert old in text
    (tmp_path / "index.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=complaint):
        read_dataset(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("classes", "values", "complaint"),
    [
        ((), (), "no classes"),
        (("cat", "cat"), (1, 2), "class named twice: cat"),
        (("cat;dog",), (1,), "cat;dog"),
        (("background",), (1,), "background"),
        (("cat",), (0,), "1..254"),
        (("cat",), (255,), "1..254"),
        (("cat", "dog"), (3, 3), "of its own"),
        (("cat", "dog"), (3,), "of its own"),
    ],
)
def test_bad_classes_are_refused(classes, values, complaint):
    with pytest.raises(InputError, match=complaint):
        index_of(classes=classes, mask_values=values)


def test_duplicate_ids_are_refused_also_over_splits():
    with pytest.raises(InputError, match="listed twice, in one split or in two: b"):
        index_of(record("a"), record("b"), record("b", split="val"))


def test_shards_are_contiguous_balanced_and_complete():
    index = index_of(*(record(f"i{n}") for n in range(11)), record("v", split="val"))
    for shards in (1, 2, 3, 11, 20):
        parts = [index.shard("train", shard, shards) for shard in range(shards)]
        assert [r for part in parts for r in part] == index.split("train")
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    with pytest.raises(InputError, match="shard 2"):
        index.shard("train", 2, 2)


def test_split_record_and_label_vector():
    index = index_of(record("a", labels=("dog",)), record("v", split="val", labels=()))
    assert [r.image_id for r in index.split("val")] == ["v"]
    vector = index.label_vector(index.record("a"))
    assert vector.dtype == np.float32 and vector.tolist() == [0, 1]
    assert index.label_vector(index.record("v")).tolist() == [0, 0]
    with pytest.raises(InputError, match="'b' is not in the index"):
        index.record("b")
    with pytest.raises(InputError, match="split 'dev'"):
        index.split("dev")


def test_masks_are_translated_to_class_ids(tmp_path):
    save_mask(tmp_path / "a.png", 0, 8, 12, 15, 255)
    values = {"classes": ("dog", "cat"), "mask_values": (12, 8), "others": (15, 16)}
    index = index_of(record(mask="a.png"), root=tmp_path, **values)
    mask = index.read_mask(index.record("a"))
    assert mask.dtype == np.uint8
    assert mask[0, :5].tolist() == [0, 2, 1, 255, 255]


def test_a_palette_mask_saved_as_grey_is_refused(tmp_path):
    """Its values are then the brightness of VOC's colours: 19 for a cat, and 255 for no pixel."""
    save_mask(tmp_path / "a.png", 0, 8, 12, 255)
    Image.open(tmp_path / "a.png").convert("L").save(tmp_path / "a.png")
    index = index_of(record(mask="a.png"), root=tmp_path, others=tuple({*range(1, 21)} - {8, 12}))
    with pytest.raises(
        InputError, match=r"mask .*a\.png has the value \d+, which stands for no cl"
    ):
        index.read_mask(index.record("a"))


def test_files_that_changed_after_indexing_are_refused_by_name(tmp_path):
    save_image(tmp_path / "a.jpg", 20, 13)
    save_mask(tmp_path / "a.png", width=21)
    index = index_of(record(mask="a.png"), root=tmp_path)
    with pytest.raises(InputError, match=r"image .*a\.jpg is 20x13, but the index has 20x12"):
        index.read_image(index.record("a"))
    with pytest.raises(InputError, match=r"image .*a\.jpg is 20x13, but the index has 20x12"):
        index.read_image(index.record("a"), long_side=10)
    with pytest.raises(InputError, match=r"mask .*a\.png is 21x12"):
        index.read_mask(index.record("a"))
    with pytest.raises(InputError, match="has no mask"):
        index.read_mask(record())


# --- VOC


@pytest.fixture
def voc(tmp_path):
    """A small tree in VOC's layout and its settings: three train, two val, one test image."""
    devkit = tmp_path / DEVKIT
    for image_id in "abcdef":
        save_image(devkit / f"JPEGImages/{image_id}.jpg")
    for image_id, values in {"a": (0, 8), "b": (0, 12, 15), "d": (8, 255), "e": (3,)}.items():
        save_mask(devkit / f"SegmentationClass/{image_id}.png", *values)
    lists = {"train_aug": "a\nb\nc\n", "train": "a\n", "val": "d\ne\n", "test": "f\n"}
    (devkit / "ImageSets/Segmentation").mkdir(parents=True)
    for name, text in lists.items():
        (devkit / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    (tmp_path / "labels.csv").write_text(
        "image_id,labels\na,cat\nb,dog;person\nc,dog\nd,cat\ne,bird\n"
    )
    names = {
        "train_list": "train_aug",
        "val_list": "val",
        "test_list": "test",
        "scored_list": "train",
    }
    lists = {key: f"ImageSets/Segmentation/{name}.txt" for key, name in names.items()}
    return {
        "format": "voc",
        "root": str(tmp_path),
        "classes": None,
        "voc": {
            **lists,
            "devkit": DEVKIT,
            "labels": "labels.csv",
            "masks": "SegmentationClass",
        },
    }


def section(settings):
    """The section `dataset` of nested dicts."""
    return UnnamedDataset.model_validate_json(json.dumps(settings))


def learnt_index(settings):
    return build_index(section(settings))


def whole_index(settings):
    return with_test_images(learnt_index(settings), section(settings))


def splits_of(index):
    return {name: [r.image_id for r in index.split(name)] for name in ("train", "val", "test")}


def test_voc_with_all_classes(voc, tmp_path):
    index = whole_index(voc)
    assert learnt_index(voc).records == index.records[:5]
    assert index.root == tmp_path
    assert index.classes == CLASSES
    assert index.mask_values == tuple(range(1, 21))
    assert splits_of(index) == {"train": ["a", "b", "c"], "val": ["d", "e"], "test": ["f"]}
    assert {r.image_id for r in index.records if r.scored} == {"a", "d", "e"}
    assert index.record("b") == ImageRecord(
        "b",
        "train",
        False,
        f"{DEVKIT}/JPEGImages/b.jpg",
        f"{DEVKIT}/SegmentationClass/b.png",
        20,
        12,
        ("dog", "person"),
    )
    assert index.record("c").mask is None
    assert index.record("f").labels == ()


def test_voc_without_scored_list_scores_every_train_mask(voc):
    voc["voc"]["scored_list"] = None
    index = learnt_index(voc)
    assert {r.image_id for r in index.records if r.scored} == {"a", "b", "d", "e"}


def test_voc_without_masks_scores_nothing(voc, tmp_path):
    shutil.rmtree(tmp_path / DEVKIT / "SegmentationClass")
    voc["voc"]["masks"] = None
    index = whole_index(voc)
    assert splits_of(index) == {"train": ["a", "b", "c"], "val": ["d", "e"], "test": ["f"]}
    assert not any(r.scored or r.mask for r in index.records)


def test_voc_with_some_classes(voc):
    voc["classes"] = ["dog", "cat"]
    index = whole_index(voc)
    assert index.classes == ("dog", "cat")
    assert index.mask_values == (12, 8) and len(index.other_values) == 18
    assert splits_of(index) == {"train": ["a", "b", "c"], "val": ["d"], "test": ["f"]}
    assert index.record("b").labels == ("dog",)
    assert np.unique(index.read_mask(index.record("b"))).tolist() == [0, 1, 255]
    assert index.label_vector(index.record("a")).tolist() == [0, 1]


def test_voc_labels_from_numpy_and_annotations_agree_with_the_csv(voc, tmp_path):
    from_csv = learnt_index(voc)
    present = {"a": "cat", "b": "dog person", "c": "dog", "d": "cat", "e": "bird"}
    vectors = {
        image_id: np.array([name in names.split() for name in CLASSES], np.float32)
        for image_id, names in present.items()
    }
    np.save(tmp_path / "cls_labels.npy", vectors, allow_pickle=True)
    (tmp_path / DEVKIT / "Annotations").mkdir()
    for image_id, names in present.items():
        objects = "".join(f"<object><name>{name}</name></object>" for name in names.split())
        path = tmp_path / DEVKIT / f"Annotations/{image_id}.xml"
        path.write_text(f"<annotation>{objects}</annotation>")
    for source in ("cls_labels.npy", "annotations"):
        voc["voc"]["labels"] = source
        assert learnt_index(voc) == from_csv


def without_labels(root, source):
    """The training image c and the validation image e show nothing, b shows other classes."""
    present = {"a": "cat", "b": "person", "c": "", "d": "cat", "e": ""}
    if source == "labels.csv":
        rows = (f"{i},{int(n == 'cat')},{int(n == 'person')}" for i, n in present.items())
        (root / source).write_text("\n".join(["image_id,cat,person", *rows]))
        return
    (root / DEVKIT / "Annotations").mkdir()
    for image_id, name in present.items():
        objects = f"<object><name>{name}</name></object>" if name else ""
        path = root / DEVKIT / f"Annotations/{image_id}.xml"
        path.write_text(f"<annotation>{objects}</annotation>")


@pytest.mark.parametrize("source", ["labels.csv", "annotations"])
def test_voc_training_images_without_labels_are_negatives(voc, tmp_path, source):
    """As in a folder. With some classes chosen, what shows others is still left out."""
    without_labels(tmp_path, source)
    voc["voc"]["labels"] = source
    index = learnt_index(voc)
    assert splits_of(index) == {"train": ["a", "b", "c"], "val": ["d", "e"], "test": []}
    assert [r.image_id for r in index.split("train") if r.is_negative] == ["c"]
    assert "1 training images without labels are negatives, all background: c" in index.notes
    index = learnt_index({**voc, "classes": ["cat"]})
    assert splits_of(index) == {"train": ["a", "c"], "val": ["d"], "test": []}
    assert index.record("c").is_negative
    assert "2 images of other classes left out: b, e" in index.notes
    assert not [note for note in index.notes if "counter-example" in note]


def test_lists_as_ids_or_paths(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "2007_000032\n\n/JPEGImages/2007_000039.jpg\nJPEGImages/2007_000063.jpg /Masks/x.png\r\n"
        "2007_000068 SegmentationClassAug/2007_000068.png\n"
    )
    assert read_list(path) == ["2007_000032", "2007_000039", "2007_000063", "2007_000068"]


@pytest.mark.parametrize(
    "line",
    ["../a", "/JPEGImages/../../a.jpg", "a\\b", "/etc/passwd", "2007_000032  -1", "a b c", "..."],
)
def test_bad_list_lines_are_refused_with_their_number(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"2007_000032\n{line}\n")
    with pytest.raises(InputError, match=r"list\.txt, line 2"):
        read_list(tmp_path / "list.txt")


def test_a_list_of_another_length_is_refused(voc, tmp_path):
    voc["voc"]["counts"] = {"train": 3, "val": 2, "test": 1}
    assert len(whole_index(voc).records) == 6
    voc["voc"]["counts"] = {"train": 3, "val": None, "test": 1456}
    assert build_index(without_test_images(section(voc))) == learnt_index(voc)
    assert len(learnt_index(voc).records) == 5
    with pytest.raises(InputError) as caught:
        whole_index(voc)
    file = tmp_path / DEVKIT / "ImageSets/Segmentation/test.txt"
    assert str(caught.value) == (
        f"dataset.voc.test_list: {file} names 1 images, but dataset.voc.counts.test is 1456: name"
        " the right list, or set the count to null"
    )
    voc["voc"]["test_list"] = None  # then nothing is counted
    assert len(whole_index(voc).records) == 5


def test_a_list_of_scored_images_of_another_length_is_refused(voc, tmp_path):
    voc["voc"]["counts"] = {"train": 3, "val": 2, "test": 1, "scored": 1}
    assert len(build_index(without_test_images(section(voc))).records) == 5
    voc["voc"]["counts"]["scored"] = 1464
    file = tmp_path / DEVKIT / "ImageSets/Segmentation/train.txt"
    with pytest.raises(InputError) as caught:
        build_index(without_test_images(section(voc)))
    assert str(caught.value) == (
        f"dataset.voc.scored_list: {file} names 1 images, but dataset.voc.counts.scored is 1464:"
        " name the right list, or set the count to null"
    )
    voc["voc"]["scored_list"] = None  # then nothing is counted
    assert learnt_index(voc)


@pytest.mark.parametrize(
    ("text", "found"),
    [("\n", "no image"), ("d\ne\nf\n", "no image of dataset.voc.train_list")],
)
def test_a_list_that_scores_no_training_image_is_refused(voc, tmp_path, text, found):
    file = tmp_path / DEVKIT / "ImageSets/Segmentation/train.txt"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        learnt_index(voc)
    assert str(caught.value) == (
        f"dataset.voc.scored_list: {file} names {found}: name a list of training images, or set"
        " null to score all that have a mask"
    )
    file.write_text("b\nd\n")  # some will do, as where only a part is trained on
    assert {r.image_id for r in learnt_index(voc).records if r.scored} == {"b", "d", "e"}


def test_an_image_to_predict_that_is_trained_on_is_refused(voc, tmp_path):
    (tmp_path / DEVKIT / "ImageSets/Segmentation/test.txt").write_text("f\na\n")
    with pytest.raises(InputError, match="image listed twice, in one split or in two: a"):
        whole_index(voc)


def test_lists_and_labels_elsewhere(voc, tmp_path, monkeypatch):
    """Absolute paths, with variables; the workflow watches the very same files."""
    expected = whole_index(voc)
    lists = tmp_path / "lists of others"
    lists.mkdir()
    devkit = tmp_path / DEVKIT
    for key, name in {"train_list": "train_aug", "val_list": "val", "test_list": "test"}.items():
        ids = (devkit / f"ImageSets/Segmentation/{name}.txt").read_text().split()
        (lists / f"{key}.txt").write_text("".join(f"/JPEGImages/{i}.jpg\n" for i in ids))
        voc["voc"][key] = f"$LISTS/{key}.txt"
    shutil.rmtree(devkit / "ImageSets")
    voc["voc"]["scored_list"] = None
    (devkit / "SegmentationClass/b.png").unlink()  # it was not scored
    (tmp_path / "labels.csv").rename(lists / "labels.csv")
    voc["voc"]["labels"] = str(lists / "labels.csv")
    monkeypatch.setenv("LISTS", str(lists))
    index = whole_index(voc)
    assert splits_of(index) == splits_of(expected)
    assert [r.labels for r in index.records] == [r.labels for r in expected.records]
    files = listed_files(section(voc))
    assert {path.parent for path in files} == {lists}
    assert all(path.is_file() for path in files) and len(files) == 4
    monkeypatch.delenv("LISTS")
    with pytest.raises(InputError, match=r"dataset\.voc\.train_list: the .* LISTS is not"):
        learnt_index(voc)


def change_file(voc, path, text):
    root = resolve_root(voc["root"])
    if text is None:
        (root / path).unlink()
    elif isinstance(text, bytes):
        (root / path).write_bytes(text)
    else:
        (root / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        (f"{DEVKIT}/JPEGImages/b.jpg", None, r"b\.jpg does not exist: .*dataset\.root"),
        (f"{DEVKIT}/JPEGImages/b.jpg", b"\xff\xd8\xff", r"b\.jpg is damaged"),
        (f"{DEVKIT}/SegmentationClass/d.png", None, "no mask for d"),
        (f"{DEVKIT}/SegmentationClass/a.png", None, "no mask for a"),
        (f"{DEVKIT}/SegmentationClass/b.png", b"", r"b\.png is damaged"),
        (
            f"{DEVKIT}/ImageSets/Segmentation/val.txt",
            None,
            r"dataset\.voc\.val_list: .*val\.txt does not exist: put",
        ),
        (f"{DEVKIT}/ImageSets/Segmentation/val.txt", "d\na\n", "listed twice.*: a"),
        (f"{DEVKIT}/ImageSets/Segmentation/train_aug.txt", "a\na\n", "listed twice.*: a"),
        (f"{DEVKIT}/ImageSets/Segmentation/train_aug.txt", "\n", "train_list"),
        (
            "labels.csv",
            None,
            r"dataset\.voc\.labels: .*labels\.csv does not exist: .*labels: annotations",
        ),
        ("labels.csv", "image_id,labels\na,cat\nb,dog\n", "no labels for c"),
        ("labels.csv", "image_id,labels\na,\nb,\nc,\n", "no training image holds a class"),
        ("labels.csv", "image_id,labels\na,yeti\n", "yeti is not a class of VOC.*format: folder"),
    ],
)
def test_faults_in_a_voc_tree_are_refused_by_name(voc, path, content, complaint):
    change_file(voc, path, content)
    with pytest.raises(InputError, match=complaint) as caught:
        learnt_index(voc)
    assert "\n" not in str(caught.value)


def test_faults_in_voc_settings_name_the_key(voc, tmp_path):
    for changes, complaint in [
        ({"classes": ["yeti"]}, r"dataset\.classes.*yeti.*format: folder"),
        ({"root": str(tmp_path / "gone")}, r"dataset\.root"),
        ({"voc": {**voc["voc"], "labels": "labels.txt"}}, r"dataset\.voc\.labels"),
        ({"voc": {**voc["voc"], "labels": "none.npy"}}, r"dataset\.voc\.labels.*annotations"),
        ({"voc": {**voc["voc"], "labels": "annotations"}}, r"dataset\.voc\.labels.*Annotations"),
        ({"classes": ["train"]}, "no training image"),
    ]:
        with pytest.raises(InputError, match=complaint):
            learnt_index({**voc, **changes})


def test_many_faults_are_listed_in_one_line(voc, tmp_path):
    for image_id in "abcde":
        (tmp_path / DEVKIT / f"JPEGImages/{image_id}.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg .*b\.jpg .*c\.jpg .*\(and 2 more\)"):
        learnt_index(voc)


def test_a_class_without_training_image_is_mentioned(voc):
    voc["classes"] = ["cat", "dog", "sheep"]
    assert any("no training image holds sheep" in note for note in learnt_index(voc).notes)


def test_sizes_are_those_of_the_upright_image(voc, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(tmp_path / DEVKIT / "JPEGImages/a.jpg", exif=exif)
    with pytest.raises(InputError, match=r"a\.png is 20x12, its image \(turned upright\) 12x20"):
        learnt_index(voc)
    save_mask(tmp_path / DEVKIT / "SegmentationClass/a.png", 8, width=12, height=20)
    index = learnt_index(voc)
    assert (index.record("a").width, index.record("a").height) == (12, 20)
    assert index.read_image(index.record("a")).shape == (20, 12, 3)


def test_tiny_images_are_refused_by_name(voc, tmp_path):
    save_image(tmp_path / DEVKIT / "JPEGImages/c.jpg", 1, 1)
    with pytest.raises(InputError, match=r"c\.jpg is 1x1"):
        learnt_index(voc)


def test_real_photographs(real_data):
    settings = {
        "format": "voc",
        "root": str(real_data / "voc2012-animals"),
        "classes": ["cat", "cow", "dog", "horse", "person", "sheep"],
        "voc": {
            "devkit": DEVKIT,
            "train_list": "ImageSets/Segmentation/train_aug.txt",
            "val_list": "ImageSets/Segmentation/val.txt",
            "test_list": None,
            "scored_list": "ImageSets/Segmentation/train.txt",
            "labels": "image_labels.csv",
            "masks": "SegmentationClass",
        },
    }
    index = learnt_index(settings)
    assert (len(index.split("train")), len(index.split("val"))) == (640, 245)
    assert sum(r.scored for r in index.split("train")) == 436
    assert all(r.scored for r in index.split("val"))
    assert index.mask_values == (8, 10, 12, 13, 15, 17)
    settings["voc"]["labels"] = "../voc2012-lists/cls_labels.npy"
    assert learnt_index(settings).digest == index.digest
    # Masks and labels come from different sources: what is drawn must be labelled.
    for item in index.split("val")[::16]:
        drawn = set(np.unique(index.read_mask(item)).tolist()) - {0, 255}
        assert drawn <= {index.classes.index(name) + 1 for name in item.labels}
        assert index.read_image(item).shape == (item.height, item.width, 3)


def test_real_lists(real_data):
    lists = {path.name: read_list(path) for path in (real_data / "voc2012-lists").glob("*.txt")}
    assert {name: len(ids) for name, ids in lists.items()} == {
        "train_aug_id.txt": 10582,
        "val_id.txt": 1449,
        "test.txt": 1456,
    }
    assert lists["test.txt"][0] == "2008_000006"


@pytest.fixture
def voc2012(real_data, tmp_path):
    """VOC in full, as far as names go: the real lists, and one photograph under all of them."""
    lists = real_data / "voc2012-lists"
    devkit = tmp_path / DEVKIT
    ids = {name: read_list(lists / f"{name}.txt") for name in ("train_aug_id", "val_id", "test")}
    own = ids["train_aug_id"][:1464]  # which of them are VOC's own does not matter here
    save_image(tmp_path / "one.jpg")
    save_mask(tmp_path / "one.png", 0, 8)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (devkit / folder).mkdir(parents=True)
    for image_id in chain(*ids.values()):
        (devkit / f"JPEGImages/{image_id}.jpg").hardlink_to(tmp_path / "one.jpg")
    for image_id in chain(own, ids["val_id"]):
        (devkit / f"SegmentationClass/{image_id}.png").hardlink_to(tmp_path / "one.png")
    (devkit / "ImageSets/Segmentation/train.txt").write_text("\n".join(own))
    return lists


def test_voc2012_with_the_lists_of_the_field(voc2012, tmp_path, monkeypatch):
    """By configuration alone, and fast enough to be asked before every run."""
    monkeypatch.setenv("VOC_ROOT", str(tmp_path))
    monkeypatch.setenv("VOC_SALIENCY", str(tmp_path))
    monkeypatch.setenv("LISTS", str(voc2012))
    overlay = tmp_path / "mine.yaml"
    names = {"train_list": "train_aug_id.txt", "val_list": "val_id.txt", "test_list": "test.txt"}
    voc = {key: f"$LISTS/{name}" for key, name in (names | {"labels": "cls_labels.npy"}).items()}
    overlay.write_text(json.dumps({"dataset": {"voc": voc}}))
    dataset = load([CONFIG / "voc2012.yaml", overlay]).dataset
    index = with_test_images(build_index(dataset), dataset)
    assert {name: len(ids) for name, ids in splits_of(index).items()} == {
        "train": 10582,
        "val": 1449,
        "test": 1456,
    }
    assert sum(r.scored for r in index.split("train")) == 1464
    assert all(r.labels for r in index.split("train") + index.split("val"))
    assert not any(r.labels or r.scored for r in index.split("test"))


# --- folder


@pytest.fixture
def photos(tmp_path):
    """A function that lays out photographs and a CSV and returns the settings."""

    def lay_out(csv, names=("a.jpg", "b.PNG", "c.webp"), **options):
        for name in names:
            save_image(tmp_path / "images" / name)
        (tmp_path / "labels.csv").write_text(csv)
        folder = {"images": "images", "labels": "labels.csv", "masks": None}
        classes = options.pop("classes", None)
        return {
            "format": "folder",
            "root": str(tmp_path),
            "classes": classes,
            "folder": {**folder, "val_list": None, "test_list": None, **options},
        }

    return lay_out


def test_folder_with_a_column_per_class(photos):
    index = whole_index(photos("image_id,zebra,ant\na,1,0\nb.PNG,1,1\n"))
    assert index.classes == ("zebra", "ant")
    assert index.mask_values == (1, 2)
    assert splits_of(index) == {"train": ["a", "b"], "val": [], "test": ["c"]}
    assert index.record("b").image == "images/b.PNG"
    assert index.record("b").labels == ("zebra", "ant")
    assert not any(r.scored or r.mask for r in index.records)
    assert sum("predicted only: 1 (c)" in note for note in index.notes) == 1


def test_folder_with_a_list_of_names(photos):
    csv = "image_id,labels\na,zebra\nb,zebra;ant\nc,bee\n"
    index = learnt_index(photos(csv))
    assert index.classes == ("ant", "bee", "zebra")
    index = learnt_index(photos(csv, classes=["zebra", "ant"]))
    assert index.classes == ("zebra", "ant") and index.mask_values == (1, 2)
    assert splits_of(index)["train"] == ["a", "b"]


def test_folder_with_some_of_the_columns_keeps_the_mask_values(photos):
    csv = "image_id,ant,bee,zebra\na,0,0,1\nb,1,1,0\nc,0,1,0\n"
    index = learnt_index(photos(csv, classes=["zebra", "ant"]))
    assert (index.mask_values, index.other_values) == ((3, 1), (2,))
    assert splits_of(index)["train"] == ["a", "b"]
    assert index.record("b").labels == ("ant",)


def test_folder_with_masks(photos, tmp_path):
    save_mask(tmp_path / "masks/a.png", 0, 1, 2, 255)
    save_mask(tmp_path / "masks/c.png", 0)
    csv = "image_id,split,ant,bee\na,train,1,1\nb,train,1,0\nc,val,0,0\n"
    index = learnt_index(photos(csv, masks="masks"))
    assert {r.image_id: (r.mask, r.scored) for r in index.records} == {
        "a": ("masks/a.png", True),
        "b": (None, False),
        "c": ("masks/c.png", True),
    }
    assert index.record("c").split == "val"
    assert index.read_mask(index.record("a"))[0, :4].tolist() == [0, 1, 2, 255]


@pytest.mark.parametrize(
    ("masks", "complaint"),
    [("maks", "the folder .*maks does not exist"), ("other", ".*other has a mask for none")],
)
def test_a_wrong_folder_of_masks_is_refused(photos, tmp_path, masks, complaint):
    save_mask(tmp_path / "masks/a.png", 0, 1)
    save_mask(tmp_path / "other/x.png", 0, 1)
    csv = "image_id,ant\na,1\nb,1\n"
    assert learnt_index(photos(csv, masks="masks")).record("a").mask
    with pytest.raises(
        InputError, match=rf"^dataset\.folder\.masks: {complaint}.*set null"
    ) as caught:
        learnt_index(photos(csv, masks=masks))
    assert "\n" not in str(caught.value)


def test_missing_files_of_a_folder_name_their_key(photos, tmp_path):
    csv = "image_id,ant\na,1\n"
    with pytest.raises(
        InputError, match=r"^dataset\.folder\.test_list: .*no\.txt does not exist: "
    ):
        learnt_index(photos(csv, test_list="no.txt"))
    settings = photos(csv)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(InputError, match=r"^dataset\.folder\.labels: .*\.csv does not exist: "):
        learnt_index(settings)


def test_folder_with_lists_of_splits(photos, tmp_path):
    (tmp_path / "val.txt").write_text("b\n")
    (tmp_path / "test.txt").write_text("my photo.jpg\n")
    settings = photos(
        "image_id,ant\na,1\nb,1\n",
        names=("a.jpg", "b.jpg", "my photo.jpg"),
        val_list="val.txt",
        test_list="test.txt",
    )
    expected = {"train": ["a"], "val": ["b"], "test": ["my photo"]}
    assert splits_of(whole_index(settings)) == expected


def test_files_that_are_no_images_are_passed_over(photos, tmp_path):
    settings = photos("image_id,ant\na,1\n", names=("a.jpg",))
    (tmp_path / "images/notes.txt").write_text("x")
    (tmp_path / "images/.a.jpg").write_text("x")
    assert [r.image_id for r in learnt_index(settings).records] == ["a"]


@pytest.mark.parametrize(
    ("csv", "names", "complaint"),
    [
        ("image_id,ant\na,1\nx,1\ny,1\n", ("a.jpg",), r"2 of 3 rows: x \(line 3\), y"),
        ("image_id,ant\na,0\nb,0\n", ("a.jpg", "b.jpg"), "no photograph has a label"),
        ("image_id,labels\na,\nb,\n", ("a.jpg", "b.jpg"), r"labels\.csv: no photograph has a"),
        ("image_id,ant\na,1\na.jpg,1\n", ("a.jpg",), "with its extension and one without"),
        ("image_id,ant,ant\na,1,1\n", ("a.jpg",), "twice"),
        ("image_id,ant\na,1\n", ("a.jpg", "a.png"), "same id"),
        ("image_id,ant\na,1\n", (), "images"),
        ("image_id,ant\na..b,1\n", ("a.jpg",), r"a\.\.b"),
        ("image_id,split,ant\na,test,1\n", ("a.jpg",), "no training image"),
        ("image_id,background\na,1\n", ("a.jpg",), "background"),
    ],
)
def test_faults_in_a_folder_are_refused_by_name(photos, csv, names, complaint):
    with pytest.raises(InputError, match=complaint):
        learnt_index(photos(csv, names=names))


def test_faults_in_folder_lists_are_refused_by_name(photos, tmp_path):
    (tmp_path / "val.txt").write_text("nobody\n")
    csv = "image_id,ant\na,1\nb,1\nc,1\n"
    with pytest.raises(
        InputError, match=r"_list: val\.txt names what is no image: nobody \(line 1\)"
    ):
        learnt_index(photos(csv, val_list="val.txt"))
    (tmp_path / "val.txt").write_text("b\nb.PNG\n")
    with pytest.raises(InputError, match=r"val_list: b in val\.txt is listed twice"):
        learnt_index(photos(csv, val_list="val.txt"))
    with pytest.raises(InputError, match="column split"):
        learnt_index(photos("image_id,split,ant\na,val,1\n", val_list="val.txt"))
    with pytest.raises(InputError, match=r"dataset\.classes: .*labels\.csv knows no yeti"):
        learnt_index(photos(csv, classes=["yeti"]))


# --- command


def run_command(*arguments, name="index_dataset"):
    command = [sys.executable, "-m", f"workflow_scripts.{name}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_both_files_or_one_line(voc, tmp_path):
    folder = tmp_path / "results"
    done = run_command("--settings", json.dumps(voc), "--data", str(folder))
    assert done.returncode == 0, done.stderr
    assert "3 train, 2 val" in done.stderr
    assert read_dataset(folder) == learnt_index(voc)
    done = run_command(
        "--settings", json.dumps(voc), "--data", str(folder), name="index_test_images"
    )
    assert done.returncode == 0, done.stderr
    assert "1 images to predict" in done.stderr
    assert read_dataset(folder, test=True) == whole_index(voc)

    (folder / "index.csv").unlink()
    voc["root"] = "/no/such/folder"
    failed = run_command("--settings", json.dumps(voc), "--data", str(folder))
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: dataset.root")
    assert failed.stderr.count("\n") == 1
    assert not (folder / "index.csv").exists()

"""COCO's annotations as a data set: what is indexed, and what its masks look like."""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from other_user import somebody_else
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from workflow_scripts import check_run as check_command
from wsss.configuration.data_sections import Dataset
from wsss.configuration.resolve import defaults, merge
from wsss.datasets.coco import masks as coco_masks
from wsss.datasets.coco.annotations import read_annotations
from wsss.datasets.coco.masks import Region, digest_of_annotations, make_masks, paint
from wsss.datasets.formats import (
    build_index,
    digest_of_listed,
    listed_files,
    with_test_images,
    without_test_images,
)
from wsss.datasets.ground_truth import ground_truth
from wsss.datasets.index import check_id
from wsss.errors import InputError
from wsss.storage.images import read_mask

DEFAULTS = defaults(Dataset)
NOT_IN_COCO = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
HEIGHT, WIDTH = 12, 20


# --- files by hand


def rectangle(left, top, right, bottom):
    """The polygon of the pixels left..right-1, top..bottom-1."""
    return [left, top, right, top, right, bottom, left, bottom]


def rle(covered):
    """Uncompressed RLE of a bool map: runs down the columns, the first of them zeros."""
    flat = covered.flatten(order="F")
    ends = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff([0, *ends, flat.size]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(covered.shape)}


def annotation(number, image, category, outline, area=10, crowd=0):
    segmentation = outline if isinstance(outline, dict) else [outline]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "area": area,
        "iscrowd": crowd,
        "bbox": [0, 0, 1, 1],
    }


BOX = rectangle(2, 2, 8, 6)
CATEGORIES = [(18, "dog"), (1, "person"), (67, "dining table")]
CONTENT = {
    "train": {
        "images": [7, 3, 5, 1],
        "annotations": [
            annotation(11, 3, 18, BOX),
            annotation(12, 3, 1, rle(np.ones((HEIGHT, WIDTH), bool)), crowd=1),
            annotation(13, 1, 67, BOX, 24),
            annotation(14, 1, 1, rectangle(4, 4, 6, 5), 2),
            annotation(15, 7, 18, BOX),
        ],
    },
    "val": {"images": [20, 21, 22], "annotations": [annotation(1, 20, 1, BOX)]},
}
CONTENT["val"]["annotations"].append(annotation(2, 22, 67, BOX))


@pytest.fixture
def coco(tmp_path):
    """A data set of four and three images; the section `dataset` that describes it."""
    for split, content in CONTENT.items():
        write(tmp_path, split, content["images"], content["annotations"])
    return merge(DEFAULTS, {"name": "small", "format": "coco", "root": str(tmp_path)})


def name_of(split, number):
    return f"COCO_{split}2014_{number:012d}"


def write(root, split, images, annotations, categories=CATEGORIES):
    for folder in (root / f"{split}2014", root / "annotations"):
        folder.mkdir(exist_ok=True)
    for number in images:
        grey = Image.new("RGB", (WIDTH, HEIGHT), "grey")
        grey.save(root / f"{split}2014/{name_of(split, number)}.jpg")
    content = {
        "images": [
            {
                "id": number,
                "file_name": f"{name_of(split, number)}.jpg",
                "width": WIDTH,
                "height": HEIGHT,
            }
            for number in images
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": "x"} for i, name in categories],
    }
    file_of(root, split).write_text(json.dumps(content))


def file_of(root, split):
    return root / f"annotations/instances_{split}2014.json"


def change(path, edit):
    """Edit the content of an annotation file in place."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def section(settings):
    """The section `dataset` of nested dicts."""
    return Dataset.model_validate_json(json.dumps(settings))


def learnt_index(settings, processes=1):
    return build_index(section(settings), processes=processes)


def whole_index(settings):
    return with_test_images(learnt_index(settings), section(settings))


def ids(index, split):
    return [record.image_id for record in index.split(split)]


def mask_files(index):
    return {r.image_id: index.root / r.mask for r in index.records if r.mask}


def with_options(settings, **options):
    return merge(settings, {"coco": options})


# --- painting


def painted_by_rule(regions, order):
    """The value of each pixel from the rule in words: which of the regions over it counts?"""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for y, x in np.ndindex(HEIGHT, WIDTH):
        here = [(p, r, cover) for p, (r, cover) in enumerate(regions) if cover[y, x]]
        objects = [(p, r) for p, r, _ in here if not r.crowd]
        if order == "annotation_order":
            mask[y, x] = max(objects)[1].value if objects else 0
        elif objects:
            mask[y, x] = min(objects, key=lambda item: (item[1].area, -item[0]))[1].value
        elif here:
            mask[y, x] = 255
    return mask


def random_region(random, number):
    """A region with the pixels it covers; areas of the file are not those, and often tie."""
    x, y = random.integers(0, [WIDTH - 1, HEIGHT - 1])
    right, bottom = random.integers([x + 1, y + 1], [WIDTH + 1, HEIGHT + 1])
    covered = np.zeros((HEIGHT, WIDTH), bool)
    covered[y:bottom, x:right] = True
    kind, crowd = random.integers(3), bool(random.random() < 0.2)
    if kind == 0:
        outline = [rectangle(*map(int, (x, y, right, bottom)))]
    else:
        covered &= random.random((HEIGHT, WIDTH)) < 0.7
        outline = rle(covered)
        if kind == 2:
            packed = coco_mask.encode(np.asfortranarray(covered.astype(np.uint8)))
            outline["counts"] = packed["counts"].decode()
    area = float(random.integers(1, 5))
    return Region(number, int(random.integers(1, 81)), crowd, area, outline), covered


@pytest.mark.parametrize("order", ["smallest_on_top", "annotation_order"])
def test_masks_follow_the_rule_of_their_order(order):
    random = np.random.default_rng(0)
    seen = Counter()
    for _ in range(60):
        scene = [random_region(random, number) for number in range(random.integers(0, 9))]
        mask = paint([region for region, _ in scene], HEIGHT, WIDTH, order)
        np.testing.assert_array_equal(mask, painted_by_rule(scene, order))
        assert mask.dtype == np.uint8
        seen.update(mask.ravel().tolist())
    assert seen[0] and len(seen) > 50 and bool(seen[255]) == (order == "smallest_on_top")


def test_slanted_outlines_fill_what_they_surround():
    """Pixels whose centre is clearly inside or outside, by their side of each edge."""
    corners = np.array([(3.0, 1.5), (17.5, 4.0), (8.2, 10.5)])
    mask = paint(
        [Region(1, 5, False, 1, [corners.ravel().tolist()])], HEIGHT, WIDTH, "smallest_on_top"
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    edges = np.roll(corners, -1, axis=0) - corners
    distances = [
        (ex * (y - cy) - ey * (x - cx)) / np.hypot(ex, ey)
        for (cx, cy), (ex, ey) in zip(corners, edges, strict=True)
    ]
    nearest = np.min(distances, axis=0)
    assert (mask[nearest > 1] == 5).all() and (nearest > 1).sum() > 15
    assert (mask[nearest < -1] == 0).all()


def test_several_polygons_are_one_object_and_lines_are_nothing():
    outline = [[5, 5], [1, 1, 9, 9], rectangle(0, 0, 2, 2), rectangle(4, 0, 6, 2)]
    mask = paint([Region(1, 5, False, 8, outline)], HEIGHT, WIDTH, "smallest_on_top")
    expected = np.zeros((HEIGHT, WIDTH))
    expected[:2, [0, 1, 4, 5]] = 5
    np.testing.assert_array_equal(mask, expected)
    line = Region(1, 5, False, 8, [[1, 1, 9, 9]])
    assert not paint([line], HEIGHT, WIDTH, "smallest_on_top").any()


def test_a_crowd_of_another_size_is_stretched():
    covered = np.zeros((HEIGHT // 2, WIDTH // 2), bool)
    covered[2:, 3:7] = True
    mask = paint([Region(1, 5, True, 8, rle(covered))], HEIGHT, WIDTH, "smallest_on_top")
    np.testing.assert_array_equal(mask, 255 * np.kron(covered, np.ones((2, 2))))


FULL = {"counts": [0, HEIGHT * WIDTH], "size": [HEIGHT, WIDTH]}


@pytest.mark.parametrize(
    ("outline", "complaint"),
    [
        ([[1, 2, 3, 4, 5]], "x1, y1"),
        ([{"x": 1}], "x1, y1"),
        ([1, 2, 3, 4, 5, 6], "x1, y1"),
        ([[1, 2, 3, 4, 5, None]], "far out"),
        ([[1, 2, 3, 4, 5, float("nan")]], "far out"),
        ([[1, 2, 3, 4, 5, -1e6]], "far out"),
        (FULL | {"size": [WIDTH, HEIGHT]}, "12x20, its image 20x12"),
        (FULL | {"size": [HEIGHT]}, "cannot be read"),
        (FULL | {"size": None}, "cannot be read"),
        (FULL | {"counts": [0, HEIGHT * WIDTH + 1]}, "cannot be read"),
        (FULL | {"counts": [-1, HEIGHT * WIDTH + 1]}, "cannot be read"),
        (FULL | {"counts": "PP"}, "cannot be read"),
        (FULL | {"counts": None}, "cannot be read"),
        ({}, "cannot be read"),
    ],
)
def test_broken_outlines_are_refused_with_their_annotation(outline, complaint):
    with pytest.raises(InputError, match=f"^annotation 77: .*{complaint}") as caught:
        paint([Region(77, 1, False, 1, outline)], HEIGHT, WIDTH, "smallest_on_top")
    assert "\n" not in str(caught.value)


def test_an_outline_that_was_cut_off_is_refused_or_the_rest_is_background():
    """The library leaves what no run reaches as it was in memory."""
    random = np.random.default_rng(0)
    covered = random.random((HEIGHT, WIDTH)) < 0.5
    counts = rle(covered)["counts"]
    for length in range(len(counts)):
        outline, reached = FULL | {"counts": counts[:length]}, sum(counts[:length])
        expected = covered.flatten(order="F")
        expected[reached:] = False
        with contextlib.suppress(InputError):
            mask = paint([Region(1, 1, False, 1, outline)], HEIGHT, WIDTH, "smallest_on_top")
            np.testing.assert_array_equal(mask.flatten(order="F"), expected)


# --- the index


def test_images_labels_and_classes(coco, tmp_path):
    index = learnt_index(coco)
    assert index.classes == ("person", "dog", "dining table")  # by ascending category id
    assert index.mask_values == (1, 2, 3)
    assert ids(index, "train") == [name_of("train", n) for n in (1, 3, 7)]
    assert ids(index, "val") == [name_of("val", n) for n in (20, 22)]
    assert ids(index, "test") == []
    labels = {record.image_id[-2:]: record.labels for record in index.records}
    assert labels["01"] == ("person", "dining table")
    assert labels["03"] == ("person", "dog")  # the person is only in a crowd
    assert all(record.scored and record.mask for record in index.records)
    record = index.record(name_of("train", 1))
    assert record.image == f"train2014/{name_of('train', 1)}.jpg"
    assert (record.width, record.height) == (WIDTH, HEIGHT)
    assert index.notes == (
        f"train: 1 images without annotations left out: {name_of('train', 5)}",
        f"val: 1 images without annotations left out: {name_of('val', 21)}",
    )


def test_masks_of_the_index_by_hand(coco):
    index = learnt_index(coco)
    table, person = np.zeros((HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), 255)
    table[2:6, 2:8], table[4, 4:6] = 3, 1
    person[2:6, 2:8] = 2
    for number, expected in ((1, table), (3, person)):
        record = index.record(name_of("train", number))
        np.testing.assert_array_equal(index.read_mask(record), expected)
    with Image.open(mask_files(index)[name_of("train", 1)]) as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(stored, table)


def test_crowds_are_background_in_annotation_order(coco):
    index = learnt_index(with_options(coco, masks="annotation_order"))
    dog = np.zeros((HEIGHT, WIDTH))
    dog[2:6, 2:8] = 2
    np.testing.assert_array_equal(index.read_mask(index.record(name_of("train", 3))), dog)


def test_a_subset_of_classes(coco):
    """Images with none of them are left out; masks keep the value of each class in the file."""
    index = learnt_index(merge(coco, {"classes": ["dining table", "dog"]}))
    assert index.classes == ("dining table", "dog") and index.mask_values == (3, 2)
    assert ids(index, "train") == [name_of("train", n) for n in (1, 3, 7)]
    assert ids(index, "val") == [name_of("val", 22)]
    mask = index.read_mask(index.record(name_of("train", 1)))
    assert Counter(mask.ravel().tolist()) == {0: HEIGHT * WIDTH - 24, 1: 22, 255: 2}
    keep = with_options(coco, unannotated="keep")
    assert ids(learnt_index(merge(keep, {"classes": ["dog", "person"]})), "val") == [
        name_of("val", 20)
    ]
    with pytest.raises(InputError, match=r"dataset\.classes: .*2014\.json has no category yeti"):
        learnt_index(merge(coco, {"classes": ["dog", "yeti"]}))


def test_validation_images_without_annotations_may_be_kept(coco):
    index = learnt_index(with_options(coco, unannotated="keep"))
    told = f"val: 1 images without annotations kept as all background: {name_of('val', 21)}"
    assert told in index.notes
    assert ids(index, "val") == [name_of("val", n) for n in (20, 21, 22)]
    assert ids(index, "train") == [name_of("train", n) for n in (1, 3, 7)]
    empty = index.record(name_of("val", 21))
    assert empty.labels == () and empty.scored and not index.read_mask(empty).any()


def test_lists_name_images_by_stem_number_or_file(coco, tmp_path):
    (tmp_path / "train.txt").write_text(f"7\n\n{name_of('train', 1)}\n")
    (tmp_path / "val.txt").write_text(f"000000000022\n{name_of('val', 20)}.jpg\n")
    index = learnt_index(with_options(coco, train_list="train.txt", val_list="val.txt"))
    assert ids(index, "train") == [name_of("train", n) for n in (7, 1)]
    assert ids(index, "val") == [name_of("val", n) for n in (22, 20)]


def test_both_splits_from_one_file(coco, tmp_path):
    one = with_options(
        coco, val_images="train2014", val_annotations="annotations/instances_train2014.json"
    )
    with pytest.raises(InputError, match=r"dataset\.coco\.train_list is not set"):
        learnt_index(one)
    (tmp_path / "train.txt").write_text("1\n3\n")
    (tmp_path / "val.txt").write_text("7\n")
    listed = with_options(one, train_list="train.txt", val_list="val.txt")
    index = learnt_index(listed)
    assert len(ids(index, "train")) == 2 and ids(index, "val") == [name_of("train", 7)]
    assert len({file.parent for file in mask_files(index).values()}) == 1
    (tmp_path / "val.txt").write_text("3\n")
    with pytest.raises(InputError, match="listed twice"):
        learnt_index(listed)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("7\n8\n", r"train\.txt, line 2: '8' is no image of .*train2014\.json"),
        ("7\n0007\n", r"train\.txt, line 2: '0007' is listed twice"),
        ("\n", r"train_list: .*names no image"),
        (None, r"dataset\.coco\.train_list: .*does not exist: "),
    ],
)
def test_faults_in_a_list(coco, tmp_path, lines, complaint):
    if lines is not None:
        (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(InputError, match=complaint):
        learnt_index(with_options(coco, train_list="train.txt"))


def test_images_that_are_only_predicted(coco, tmp_path):
    (tmp_path / "test2014").mkdir()
    for name in ("t2.jpg", "t1.png", ".hidden.png", "notes.txt"):
        Image.new("RGB", (9, 11)).save(tmp_path / "test2014" / name, "PNG")
    index = whole_index(with_options(coco, test_images="test2014"))
    assert ids(index, "test") == ["t1", "t2"]
    record = index.record("t1")
    assert (record.mask, record.scored, record.labels) == (None, False, ())
    assert (record.width, record.height) == (9, 11)
    (tmp_path / "test.txt").write_text("t2\n")
    listed = with_options(coco, test_images="test2014", test_list="test.txt")
    assert ids(whole_index(listed), "test") == ["t2"]
    assert section(coco) == without_test_images(section(listed))
    (tmp_path / "test.txt").write_text("t3\n")
    with pytest.raises(InputError, match="has no image t3"):
        whole_index(listed)
    (tmp_path / "test2014/t2.png").touch()
    with pytest.raises(InputError, match=r"test2014: another file has the id of t2\.jpg"):
        whole_index(with_options(coco, test_images="test2014"))
    with pytest.raises(InputError, match=r"test_list: test_images is not set"):
        whole_index(with_options(coco, test_list="test.txt"))
    with pytest.raises(InputError, match=r"dataset\.coco\.test_images: .*nowhere"):
        whole_index(with_options(coco, test_images="nowhere"))


def official_categories():
    return [(number, f"class {number}") for number in range(1, 91) if number not in NOT_IN_COCO]


def test_the_official_ids_become_1_to_80(coco, tmp_path):
    categories = official_categories()
    outlines = [
        annotation(
            number, 1, number, rectangle(k % WIDTH, k // WIDTH, k % WIDTH + 1, k // WIDTH + 1)
        )
        for k, (number, _) in enumerate(categories)
    ]
    write(tmp_path, "train", [1], outlines, categories[::-1])
    write(tmp_path, "val", [2], [annotation(1, 2, 90, BOX)], categories)
    index = learnt_index(coco)
    assert index.mask_values == tuple(range(1, 81))
    assert index.classes == tuple(name for _, name in categories)
    mask = index.read_mask(index.record(name_of("train", 1))).ravel()
    assert mask[:80].tolist() == list(range(1, 81)) and not mask[80:].any()
    assert index.read_mask(index.record(name_of("val", 2))).max() == 80


# --- faults in the file


def set_in(kind, position, **values):
    def edit(content):
        content[kind][position] |= values

    return edit


def drop_from(kind, position, key):
    return lambda content: content[kind][position].pop(key)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda c: c.pop("categories"), "has no list 'categories'"),
        (lambda c: c.update(images={}), "has no list 'images'"),
        (lambda c: c.update(categories=[]), "has 0 categories"),
        (drop_from("annotations", 1, "image_id"), "annotation 12: image_id"),
        (drop_from("annotations", 1, "id"), "annotation number 2: id"),
        (set_in("annotations", 0, segmentation="x"), "annotation 11: segmentation is 'x'"),
        (set_in("annotations", 0, area="x"), "annotation 11: area is 'x'"),
        (set_in("annotations", 0, iscrowd="no"), "annotation 11: iscrowd is 'no'"),
        (set_in("annotations", 0, area=float("nan")), "annotation 11: area is nan"),
        (set_in("annotations", 0, area=-1), "annotation 11: area"),
        (set_in("annotations", 0, iscrowd=2), "annotation 11: iscrowd"),
        (set_in("annotations", 0, image_id=99), "annotation 11: image_id 99 is not in the file"),
        (set_in("annotations", 0, image_id=[]), "annotation 11: image_id"),
        (set_in("annotations", 0, category_id=2), "annotation 11: category_id 2 is not"),
        (set_in("annotations", 0, id=12), "annotation 12: its id stands twice"),
        (set_in("annotations", 0, segmentation=[[1, 2, 3]]), "annotation 11: a polygon"),
        (set_in("annotations", 1, segmentation=FULL | {"counts": [999]}), "annotation 12: its RLE"),
        (set_in("images", 0, id=3), "image 3: its id or file name .* stands twice"),
        (set_in("images", 0, file_name=f"x/{name_of('train', 3)}.jpg"), "stands twice"),
        (set_in("images", 0, file_name="../../a..b.jpg"), "cannot be an image id"),
        (set_in("images", 0, file_name=3), "image 7 has no file_name"),
        (set_in("images", 0, width="20"), "image 7: width"),
        (set_in("images", 0, height=0), "of another size than it says"),
        (set_in("categories", 0, id=1), "category 1: its id or name"),
        (set_in("categories", 0, name="person"), "its id or name 'person' stands twice"),
        (drop_from("categories", 0, "name"), "category 18 has no name"),
        (set_in("images", 0, width=WIDTH + 1), r"of another size than it says: train2014/.*000007"),
    ],
)
def test_faults_in_annotations_name_file_and_entry(coco, tmp_path, edit, complaint):
    change(file_of(tmp_path, "train"), edit)
    with pytest.raises(InputError, match=complaint) as caught:
        learnt_index(coco)
    assert "instances_train2014.json" in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("manifest.json"))


# --- files of other tools


def without(key):
    return lambda entry: entry.pop(key)


@pytest.mark.parametrize(
    "edit",
    [
        without("iscrowd"),
        lambda entry: entry.update(iscrowd=bool(entry["iscrowd"])),
        lambda entry: entry.update(iscrowd=None) if not entry["iscrowd"] else None,
        without("area"),
        lambda entry: entry.update(area=None),
        without("bbox"),
        lambda entry: entry.update({key: float(entry[key]) for key in ("id", "category_id")}),
    ],
)
def test_what_other_tools_leave_out_is_made_up(coco, tmp_path, edit):
    """The same masks as pycocotools' own reader has from the whole file, smallest on top."""
    path = file_of(tmp_path, "train")

    def edit_objects(content):
        content["annotations"] = [a for a in content["annotations"] if not a["iscrowd"]]
        for entry in content["annotations"]:
            edit(entry)

    reference = coco_of(path)
    change(path, edit_objects)
    index = learnt_index(coco)
    for record in index.split("train"):
        number = int(record.image_id[-12:])
        objects = reference.loadAnns(reference.getAnnIds(number, iscrowd=False))
        expected = np.zeros((HEIGHT, WIDTH), int)
        objects = [(reference.annToMask(o), o["category_id"]) for o in objects]
        for covered, category in sorted(objects, key=lambda item: -int(item[0].sum())):
            expected[covered == 1] = [1, 18, 67].index(category) + 1
        np.testing.assert_array_equal(index.read_mask(record), expected)


def coco_of(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_content(coco, tmp_path, encoding):
    path = file_of(tmp_path, "train")
    path.write_text(path.read_text(), encoding=encoding)
    assert len(learnt_index(coco).split("train")) == 3


@pytest.mark.parametrize("outline", [[], None, {}, [[]], "gone"])
def test_without_an_outline_an_annotation_labels_and_paints_nothing(
    coco, tmp_path, outline, caplog
):
    """Of image 7 it is the only annotation, of image 3 another one is left."""
    values = {"segmentation": outline}
    change(file_of(tmp_path, "train"), set_in("annotations", 4, **values))
    if outline == "gone":
        change(file_of(tmp_path, "train"), drop_from("annotations", 4, "segmentation"))
    index = learnt_index(coco)
    record = index.record(name_of("train", 7))
    assert record.labels == ("dog",) and not index.read_mask(record).any()
    told = "1 of 5 annotations have no outline and paint nothing: 15"
    assert (told in caplog.text) == (outline != [[]])


def test_boxes_alone_are_refused(coco, tmp_path):
    def edit(content):
        for entry in content["annotations"]:
            entry["segmentation"] = []

    change(file_of(tmp_path, "train"), edit)
    with pytest.raises(InputError, match=r"instances_train2014\.json has no segmentation"):
        learnt_index(coco)


@pytest.mark.parametrize("order", ["smallest_on_top", "annotation_order"])
def test_crowds_alone_are_no_ground_truth(coco, tmp_path, order):
    """Some tools write iscrowd 1 for whatever is an RLE."""
    coco = merge(coco, {"coco": {"masks": order}})

    def make_crowds(count):
        def edit(content):
            for entry in content["annotations"][:count]:
                entry["iscrowd"] = 1

        return edit

    path = file_of(tmp_path, "train")
    change(path, make_crowds(2))
    assert len(learnt_index(coco).split("train")) == 3
    change(path, make_crowds(5))
    with pytest.raises(InputError, match=r"in 3 of 3 images .* by crowds \(iscrowd 1\)") as caught:
        build_index(section(coco), paint=False)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("orientation", "names_it"), [(6, True), (1, False)])
def test_photographs_that_exif_turns_are_named_as_such(coco, tmp_path, orientation, names_it):
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (WIDTH, HEIGHT) if names_it else (HEIGHT, WIDTH)
    path = tmp_path / f"train2014/{name_of('train', 7)}.jpg"
    Image.new("RGB", size).save(path, exif=exif)
    with pytest.raises(InputError, match=f"is {HEIGHT}x{WIDTH}, not {WIDTH}x{HEIGHT}") as caught:
        learnt_index(coco)
    assert ("EXIF orientation" in str(caught.value)) == names_it


@pytest.mark.parametrize(
    ("entry", "outline", "complaint"),
    [
        (0, [[1, 2, 3]], "annotation 11: a polygon is no list"),
        (0, [[1, 2, 3, 4, 5, 9e9]], "annotation 11: a polygon leads far out"),
        (1, {"counts": [9], "size": [HEIGHT, WIDTH]}, "annotation 12: the run lengths"),
        (3, {"counts": "1", "size": "1"}, "annotation 14: its RLE cannot be read"),
    ],
)
def test_outlines_that_cannot_be_painted_are_found_without_painting(
    coco, tmp_path, entry, outline, complaint
):
    change(file_of(tmp_path, "train"), set_in("annotations", entry, segmentation=outline))
    with pytest.raises(InputError, match=complaint):
        build_index(section(coco), paint=False)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("text", ["", "{", "\xff", "3", "<html>"])
def test_what_is_not_json_is_refused(coco, tmp_path, text):
    file_of(tmp_path, "train").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"instances_train2014\.json") as caught:
        learnt_index(coco)
    assert "\n" not in str(caught.value)


def test_a_file_name_cannot_lead_out_of_the_data_set(coco, tmp_path):
    change(file_of(tmp_path, "train"), set_in("images", 0, file_name="../../secret.jpg"))
    with pytest.raises(InputError, match="leads out of the data set"):
        learnt_index(coco)


def test_different_categories_are_refused(coco, tmp_path):
    change(file_of(tmp_path, "val"), set_in("categories", 0, id=19))
    with pytest.raises(InputError, match=r"different categories or ids \(dog\)"):
        learnt_index(coco)


def test_absent_files_name_their_key(coco, tmp_path):
    file_of(tmp_path, "val").unlink()
    with pytest.raises(InputError, match=r"^dataset\.coco\.val_annotations: .* does not exist"):
        learnt_index(coco)


def test_absent_photographs_are_found_before_anything_is_painted(coco, tmp_path):
    (tmp_path / f"train2014/{name_of('train', 3)}.jpg").unlink()
    with pytest.raises(InputError, match=r"000003\.jpg does not exist"):
        learnt_index(coco)
    assert not (tmp_path / "masks").exists()


# --- folders of masks


def times(index):
    return {path: path.stat().st_mtime_ns for path in mask_files(index).values()}


def test_the_manifest_says_what_masks_were_made_from(coco, tmp_path):
    index = learnt_index(coco)
    folder = mask_files(index)[name_of("train", 1)].parent
    digest = hashlib.sha256(file_of(tmp_path, "train").read_bytes()).hexdigest()
    assert folder.relative_to(tmp_path) == Path(
        f"masks/smallest_on_top/instances_train2014-{digest[:12]}"
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    masks = [read_mask(folder / f"{name_of('train', n)}.png") for n in (1, 3, 5, 7)]
    of_all = hashlib.sha256(b"".join(hashlib.sha256(m.tobytes()).digest() for m in masks))
    assert manifest["variant"] == "smallest_on_top" and manifest["images"] == 4
    assert manifest["annotations"]["sha256"] == digest
    assert manifest["sha256"] == of_all.hexdigest()
    train, val = ground_truth(index)
    assert (train["folder"], train["train"], train["val"]) == (
        str(folder.relative_to(tmp_path)),
        3,
        0,
    )
    assert (val["train"], val["val"], val["scored"]) == (0, 2, 2)
    assert train["made"] == {
        "variant": "smallest_on_top",
        "images": 4,
        "sha256": of_all.hexdigest(),
        "annotations": {"file": "instances_train2014.json", "sha256": digest},
    }


def test_ground_truth_that_was_not_painted_here(coco, tmp_path):
    """Another program's manifest beside somebody's masks says nothing to us."""
    index = learnt_index(coco)
    (folder,) = {file.parent for i, file in mask_files(index).items() if "val" in i}
    for text in ("{}", "[1]", '{"annotations": 3}', '{"annotations": {"file": "x"}}', "\0"):
        (folder / "manifest.json").write_text(text)
        described = ground_truth(index)[1]
        assert described == {
            "folder": str(folder.relative_to(tmp_path)),
            **{"train": 0, "val": 2, "scored": 2},
        }


def test_masks_are_used_again(coco):
    first = learnt_index(coco)
    before = times(first)
    assert learnt_index(coco, processes=2) == first and times(first) == before


@pytest.mark.parametrize("what", ["mask", "manifest", "damage", "other file", "older painting"])
def test_masks_are_made_again_if_anything_is_amiss(coco, what):
    index = learnt_index(coco)
    file = mask_files(index)[name_of("train", 3)]
    manifest = file.parent / "manifest.json"
    content = json.loads(manifest.read_text())
    if what == "mask":
        file.unlink()
    elif what == "manifest":
        manifest.unlink()
    elif what == "damage":
        manifest.write_text(manifest.read_text()[:40])
    elif what == "other file":
        content["annotations"] |= {"sha256": "0" * 64, "mtime_ns": 0}
        manifest.write_text(json.dumps(content))
    else:
        manifest.write_text(json.dumps(content | {"painting": 0}))
    file.unlink(missing_ok=True)
    learnt_index(coco)
    assert file.is_file()
    assert json.loads(manifest.read_text())["sha256"] == content["sha256"]


def test_an_interrupted_painting_is_not_trusted(coco, tmp_path):
    """A fault in the last image: masks of the others are there, the manifest is not."""
    change(file_of(tmp_path, "train"), set_in("annotations", 4, segmentation=[[1, 2, 3]]))
    with pytest.raises(InputError, match=r"instances_train2014\.json, annotation 15"):
        learnt_index(coco)
    assert list(tmp_path.rglob("masks/**/*.png")) and not list(tmp_path.rglob("manifest.json"))
    assert not list(tmp_path.rglob("*.partial*"))


def test_orders_and_files_never_mix(coco, tmp_path):
    first = learnt_index(coco)
    before = times(first)
    other = learnt_index(with_options(coco, masks="annotation_order"))
    change(
        file_of(tmp_path, "train"), set_in("annotations", 0, segmentation=[rectangle(0, 0, 1, 1)])
    )
    edited = learnt_index(coco)
    assert len({first.digest, other.digest, edited.digest}) == 3
    folders = [mask_files(index)[name_of("train", 3)].parent for index in (first, other, edited)]
    assert len(set(folders)) == 3 and times(first) == before
    assert [json.loads((f / "manifest.json").read_text())["variant"] for f in folders] == [
        "smallest_on_top",
        "annotation_order",
        "smallest_on_top",
    ]


def test_the_digest_of_a_large_file_is_remembered(coco, tmp_path, monkeypatch):
    file, masks = file_of(tmp_path, "train"), tmp_path / "masks"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest_of_annotations(file, masks) == digest
    learnt_index(coco)
    asked = []
    monkeypatch.setattr(coco_masks, "sha256_of", lambda path: asked.append(path) or "new")
    assert digest_of_annotations(file, masks) == digest and not asked
    os.utime(file, (1, 1))
    assert digest_of_annotations(file, masks) == "new" and asked == [file]
    monkeypatch.undo()
    learnt_index(coco)  # the same content: the new time is taken down
    monkeypatch.setattr(coco_masks, "sha256_of", lambda path: "never")
    assert digest_of_annotations(file, masks) == digest


def test_listed_files_count_by_content(coco, tmp_path):
    settings = section(with_options(coco, val_list="val.txt"))
    files = listed_files(settings)
    expected = [file_of(tmp_path, "train"), file_of(tmp_path, "val"), tmp_path / "val.txt"]
    assert files == expected
    digests = [digest_of_listed(settings, file) for file in files]
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in expected[:2]]
    assert digests == [*contents, "missing"]


@pytest.mark.parametrize("folder", ["/masks", "../masks", "a/../../masks"])
def test_masks_stay_below_the_root(coco, folder):
    with pytest.raises(InputError, match=r"^dataset\.coco\.masks_folder: .*leads out"):
        learnt_index(with_options(coco, masks_folder=folder))


def test_a_folder_that_cannot_be_written(coco, tmp_path):
    (tmp_path / "masks").write_text("a file in the way")
    with pytest.raises(InputError, match=r"^dataset\.coco\.masks_folder: .*links") as caught:
        learnt_index(coco)
    assert "\n" not in str(caught.value)


def test_a_data_set_that_may_only_be_read(coco):
    with tempfile.TemporaryDirectory() as name:  # which, unlike tmp_path, others may enter
        for split, content in CONTENT.items():
            write(Path(name), split, content["images"], content["annotations"])
        Path(name).chmod(0o555)
        with somebody_else(), pytest.raises(InputError) as caught:
            learnt_index(merge(coco, {"root": name}))
        Path(name).chmod(0o755)
    assert "masks_folder: masks cannot be written" in str(caught.value)
    assert "Permission denied" in str(caught.value) and "\n" not in str(caught.value)


def many(root, count):
    annotations = [annotation(n, n, 1, BOX) for n in range(1, count + 1)]
    write(root, "val", [], annotations)
    change(
        file_of(root, "val"),
        lambda content: content.update(
            images=[
                {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT}
                for n in range(1, count + 1)
            ]
        ),
    )
    return read_annotations(file_of(root, "val"))


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    peaks = []
    for count in (100, 1000):
        annotations = many(tmp_path, count)
        folder = tmp_path / f"masks{count}"
        tracemalloc.start()
        make_masks(annotations, "0" * 64, folder, "smallest_on_top", 1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(list(folder.glob("*.png"))) == count
    assert peaks[1] < peaks[0] + 50_000, peaks


# --- before a run


def test_a_check_paints_nothing(coco, tmp_path, capsys, monkeypatch):
    overlay = tmp_path / "overlay.json"
    section = {"name": "small", "format": "coco", "root": str(tmp_path)}
    overlay.write_text(json.dumps({"dataset": section, "recipe": "compact", "device": "cpu"}))
    arguments = ["--configfile", str(overlay), "--results", str(tmp_path / "results")]
    check_command.main(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert not (tmp_path / "masks").exists()
    assert any(
        line.startswith("note    masks") and "5 not there yet" in line and "painting" in line
        for line in lines
    )
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert check_command.main(arguments) == 1
    said = capsys.readouterr().out
    assert (
        f"problem masks     dataset.coco.masks_folder: masks cannot be written to {tmp_path}"
        in said
    )
    learnt_index(coco)
    check_command.main(arguments)
    assert "ok      masks     5 readable" in capsys.readouterr().out.splitlines()


# --- real photographs


@pytest.fixture
def reference(coco_tiny):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(f"{coco_tiny['root']}/{coco_tiny['coco']['train_annotations']}")


def test_real_annotations(coco_tiny, reference):
    index = learnt_index(merge(DEFAULTS, coco_tiny), processes=2)
    assert (len(index.split("train")), len(index.split("val"))) == (96, 32)
    categories = {c["id"]: c["name"] for c in reference.loadCats(reference.getCatIds())}
    assert set(range(1, 91)) - set(categories) == NOT_IN_COCO
    assert index.classes == tuple(categories[i] for i in sorted(categories))
    assert "dining table" in index.classes
    value = {category: n for n, category in enumerate(sorted(categories), 1)}
    for record in index.records:
        check_id(record.image_id, "test")
        entries = reference.imgToAnns[int(record.image_id)]
        assert set(record.labels) == {categories[a["category_id"]] for a in entries}
        expected = np.zeros((record.height, record.width), np.uint8)
        # From top to bottom: only what is still free is filled.
        single = [a for a in entries if not a["iscrowd"]]
        for a in sorted(single[::-1], key=lambda a: a["area"]):
            expected[(reference.annToMask(a) == 1) & (expected == 0)] = value[a["category_id"]]
        for a in entries:
            if a["iscrowd"]:
                expected[(reference.annToMask(a) == 1) & (expected == 0)] = 255
        np.testing.assert_array_equal(index.read_mask(record), expected)


def test_real_annotations_in_their_order(coco_tiny, reference):
    index = learnt_index(
        with_options(merge(DEFAULTS, coco_tiny), masks="annotation_order"), processes=2
    )
    value = {category: n for n, category in enumerate(sorted(reference.getCatIds()), 1)}
    for record in index.records:
        expected = np.zeros((record.height, record.width), np.uint8)
        for a in reference.imgToAnns[int(record.image_id)]:
            if not a["iscrowd"]:
                expected[reference.annToMask(a) == 1] = value[a["category_id"]]
        np.testing.assert_array_equal(index.read_mask(record), expected)

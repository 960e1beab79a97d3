"""The demo data set: the same from the same seed, fair splits, exact masks, usable saliency."""

import dataclasses
import itertools
from collections import Counter

import cv2
import numpy as np
import pytest
from repository import ROOT

from wsss.configuration.data_sections import Dataset, Demo, Source
from wsss.datasets.demo.build import build
from wsss.datasets.demo.drawing import _photograph, render
from wsss.datasets.demo.material import CLASSES, GLYPHS, SOURCES
from wsss.datasets.demo.plan import plan
from wsss.errors import InputError
from wsss.method.saliency import create_source

FULL = Demo()  # what `make demo` draws
SMALL = Demo(train_images=16, val_images=6, size=(224, 176), seed=3)


def dataset(classes=None):
    return Dataset(name="demo", format="demo", classes=classes, demo=SMALL)


@pytest.fixture(scope="module")
def compositions():
    return plan(FULL)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build(dataset(), tmp_path_factory.mktemp("demo"))


def of_split(compositions, split):
    return [composition for composition in compositions if composition.split == split]


def crops_of(composition):
    layers = [composition.upper, composition.lower]
    layers += [composition.board.layer] if composition.board else []
    return [layer.crop for layer in layers]


def overlap(a, b):
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return a.source == b.source and across > 0 and down > 0


def test_the_same_seed_gives_the_same_files(small, tmp_path):
    again = build(dataset(), tmp_path)
    assert again.digest == small.digest
    for record in small.records:
        for name in (record.image, record.mask):
            assert (tmp_path / name).read_bytes() == (small.root / name).read_bytes()


def test_another_seed_gives_other_images():
    first, other = plan(SMALL)[0], plan(SMALL.model_copy(update={"seed": 4}))[0]
    shapes = {render(c)[0].shape[:2] for c in (first, other)}
    assert first != other and shapes <= {(176, 224), (224, 176)}


def test_splits_share_neither_glyph_nor_background(compositions):
    train, val = of_split(compositions, "train"), of_split(compositions, "val")
    glyphs = [{o.glyph for c in split for o in c.objects} for split in (train, val)]
    assert glyphs[0].isdisjoint(glyphs[1])
    train_crops = {crop for c in train for crop in crops_of(c)}
    val_crops = {crop for c in val for crop in crops_of(c)}
    assert not [pair for pair in itertools.product(train_crops, val_crops) if overlap(*pair)]


def test_crops_lie_inside_of_their_photographs(compositions):
    for crop in {crop for c in compositions for crop in crops_of(c)}:
        height, width = _photograph(SOURCES[crop.source].file).shape[:2]
        assert 0 <= crop.x < crop.x + crop.width <= width
        assert 0 <= crop.y < crop.y + crop.height <= height


def test_every_class_has_glyphs_and_images_enough(compositions):
    assert len(CLASSES) >= 8
    for split, fewest_glyphs, fewest_images in (("train", 3, 20), ("val", 2, 5)):
        images = Counter(n for c in of_split(compositions, split) for n in _names(c))
        for name in CLASSES:
            assert len(GLYPHS[name][split]) >= fewest_glyphs
            assert images[name] >= fewest_images, (name, split)
    several = [len(_names(c)) > 1 for c in of_split(compositions, "train")]
    assert 0.35 < np.mean(several) < 0.75
    assert {len(c.objects) for c in compositions} == {1, 2, 3}


def test_classes_keep_to_their_surroundings(compositions):
    scenes = [c.scene for c in compositions if "sea_animal" in _names(c)]
    others = [c.scene for c in compositions if "sea_animal" not in _names(c)]
    assert scenes.count("water") / len(scenes) > 3 * others.count("water") / len(others)


def test_images_masks_and_labels_agree(small):
    assert small.classes == CLASSES
    assert len(small.split("train")) == 16 and len(small.split("val")) == 6
    planned = {c.image_id: c for c in plan(SMALL)}
    for record in small.records:
        image, mask = small.read_image(record), small.read_mask(record)
        assert record.scored and image.shape == (record.height, record.width, 3)
        assert {small.classes[v - 1] for v in np.unique(mask) if v} == set(record.labels)
        assert set(record.labels) == _names(planned[record.image_id])
        assert 0.03 < (mask > 0).mean() < 0.6


def test_the_mask_is_where_the_object_changes_the_picture():
    composition = next(c for c in plan(FULL) if len(c.objects) == 1 and not c.fringe)
    vivid = dataclasses.replace(composition.objects[0], ambient=0.0)
    pale = dataclasses.replace(composition.objects[0], ambient=1.0)
    pictures = [
        render(dataclasses.replace(composition, objects=(placed,))) for placed in (vivid, pale)
    ]
    (first, mask), (second, _) = pictures
    changed = np.abs(first.astype(int) - second).max(axis=2) > 0
    outside = ~cv2.dilate(mask, np.ones((9, 9))).astype(bool)
    assert not changed[outside].any()
    assert changed[mask > 0].mean() > 0.7


def test_a_choice_of_classes_leaves_out_the_other_images(tmp_path, small):
    chosen = build(dataset(("car", "bird")), tmp_path)
    assert chosen.classes == ("car", "bird")
    expected = [r.image_id for r in small.records if {"car", "bird"} & set(r.labels)]
    assert [record.image_id for record in chosen.records] == expected
    for record in chosen.records:
        mask = chosen.read_mask(record)
        assert {chosen.classes[v - 1] for v in np.unique(mask) if v not in (0, 255)} == set(
            record.labels
        )


def test_unknown_classes_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.classes: the demo has no unicorn"):
        build(dataset(("unicorn",)), tmp_path)


@pytest.mark.run
def test_saliency_is_as_good_as_on_photographs():
    weights = ROOT / "weights/u2netp.onnx"
    if not weights.is_file():
        pytest.skip("weights/u2netp.onnx is not there: run `make setup`")
    source = create_source("u2netp", Source(u2netp={"weights": str(weights)}))
    overlaps = []
    for composition in plan(FULL)[:160:10]:
        image, mask = render(composition)
        salient = source.predict(None, image) > 127
        overlaps.append((salient & (mask > 0)).sum() / (salient | (mask > 0)).sum())
    assert 0.6 < np.mean(overlaps) < 0.8, np.mean(overlaps)


def _names(composition):
    return {placed.class_name for placed in composition.objects}

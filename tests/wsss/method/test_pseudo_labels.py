"""Pseudo labels against the rules of the paper's section 3.1, pixel by pixel."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import wsss.method.pseudo_labels
from wsss.configuration.method_sections import SALIENCY_CRF, PseudoLabels
from wsss.method.crf import refine_saliency
from wsss.method.pseudo_labels import (
    cams_to_fuse,
    fuse,
    make_pseudo_labels,
    quantise,
    spread_over_objects,
    updated_saliency,
)
from wsss.storage.pixels import resize_maps

SETTINGS = PseudoLabels(background="off_the_shelf", regions="pixels")


def fused(cams, keys, saliency):
    """One row of pixels of an image; cams (K, W) of the classes that it holds."""
    cams = np.array(cams, np.float32).reshape(len(keys), 1, len(saliency))
    label = fuse(cams, keys, np.array([saliency], np.float32), 0.2, 0.06)
    assert label.dtype == np.uint8
    return label[0].tolist()


def test_the_four_cases():
    #                  both, object only, salient only, neither
    assert fused([[0.9, 0.9, 0.1, 0.1]], [4], [0.5, 0.0, 0.5, 0.0]) == [5, 255, 255, 0]


def test_thresholds_are_strict_in_float32():
    above = [np.nextafter(np.float32(limit), np.float32(1)) for limit in (0.2, 0.06)]
    cams, saliency = [0.2, above[0], 0.2, above[0]], [0.06, 0.06, above[1], above[1]]
    assert fused([cams], [0], saliency) == [0, 255, 255, 1]


def test_largest_class_wins_and_ties_go_to_the_lower_id():
    cams = [[0.3, 0.7, 0.5, 0.0], [0.9, 0.6, 0.5, 0.5], [0.1, 0.1, 0.5, 0.5]]
    assert fused(cams, [2, 7, 19], [1, 1, 1, 1]) == [8, 3, 3, 8]


def test_image_without_labels_is_background_or_ignored():
    assert fused([], [], [0.0, 0.06, 0.07, 1.0]) == [0, 0, 255, 255]


def loop(cams, keys, saliency, cam_threshold, saliency_threshold):
    """Hard thresholds on CAMs and saliency (paper, section 3.1), one pixel at a time."""
    label = np.zeros(saliency.shape, np.uint8)
    for place in np.ndindex(saliency.shape):
        scores = [(cams[k][place], -class_id) for k, class_id in enumerate(keys)]
        value, negative_id = max(scores)
        is_object, is_salient = value > cam_threshold, saliency[place] > saliency_threshold
        if is_object and is_salient:
            label[place] = -negative_id + 1
        elif is_object or is_salient:
            label[place] = 255
    return label


@pytest.mark.parametrize("seed", range(4))
def test_fusion_equals_a_loop_over_pixels(seed):
    rng = np.random.default_rng(seed)
    keys = sorted(rng.choice(20, 3, replace=False).tolist())
    # Multiples of 1/8: ties and values on the thresholds do occur.
    cams = rng.integers(0, 9, (3, 13, 17)).astype(np.float32) / 8
    saliency = rng.integers(0, 9, (13, 17)).astype(np.float32) / 8
    label = fuse(cams, keys, saliency, 0.375, 0.25)
    np.testing.assert_array_equal(label, loop(cams, keys, saliency, 0.375, 0.25))
    assert {0, 255, *(k + 1 for k in keys)} == set(np.unique(label))


def flood(cams, saliency, object_threshold):
    """`spread_over_objects` without doubt, object by object and pixel by pixel."""
    spread = np.zeros_like(cams)
    left = {place for place in np.ndindex(saliency.shape) if saliency[place] > object_threshold}
    while left:
        found, reached = set(), [min(left)]
        while reached:
            y, x = place = reached.pop()
            if place in left:
                left.remove(place)
                found.add(place)
                reached += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        ys, xs = zip(*found, strict=True)
        peaks = cams[:, ys, xs].max(axis=1)
        for place in found:
            here = cams[(slice(None), *place)]
            scaled = here * (peaks.max() / here.max()) if here.max() > 0 else peaks
            spread[(slice(None), *place)] = scaled
    return spread


@pytest.mark.parametrize("seed", range(4))
def test_a_cam_spreads_over_the_objects_that_it_touches(seed):
    rng = np.random.default_rng(seed)
    cams = (rng.integers(0, 5, (2, 11, 14)) * (rng.random((2, 11, 14)) < 0.3)).astype(
        np.float32
    ) / 4
    saliency = rng.integers(0, 9, (11, 14)).astype(np.float32) / 8
    spread = spread_over_objects(cams, saliency, 0.5, doubt_threshold=1.0)
    np.testing.assert_allclose(spread, flood(cams, saliency, 0.5), rtol=1e-6)


def test_what_a_label_of_whole_objects_is_made_of():
    # Three of an object, its rim, beside it, missed, far, no CAM; a rim with a strong CAM.
    saliency = np.float32([[0.9, 0.9, 0.9, 0.3, 0.0, 0.0, 0.0, 0.8, 0.3]])
    cams = np.float32(
        [[[0.1, 0.3, 0.0, 0.3, 0.3, 0.9, 0.0, 0.1, 0.9]], [[0, 0.1, 0, 0.4, 0.3, 0, 0, 0, 0]]]
    )
    settings = {"background": "off_the_shelf", "regions": "objects", "doubt_threshold": 0.6}
    spread = cams_to_fuse(cams, saliency, PseudoLabels(**settings))
    assert fuse(spread, [0, 1], saliency, 0.2, 0.06).tolist() == [[1, 1, 1, 255, 0, 255, 0, 255, 1]]
    plain = cams_to_fuse(cams, saliency, SETTINGS)
    expected = [[255, 1, 255, 2, 255, 255, 0, 255, 1]]
    assert fuse(plain, [0, 1], saliency, 0.2, 0.06).tolist() == expected


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 4, 5\).*3 labels"):
        fuse(np.zeros((2, 4, 5)), [0, 1, 2], np.zeros((4, 5)), 0.2, 0.06)
    with pytest.raises(ValueError, match=r"\(4, 6\)"):
        fuse(np.zeros((3, 4, 5)), [0, 1, 2], np.zeros((4, 6)), 0.2, 0.06)


@pytest.fixture
def image():
    rng = np.random.default_rng(1)
    image = np.full((16, 24, 3), 60, np.uint8)
    image[:, 12:] = 160
    return image + rng.integers(0, 20, image.shape, dtype=np.uint8)


@pytest.fixture
def off_the_shelf():
    """Every 8-bit value occurs."""
    return (
        np.random.default_rng(2).permutation(np.arange(384) % 256).astype(np.uint8).reshape(16, 24)
    )


@pytest.mark.parametrize("background", ["off_the_shelf", "updated"])
def test_stage_0_takes_the_saliency_as_it_is(image, off_the_shelf, background):
    cams = np.random.default_rng(3).random((2, 2, 3)).astype(np.float32)
    saliency, segmentation = make_pseudo_labels(
        image,
        cams,
        [1, 3],
        off_the_shelf,
        None,
        SETTINGS.model_copy(update={"background": background}),
    )
    assert saliency.dtype == segmentation.dtype == np.uint8
    np.testing.assert_array_equal(saliency, off_the_shelf)
    expected = loop(resize_maps(cams, (16, 24)), [1, 3], off_the_shelf / 255, 0.2, 0.06)
    np.testing.assert_array_equal(segmentation, expected)


def test_later_stages_take_the_crf_of_the_mean(image, off_the_shelf):
    refined = np.random.default_rng(4).random((2, 3)).astype(np.float32)
    saliency, _ = make_pseudo_labels(
        image, np.zeros((1, 2, 3), np.float32), [0], off_the_shelf, refined, SETTINGS
    )
    large = F.interpolate(torch.from_numpy(refined)[None, None], (16, 24), mode="bilinear")
    mean = 0.5 * large[0, 0].numpy() + 0.5 * off_the_shelf.astype(np.float32) / 255
    expected = 255 * refine_saliency(image, mean)
    # The CRF multiplies what the two up-samplings differ by.
    np.testing.assert_allclose(saliency, expected, atol=1)
    without_crf = np.abs(saliency - 255 * mean)
    assert without_crf.mean() > 10


def test_mean_comes_before_the_crf(monkeypatch):
    monkeypatch.setattr(wsss.method.pseudo_labels, "refine_saliency", lambda image, mean, _: mean)
    refined, original = np.float32([[0.2, 1.0]]), np.float32([[0.6, 0.0]])
    np.testing.assert_allclose(
        updated_saliency(None, refined, original, SALIENCY_CRF), [[0.4, 0.5]]
    )


def test_background_follows_the_setting(monkeypatch, image):
    # The CRF'd saliency says the opposite of the off-the-shelf map.
    original = np.zeros((16, 24), np.uint8)
    original[:, 12:] = 255
    updated = np.float32(1) - original.astype(np.float32) / 255
    monkeypatch.setattr(wsss.method.pseudo_labels, "refine_saliency", lambda *_: updated)
    arguments = (image, np.zeros((1, 2, 3), np.float32), [0], original, np.zeros((2, 3)))
    saliency, segmentation = make_pseudo_labels(*arguments, SETTINGS)
    np.testing.assert_array_equal(segmentation == 255, original == 255)
    np.testing.assert_array_equal(saliency, 255 - original)
    saliency, segmentation = make_pseudo_labels(
        *arguments, SETTINGS.model_copy(update={"background": "updated"})
    )
    np.testing.assert_array_equal(segmentation == 255, original == 0)
    np.testing.assert_array_equal(saliency, 255 - original)


def test_quantisation_rounds_and_clips():
    values = np.float32([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1.0, 1.2])
    assert quantise(values).tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


@pytest.mark.parametrize("refined", [None, np.full((3, 4), 0.9, np.float32)])
def test_a_negative_is_background_whatever_is_salient(refined):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    salient = np.full((20, 30), 200, np.uint8)
    none = np.zeros((0, 3, 4), np.float32)
    for settings in (SETTINGS, PseudoLabels(background="updated", regions="pixels")):
        for found in make_pseudo_labels(image, none, [], salient, refined, settings):
            assert found.dtype == np.uint8 and found.shape == (20, 30) and not found.any()

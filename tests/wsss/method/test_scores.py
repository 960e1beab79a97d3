"""Boundary IoU, IoU by size and per image against scikit-learn, SciPy and loops by hand."""

import math
import random

import numpy as np
import pytest
from label_pairs import boundary, masks, objects_by_hand, pair
from sklearn.metrics import jaccard_score

from wsss.method.boundaries import boundary_distance, boundary_overlap
from wsss.method.metrics import ConfusionMatrix, comparable, iou_of
from wsss.method.object_sizes import object_ious, size_of
from wsss.method.scores import Scores, score_image

CLASSES = 3
WAYS = ("miss", "drop", "background")


# --- masks, and the IoU of an image


@pytest.mark.parametrize("way", WAYS)
def test_comparable_masks_have_the_iou_of_the_confusion_matrix(way):
    truth, prediction = pair(0)
    matrix = ConfusionMatrix(CLASSES, way)
    matrix.update(prediction, truth)
    for made in (comparable(prediction, truth, way), (prediction, truth)):
        for class_id, iou in enumerate(matrix.iou()):
            predicted, true = masks(made[1], made[0], class_id, way)
            assert (predicted & true).sum() / (predicted | true).sum() == iou


def test_the_iou_of_an_image_is_the_mean_over_its_classes():
    truth, prediction = pair(1)
    prediction[prediction == 255] = 0
    truth[truth == 3] = 0
    prediction[prediction == 3] = 0  # in neither
    prediction[truth == 2] = 0
    prediction[prediction == 2] = 0  # only there: IoU 0
    known = truth != 255
    # The labels 0, 1 and 2, background among them; scikit-learn leaves out 3 as nobody names it.
    expected = jaccard_score(truth[known], prediction[known], average="macro")
    scores = Scores(CLASSES)
    scores.add("a", score_image(prediction, truth, CLASSES))
    scores.add("unknown", score_image(prediction, np.full_like(truth, 255), CLASSES))
    assert scores.images["a"] == pytest.approx(expected)
    assert math.isnan(scores.images["unknown"])


# --- boundaries


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(61, 83), (150, 200), (1, 1), (1, 9), (300, 2)])
def test_boundary_iou_equals_distances_of_scipy(size, way):
    truth, prediction = pair(2, size)
    distance = max(1, round(0.02 * math.sqrt(size[0] ** 2 + size[1] ** 2)))
    assert boundary_distance(size) == distance
    found = score_image(prediction, truth, CLASSES, way).boundary
    assert found.shape == (2, CLASSES + 1) and found.dtype == np.int64
    for class_id in range(CLASSES + 1):
        p, t = (boundary(m, distance) for m in masks(truth, prediction, class_id, way))
        assert found[:, class_id].tolist() == [(p & t).sum(), (p | t).sum()]


def test_boundary_iou_by_hand():
    """Squares of 10 and 8 pixels, one in the other, in 60x80: d = 2, so rings of 64 and 48."""
    truth, prediction = np.zeros((2, 60, 80), np.uint8)
    truth[20:30, 20:30] = 1
    prediction[21:29, 21:29] = 1
    shared = 64 - 36  # the second ring of the larger is the first one of the smaller
    overlap = boundary_overlap(prediction, truth, 1)
    assert overlap[:, 1].tolist() == [shared, 64 + 48 - shared]
    assert iou_of(overlap)[1] == pytest.approx(1 / 3)


def test_pixels_without_ground_truth_do_not_move_a_boundary():
    """VOC draws a band of 255 around each object: what is predicted there does not count."""
    truth, prediction = np.zeros((2, 60, 80), np.uint8)
    truth[17:43, 17:43] = 255
    truth[20:40, 20:40] = 1
    for grown in (0, 1, 3):
        prediction[20 - grown : 40 + grown, 20 - grown : 40 + grown] = 1
        scores = score_image(prediction, truth, 1)
        np.testing.assert_array_equal(iou_of(scores.boundary), [1, 1])
        assert scores.objects == [(1, 400, 1.0)]


# --- objects


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(3))
def test_ious_of_objects_equal_sets_of_pixels(seed, way):
    truth, prediction = pair(seed, (40, 50))
    expected = objects_by_hand(truth, prediction, way)
    found = score_image(prediction, truth, CLASSES, way).objects
    assert len(expected) > 5
    np.testing.assert_allclose(sorted(found), sorted(expected))


def test_a_prediction_over_two_objects_is_shared_by_area():
    """Objects of 2 and 6 pixels under a part of 12: the 4 beside go to them as 1 and 3."""
    truth = np.array([[1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]], np.uint8)
    prediction = np.array([[1] * 12 + [0, 0, 1]], np.uint8)  # the last one touches no object
    assert object_ious(prediction, truth) == [(1, 2, 2 / 3), (1, 6, 6 / 9)]
    assert object_ious(np.zeros_like(truth), truth) == [(1, 2, 0.0), (1, 6, 0.0)]


def test_sizes_are_those_of_coco():
    areas = {1: "small", 1023: "small", 1024: "medium", 9215: "medium", 9216: "large"}
    assert {area: size_of(area) for area in areas} == areas


# --- many images


def test_the_order_of_images_does_not_matter():
    """To the last bit."""
    images = [(f"image{i}", *pair(i, (40, 50))) for i in range(9)]
    single = {n: score_image(prediction, truth, CLASSES) for n, truth, prediction in images}

    def scored(names):
        scores = Scores(CLASSES)
        for name in names:
            scores.add(name, single[name])
        objects = {key: math.fsum(ious) for key, ious in scores.objects.items()}
        return scores.matrix.matrix.tolist(), scores.boundary.tolist(), scores.images, objects

    names = list(single)
    expected = scored(names)
    for seed in range(5):
        random.Random(seed).shuffle(names)
        assert scored(names) == expected

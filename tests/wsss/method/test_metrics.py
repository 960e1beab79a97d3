"""Confusion matrices against scikit-learn, sets of pixels, and cases by hand."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from wsss.errors import InputError
from wsss.method.metrics import ConfusionMatrix, iou_of, mean_defined

CLASSES = 4


def random_maps(seed, shape=(37, 53)):
    rng = np.random.default_rng(seed)
    values = [*range(CLASSES + 1), 255]
    truth = rng.choice(values, shape, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]).astype(np.uint8)
    guess = rng.choice(values, shape).astype(np.uint8)
    return truth, np.where(rng.random(shape) < 0.6, truth, guess).astype(np.uint8)


def counted(pairs, ignored="miss", num_classes=CLASSES):
    matrix = ConfusionMatrix(num_classes, ignored)
    for truth, prediction in pairs:
        matrix.update(prediction, truth)
    return matrix


@pytest.mark.parametrize("ignored", ["miss", "drop", "background"])
def test_matrix_equals_scikit_learn(ignored):
    pairs = [random_maps(seed) for seed in range(3)]
    truth, prediction = (np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1))
    truth, prediction = truth[truth != 255], prediction[truth != 255]
    missed = np.bincount(truth[prediction == 255], minlength=CLASSES + 1)
    if ignored == "background":
        prediction = np.where(prediction == 255, 0, prediction)
    labels = np.arange(CLASSES + 1)
    matrix = counted(pairs, ignored)
    np.testing.assert_array_equal(matrix.matrix, confusion_matrix(truth, prediction, labels=labels))
    np.testing.assert_array_equal(matrix.missed, missed if ignored == "miss" else 0 * missed)


@pytest.mark.parametrize("ignored", ["miss", "drop", "background"])
def test_scores_equal_sets_of_pixels(ignored):
    truth, prediction = random_maps(7)
    scores = counted([(truth, prediction)], ignored).scores()
    valid = truth != 255
    if ignored == "drop":
        valid &= prediction != 255
    if ignored == "background":
        prediction = np.where(prediction == 255, 0, prediction)
    for c in range(CLASSES + 1):
        present = set(np.flatnonzero(valid & (truth == c)))
        found = set(np.flatnonzero(valid & (prediction == c)))
        both = len(present & found)
        assert scores["iou"][c] == pytest.approx(both / len(present | found))
        assert scores["precision"][c] == pytest.approx(both / len(found))
        assert scores["recall"][c] == pytest.approx(both / len(present))


def test_by_hand():
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 255, 1, 255, 0, 1]], np.uint8)
    expected = {  # precision, recall, IoU of background and of class 1
        "miss": ([2 / 3, 1 / 2], [2 / 4, 1 / 3], [2 / 5, 1 / 4]),
        "drop": ([2 / 3, 1 / 2], [2 / 3, 1 / 2], [2 / 4, 1 / 3]),
        "background": ([3 / 5, 1 / 2], [3 / 4, 1 / 3], [3 / 6, 1 / 4]),
    }
    for ignored, values in expected.items():
        matrix = counted([(truth, prediction)], ignored, num_classes=1)
        for name, value in zip(("precision", "recall", "iou"), values, strict=True):
            np.testing.assert_allclose(matrix.scores()[name], value)
            assert matrix.means()[name] == pytest.approx(np.mean(value))


def test_counters_go_beyond_32_bits():
    """COCO train has about 1.8e10 background pixels."""
    matrix = ConfusionMatrix(1)
    many = 18_000_000_000
    matrix._counts[:] = [[many, 0, 0], [many // 2, many // 2, 0]]
    matrix.update(np.array([[0, 1]], np.uint8), np.array([[0, 1]], np.uint8))
    assert matrix.matrix.tolist() == [[many + 1, 0], [many // 2, many // 2 + 1]]
    np.testing.assert_allclose(matrix.scores()["precision"], [2 / 3, 1.0])
    np.testing.assert_allclose(matrix.scores()["recall"], [1.0, 1 / 2])
    np.testing.assert_allclose(matrix.scores()["iou"], [2 / 3, 1 / 2])


def test_undefined_scores_are_left_out_of_the_means():
    # Class 2 is nowhere; class 3 is predicted and never there; class 4 there, never predicted.
    truth = np.array([[0, 0, 1, 4]], np.uint8)
    prediction = np.array([[0, 3, 1, 0]], np.uint8)
    matrix = counted([(truth, prediction)])
    scores, nan = matrix.scores(), np.nan
    np.testing.assert_allclose(scores["iou"], [1 / 3, 1, nan, 0, 0])
    np.testing.assert_allclose(scores["precision"], [1 / 2, 1, nan, 0, nan])
    np.testing.assert_allclose(scores["recall"], [1 / 2, 1, nan, nan, 0])
    means = matrix.means()
    assert means["iou"] == pytest.approx((1 / 3 + 1) / 4)
    assert means["precision"] == pytest.approx(0.5)
    assert means["recall"] == pytest.approx(0.5)


def test_nothing_at_all_is_nan():
    means = ConfusionMatrix(3).means()
    assert all(np.isnan(value) for value in means.values())
    assert np.isnan(mean_defined([]))
    only_ignored = np.full((2, 2), 255, np.uint8)
    assert np.isnan(counted([(only_ignored, only_ignored)]).means()["iou"])


@pytest.mark.parametrize("value", [CLASSES + 1, CLASSES + 2, 254])
def test_values_out_of_range_are_refused(value):
    good = np.zeros((2, 2), np.uint8)
    bad = np.array([[0, value], [255, 1]], np.uint8)
    matrix = ConfusionMatrix(CLASSES)
    with pytest.raises(InputError, match=f"ground truth holds class {value}"):
        matrix.update(good, bad)
    with pytest.raises(InputError, match=f"prediction holds class {value}"):
        matrix.update(bad, good)
    assert matrix.matrix.sum() == 0


def test_negative_values_are_refused():
    with pytest.raises(InputError, match="class -1"):
        ConfusionMatrix(CLASSES).update(np.array([[0, 0]]), np.array([[-1, 3]]))


def test_values_that_are_no_whole_numbers_are_refused():
    with pytest.raises(InputError, match=r"prediction is float64, .*: give whole numbers"):
        ConfusionMatrix(2).update(np.array([1.7]), np.array([1]))


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"prediction is \(2, 3\), ground truth \(3, 2\)"):
        ConfusionMatrix(1).update(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))


def test_unknown_treatment_is_refused():
    with pytest.raises(InputError, match="'guess'"):
        ConfusionMatrix(1, "guess")


def test_parts_merge_to_the_whole():
    pairs = [random_maps(seed) for seed in range(4)]
    whole = counted(pairs)
    first, second = counted(pairs[:1]), counted(pairs[1:])
    total = first + second
    assert first.matrix.sum() < total.matrix.sum()  # the parts stay as they are
    first.merge(second)
    for merged in (first, total):
        np.testing.assert_array_equal(merged.matrix, whole.matrix)
        np.testing.assert_array_equal(merged.missed, whole.missed)
        for name, values in whole.scores().items():
            np.testing.assert_array_equal(merged.scores()[name], values)


def test_overlaps_of_images_add_up():
    pairs = [random_maps(seed) for seed in range(4)]
    overlaps = np.stack([counted([pair]).overlap() for pair in pairs])
    assert overlaps.shape == (4, 2, CLASSES + 1) and overlaps.dtype == np.int64
    np.testing.assert_array_equal(iou_of(overlaps.sum(axis=0)), counted(pairs).iou())
    each = [counted([pair]).iou() for pair in pairs]
    np.testing.assert_array_equal(iou_of(overlaps), each)


def test_scores_have_methods_of_their_own():
    matrix = counted([random_maps(1)])
    for name in ("iou", "precision", "recall"):
        values = getattr(matrix, name)()
        assert values.shape == (CLASSES + 1,) and values.dtype == np.float64
        np.testing.assert_array_equal(values, matrix.scores()[name])


@pytest.mark.parametrize("other", [ConfusionMatrix(CLASSES + 1), ConfusionMatrix(CLASSES, "drop")])
def test_matrices_of_other_kinds_do_not_merge(other):
    with pytest.raises(ValueError, match="do not add up"):
        ConfusionMatrix(CLASSES).merge(other)

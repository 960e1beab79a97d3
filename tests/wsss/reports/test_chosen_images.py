"""What pictures show where nobody says it, and the affinity of a point."""

import numpy as np
import pytest
import torch

from model.affinity import BlockAffinity, CrossTaskAttention
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError
from wsss.reports.affinity_maps import Look
from wsss.reports.chosen_images import (
    check_ids,
    dominant_class,
    listing,
    named_or_chosen,
    points_of,
)


def record(image_id, *labels):
    return ImageRecord(image_id, "train", True, "x.jpg", None, 9, 9, labels)


def test_ids_that_are_no_images_are_refused():
    index = DatasetIndex(".", ("cat", "dog"), (1, 2), (record("a", "cat"), record("b")))
    check_ids(index, ["b", "a"])
    with pytest.raises(InputError, match=r"figures\.images: not in the index .*: c, d; correct"):
        check_ids(index, ["c", "a", "d"])


def test_named_images_are_shown_where_there_are_any():
    """Those of another split leave a picture its own choice: several classes first, then new."""
    records = [
        record("a", "cat"),
        record("b", "cat", "dog"),
        record("c", "cow"),
        record("d", "cat"),
    ]
    assert [r.image_id for r in named_or_chosen(records, [], 2, ["d", "a", "x"])] == ["a", "d"]
    assert [r.image_id for r in named_or_chosen(records, [], 3, ["x"])] == ["b", "c", "a"]


def test_the_table_beside_a_picture():
    table = listing([record("a", "cat", "dog"), record("b")], iou=[1.5, 2])
    assert table.to_dict("records") == [
        {"image_id": "a", "split": "train", "labels": "cat;dog", "iou": 1.5},
        {"image_id": "b", "split": "train", "labels": "", "iou": 2},
    ]


def test_the_dominant_class_has_most_pixels_of_those_of_the_image():
    label_map = np.array([[0, 0, 0, 0, 3, 3, 3, 1, 2, 2, 255, 255, 255, 255]], np.uint8)
    assert dominant_class(label_map, [0, 1]) == 1  # class 2 is more, but not of this image
    assert dominant_class(label_map, [0, 1, 2]) == 2
    assert dominant_class(np.zeros((2, 2), np.uint8), [4, 1]) == 1


def test_points_lie_in_the_middle_of_the_largest_regions():
    label_map = np.full((40, 80), 255, np.uint8)
    label_map[5:36, 10:41] = 2  # 31 x 31 around (25, 20)
    label_map[10:21, 60:71] = 1  # 11 x 11 around (65, 15)
    label_map[0, :] = 0
    first, second, third = points_of(label_map, 3)
    assert first == pytest.approx((25.5 / 80, 20.5 / 40))
    assert second == pytest.approx((65.5 / 80, 15.5 / 40))
    assert third[1] == pytest.approx(0.5 / 40)  # background comes last
    assert len(points_of(label_map)) == 2


def test_one_object_leaves_the_second_point_to_the_background():
    label_map = np.zeros((20, 20), np.uint8)
    label_map[:10] = 7
    points = points_of(label_map)
    assert [label_map[int(y * 20), int(x * 20)] for x, y in points] == [7, 0]


def test_the_affinity_of_a_point_is_its_row():
    """However the affinity is held; the point (x, y) of a grid of 4 rows and 5 columns."""
    torch.manual_seed(0)
    cross = CrossTaskAttention()
    sources = [(torch.randn(1, 20, 6), torch.randn(1, 20, 6)) for _ in range(2)]
    whole = [torch.softmax(q @ k.transpose(1, 2), dim=-1) for q, k in sources]
    with torch.no_grad():
        matrix = cross(*whole)  # (1, 20, 20)
    labels = np.zeros((4, 5), np.uint8)
    for affinity in (matrix, BlockAffinity(sources, cross)):
        seen = Look(affinity, (4, 5), labels)
        for x, y in ((0, 0), (3, 1), (4, 3)):
            row = matrix[0, 5 * y + x].reshape(4, 5).numpy()
            found = seen.affinity_of(((x + 0.5) / 5, (y + 0.5) / 4))
            np.testing.assert_allclose(found, row / row.max(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(seen.affinity_of((1.0, 1.0)), seen.affinity_of((0.99, 0.99)))

"""How sure a segmentation is: against PyTorch's interpolation and loops over pixels, by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wsss.configuration.method_sections import SEGMENTATION_CRF
from wsss.method.label_maps import label_map_of
from wsss.method.uncertainty import uncertainty_of

LABELS = [0, 3, 7]


def by_hand(label_map, probabilities):
    """Pixel after pixel, from probabilities that PyTorch has up-sampled."""
    maps = torch.from_numpy(probabilities).float()[None]
    maps = F.interpolate(maps, label_map.shape, mode="bilinear")[0].numpy()
    of_objects, uncertain = [], 0
    for place in np.ndindex(label_map.shape):
        winning = maps[LABELS.index(label_map[place])][place]
        uncertain += winning < 0.5
        if label_map[place]:
            of_objects.append(winning)
    return np.mean(of_objects), uncertain / label_map.size


@pytest.mark.parametrize("size", [(48, 64), (45, 61), (1, 1), (1, 30)])
def test_it_is_that_of_the_pixels_one_by_one(size):
    rng = np.random.default_rng(0)
    grid = [-(-side // 8) for side in size]
    probabilities = rng.dirichlet(np.ones(3), grid).transpose(2, 0, 1).astype(np.float16)
    label_map = rng.choice(np.array(LABELS, np.uint8), size)
    label_map[0, 0] = 7
    found = uncertainty_of(label_map, probabilities, LABELS)
    assert found == pytest.approx(by_hand(label_map, probabilities), abs=1e-6)
    assert all(type(value) is float for value in found)  # as HDF5 stores it, whatever numpy has


def test_background_counts_as_uncertain_but_not_for_the_confidence():
    probabilities = np.array([[[0.9, 0.4, 0.3, 0.5]], [[0.1, 0.6, 0.7, 0.5]]])
    found = uncertainty_of(np.array([[0, 0, 3, 0]], np.uint8), probabilities, [0, 3])
    assert found == pytest.approx((0.7, 1 / 4))  # 0.5 itself is not below 0.5


def test_where_there_is_no_object_the_least_sure_background_counts():
    probabilities = np.array([[[0.9, 0.25, 0.8, 1.0]], [[0.1, 0.75, 0.2, 0.0]]])
    found = uncertainty_of(np.zeros((1, 4), np.uint8), probabilities, [0, 3])
    assert found == pytest.approx((0.25, 1 / 4))
    assert uncertainty_of(np.zeros((5, 6), np.uint8), np.ones((1, 1, 1)), [0]) == (1, 0)


def test_what_the_crf_changes_against_the_probabilities_is_uncertain():
    """A speck that the network sees and the photograph does not show: the CRF takes it away."""
    image = np.full((48, 64, 3), 40, np.uint8)
    inside = np.zeros((6, 8))
    inside[2, 3] = 0.6
    probabilities = np.stack([1 - inside, inside])
    label_map = label_map_of(image, probabilities, [0, 7], SEGMENTATION_CRF)
    assert not label_map.any()
    found = uncertainty_of(label_map, probabilities, [0, 7])
    peak = 0.6 * (15 / 16) ** 2  # four pixels, half a pixel from the middle of a cell of eight
    assert found == pytest.approx((1 - peak, 4 / label_map.size))

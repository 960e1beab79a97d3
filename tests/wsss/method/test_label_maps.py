"""From probabilities to labels: what the test CRF does, and what is done without it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wsss.configuration.method_sections import SEGMENTATION_CRF
from wsss.method.label_maps import label_map_of

NO_CRF = SEGMENTATION_CRF.model_copy(update={"iterations": 0})


@pytest.mark.parametrize("size", [(45, 61), (48, 64), (1, 1), (1, 30), (300, 2)])
def test_without_crf_the_most_probable_class_is_taken(size):
    rng = np.random.default_rng(0)
    grid = [-(-side // 8) for side in size]
    probabilities = rng.dirichlet(np.ones(3), grid).transpose(2, 0, 1).astype(np.float16)
    scores = torch.from_numpy(probabilities).float()[None]
    expected = F.interpolate(scores, size, mode="bilinear")[0].argmax(dim=0).numpy()
    image = np.zeros((*size, 3), np.uint8)
    found = label_map_of(image, probabilities, [0, 4, 9], NO_CRF)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.array([0, 4, 9])[expected])


def test_the_crf_moves_a_border_to_that_of_the_photograph():
    """The features see the object end at column 24 of 64, the photograph shows it end at 28."""
    image = np.full((48, 64, 3), 40, np.uint8)
    image[:, :28] = 200
    inside = np.where(np.arange(8) < 3, 0.9, 0.1)
    probabilities = np.stack([1 - inside, inside])[:, None].repeat(6, axis=1)
    plain = label_map_of(image, probabilities, [0, 7], NO_CRF)
    refined = label_map_of(image, probabilities, [0, 7], SEGMENTATION_CRF)
    assert (plain == np.where(np.arange(64) < 24, 7, 0)).all()
    assert (refined == np.where(np.arange(64) < 28, 7, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (2, 3)])
@pytest.mark.parametrize("labels", [1, 2, 21])
def test_the_crf_takes_any_size(size, labels):
    image = np.full((*size, 3), 77, np.uint8)
    probabilities = np.full((labels, 1, 1), 1 / (labels + 1), np.float32)
    probabilities[-1] *= 2
    found = label_map_of(image, probabilities, list(range(labels)), SEGMENTATION_CRF)
    assert found.shape == size and (found == labels - 1).all()

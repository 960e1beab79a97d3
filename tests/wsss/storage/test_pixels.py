"""Sizes of photographs, label maps and maps, and pixels as a network wants them."""

import numpy as np
import torch
from torch.nn import functional as F

from wsss.storage.pixels import normalise_pixels, resize_image, resize_labels, resize_maps


def test_maps_are_resized_bilinearly_without_aligned_corners():
    maps = np.random.default_rng(0).random((3, 5, 7)).astype(np.float16)
    expected = F.interpolate(torch.from_numpy(maps).float()[None], (40, 51), mode="bilinear")[0]
    resized = resize_maps(maps, (40, 51))
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected.numpy(), atol=1e-4)
    assert resize_maps(np.zeros((0, 5, 7)), (40, 51)).shape == (0, 40, 51)


def test_resized_labels_hold_no_other_classes():
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 9
    for size in ((17, 23), (90, 55)):
        resized = resize_labels(labels, size)
        assert resized.shape == size
        assert set(np.unique(resized)) == {0, 9}


def test_photographs_are_averaged_where_they_shrink():
    board = np.indices((64, 64)).sum(axis=0).astype(np.uint8) % 2 * 200
    image = np.repeat(board[..., None], 3, axis=2)
    assert (resize_image(image, (32, 32)) == 100).all()
    assert resize_image(image, (64, 64)) is image


def test_pixels_are_normalised_by_channel():
    image = np.full((2, 3, 3), (0, 51, 255), np.uint8)
    pixels = normalise_pixels(image, (0.5, 0.2, 0.4), (0.5, 1.0, 0.3))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[1, 2], (-1, 0, 2), atol=1e-6)

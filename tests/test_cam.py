"""CAMs: normalisation and their grid."""

import torch
from torch.nn import functional as F

from wsss.cam import normalise, resize


def test_normalise_by_hand():
    cams = torch.tensor([[[[-1.0, 2.0], [4.0, 0.0]], [[-3.0, -1.0], [-2.0, -5.0]]]])
    expected = [[[[0, 2 / 4.00001], [4 / 4.00001, 0]], [[0, 0], [0, 0]]]]
    torch.testing.assert_close(normalise(cams), torch.tensor(expected), rtol=0, atol=1e-7)


def test_normalise_takes_each_map_by_itself():
    torch.manual_seed(0)
    cams = torch.randn(2, 3, 4, 5)
    for b in range(2):
        for k in range(3):
            map_ = cams[b, k].relu()
            torch.testing.assert_close(normalise(cams)[b, k], map_ / (map_.max() + 1e-5))


def test_resize_leaves_a_map_of_that_size_alone():
    maps = torch.rand(1, 2, 4, 5)
    assert resize(maps, (4, 5)) is maps
    expected = F.interpolate(maps, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, (9, 7)), expected)

"""CAMs: normalisation, refinement and their grid."""

import torch
from torch.nn import functional as F

from model.affinity import BlockAffinity, CrossTaskAttention, NonLocal, affinity_rows
from wsss.method.cam import normalise, refine, resize


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


def test_refine_is_a_matrix_product_and_no_more():
    torch.manual_seed(0)
    cams, affinity = torch.rand(2, 3, 4, 5), 2 * torch.rand(2, 20, 20)
    refined = refine(cams, affinity)
    expected = torch.zeros(2, 3, 20)
    for i in range(20):
        for j in range(20):
            expected[:, :, i] += affinity[:, i, j, None] * cams.flatten(2)[:, :, j]
    torch.testing.assert_close(refined, expected.reshape(2, 3, 4, 5))
    assert refined.max() > 1  # not normalised again


def test_refine_takes_an_affinity_in_row_blocks():
    torch.manual_seed(1)
    sources = [NonLocal(6)(torch.randn(1, 6, 4, 5), whole=False)[1] for _ in range(2)]
    cross = CrossTaskAttention()
    matrix = cross(*(affinity_rows(*source) for source in sources)).detach()
    cams = torch.rand(1, 3, 4, 5)
    blocks = refine(cams, BlockAffinity(sources, cross, block_rows=7)).detach()
    torch.testing.assert_close(blocks, refine(cams, matrix), rtol=1e-5, atol=0)


def test_resize_leaves_a_map_of_that_size_alone():
    maps = torch.rand(1, 2, 4, 5)
    assert resize(maps, (4, 5)) is maps
    expected = F.interpolate(maps, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, (9, 7)), expected)

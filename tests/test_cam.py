"""CAMs: normalisation, views and refinement against explicit loops."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.affinity import BlockAffinity, CrossTaskAttention, NonLocal, affinity_rows
from wsss.cam import multi_scale_cams, normalise, refine, resize


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


def test_refine_takes_one_image_and_row_blocks():
    torch.manual_seed(1)
    sources = [NonLocal(6)(torch.randn(1, 6, 4, 5), whole=False)[1] for _ in range(2)]
    cross = CrossTaskAttention()
    matrix = cross(*(affinity_rows(*source) for source in sources)).detach()
    cams = torch.rand(3, 4, 5)
    expected = (matrix[0].numpy() @ cams.flatten(1).numpy().T).T.reshape(3, 4, 5)
    for affinity in (matrix, matrix[0], BlockAffinity(sources, cross, block_rows=7)):
        refined = refine(cams, affinity)
        np.testing.assert_allclose(refined.detach(), expected, rtol=1e-5)
        torch.testing.assert_close(refine(cams[None], affinity), refined[None])
        np.testing.assert_array_equal(refine(cams.numpy(), affinity), refined.detach())
    np.testing.assert_array_equal(refine(cams.numpy(), matrix[0].numpy()), refine(cams, matrix[0]))


def test_resize_leaves_a_map_of_that_size_alone():
    maps = torch.rand(1, 2, 4, 5)
    assert resize(maps, (4, 5)) is maps
    expected = F.interpolate(maps, (9, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize(maps, (9, 7)), expected)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [[1.0], [1.0, 0.5, 1.5, 2.0], [0.5, 1.0]])
def test_views_are_summed_and_then_normalised(scales, flip):
    """PSA: ReLU, resize, sum over the views, divide by the maximum + 1e-5."""
    generator = torch.Generator().manual_seed(0)
    made = {
        (scale, flipped): torch.randn(1, 5, int(8 * scale), int(6 * scale), generator=generator)
        for scale in scales
        for flipped in (False, True)
    }
    asked = []

    def cams_of(image, scale, flipped):
        assert image == "photograph"
        asked.append((scale, flipped))
        return made[scale, flipped]

    keys = [1, 4]
    result = multi_scale_cams(cams_of, "photograph", keys, scales, flip)
    wanted = [(s, f) for s in scales for f in ((False, True) if flip else (False,))]
    assert sorted(asked) == sorted(wanted)
    grid = (int(8 * scales[0]), int(6 * scales[0]))
    for k, class_id in enumerate(keys):
        total = np.zeros(grid)
        for view in wanted:
            map_ = made[view][:, class_id : class_id + 1].relu()
            total += F.interpolate(map_, grid, mode="bilinear")[0, 0].double().numpy()
        expected = torch.from_numpy(total / (total.max() + 1e-5)).float()
        torch.testing.assert_close(result[k], expected, rtol=1e-5, atol=1e-6)
    assert result.shape == (2, *grid)


def test_image_without_labels_has_no_maps():
    result = multi_scale_cams(lambda *_: torch.rand(1, 5, 4, 6), None, [], [1.0], True)
    assert result.shape == (0, 4, 6)

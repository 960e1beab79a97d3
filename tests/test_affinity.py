"""Affinities against the equations written out, and the block form against the whole matrix."""

import pytest
import torch

from model.affinity import Attention, BlockAffinity, CrossTaskAttention, affinity_rows, attend


@pytest.fixture
def cross():
    torch.manual_seed(0)
    attention = CrossTaskAttention()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    return attention


@pytest.mark.parametrize("size", [5, 8, 24, 37])
def test_merge_equals_convolutions_and_softmax(cross, size):
    first, second = torch.rand(2, 3, size, size).softmax(dim=-1)
    stack = torch.stack([first, second], dim=1)
    weights = cross(stack).softmax(dim=1)
    expected = weights[:, 0] * first + weights[:, 1] * second
    torch.testing.assert_close(cross.merge(first, second), expected)


def test_merge_has_the_gradients_of_the_plain_form(cross):
    first, second = (torch.rand(2, 13, 13).softmax(dim=-1) for _ in range(2))
    stack = torch.stack([first, second], dim=1)
    target = torch.rand(2, 13, 13)
    ((cross(stack).softmax(dim=1) * stack).sum(dim=1) * target).sum().backward()
    expected = [parameter.grad.clone() for parameter in cross.parameters()]
    cross.zero_grad()
    (cross.merge(first, second) * target).sum().backward()
    for parameter, gradient in zip(cross.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block_rows", [1, 7, 20, 100])
@pytest.mark.parametrize("tasks", [1, 2])
def test_blocks_equal_the_whole_matrix(cross, tasks, block_rows):
    torch.manual_seed(1)
    sources = [Attention(6)(torch.randn(2, 6, 4, 5)) for _ in range(tasks)]
    matrices = [affinity_rows(*source) for source in sources]
    whole = matrices[0] if tasks == 1 else cross.merge(*matrices)
    maps = torch.rand(2, 3, 4, 5)
    expected = torch.einsum("bij,bkj->bki", whole, maps.flatten(2)).reshape(maps.shape)
    blocks = BlockAffinity(sources, cross if tasks == 2 else None, block_rows)
    torch.testing.assert_close(blocks.apply(maps), expected)


def test_attention_streams_what_the_matrix_gives():
    torch.manual_seed(2)
    queries, keys, values = torch.randn(3, 2, 20, 6)
    expected = affinity_rows(queries, keys) @ values
    torch.testing.assert_close(attend(queries, keys, values), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(affinity_rows(queries, keys).sum(-1), torch.ones(2, 20))

"""Affinities against the equations written out, and the block form against the whole matrix."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from repository import ROOT, program_environment

from model import packed_affinity
from model.affinity import BlockAffinity, CrossTaskAttention, NonLocal, affinity_rows, attend


@pytest.fixture
def cross():
    torch.manual_seed(0)
    attention = CrossTaskAttention()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    return attention


@pytest.mark.parametrize("size", [5, 8, 24, 37])
def test_packed_form_equals_the_plain_one(cross, size):
    first, second = torch.rand(2, 3, size, size).softmax(dim=-1)
    torch.testing.assert_close(cross.merge(first, second), cross(first, second))


def test_packed_form_has_the_gradients_of_the_plain_one(cross):
    first, second = (torch.rand(2, 13, 13).softmax(dim=-1) for _ in range(2))
    target = torch.rand(2, 13, 13)
    (cross(first, second) * target).sum().backward()
    expected = [parameter.grad.clone() for parameter in cross.parameters()]
    cross.zero_grad()
    (cross.merge(first, second) * target).sum().backward()
    for parameter, gradient in zip(cross.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block_rows", [1, 7, 20, 100])
@pytest.mark.parametrize("tasks", [1, 2])
def test_blocks_equal_the_whole_matrix(cross, tasks, block_rows):
    torch.manual_seed(1)
    sources = [NonLocal(6)(torch.randn(2, 6, 4, 5), whole=False)[1] for _ in range(tasks)]
    matrices = [affinity_rows(*source) for source in sources]
    maps = torch.rand(2, 3, 4, 5)
    found = BlockAffinity(sources, cross if tasks == 2 else None, block_rows).apply(maps)
    for whole in [matrices[0]] if tasks == 1 else [cross(*matrices), cross.merge(*matrices)]:
        expected = torch.einsum("bij,bkj->bki", whole, maps.flatten(2)).reshape(maps.shape)
        torch.testing.assert_close(found, expected)


def test_attention_streams_what_the_matrix_gives():
    torch.manual_seed(2)
    queries, keys, values = torch.randn(3, 2, 20, 6)
    expected = affinity_rows(queries, keys) @ values
    torch.testing.assert_close(attend(queries, keys, values), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(affinity_rows(queries, keys).sum(-1), torch.ones(2, 20))


# --- a large image: 768x800 pixels are 9,600 tokens, a whole matrix of which takes 370 MB

WHOLE_MATRIX = 4 * 9600**2  # bytes


def large_image(what):
    """What `large_image.py` says, in a process whose memory nothing else has raised."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("the memory of a process is read from /proc, which this system lacks")
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/large_image.py", what],
        cwd=ROOT,
        # Freed blocks go back at once: what the process holds is measured, not what malloc keeps.
        env=program_environment() | {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.run
def test_blocks_of_a_large_image_are_exact_and_fit_into_memory():
    said = large_image("affinity")
    assert said["tokens"] == 9600
    assert said["difference"] < 1e-5
    assert said["growth"] < 0.6 * WHOLE_MATRIX


@pytest.mark.run
def test_the_network_holds_no_whole_matrix_of_a_large_image():
    said = large_image("network")
    assert said["finite"]
    assert said["growth"] < 0.6 * WHOLE_MATRIX


def test_what_is_kept_from_inference_can_be_trained_with(cross):
    packed_affinity._packing_places.cache_clear()
    first, second = (torch.rand(1, 9, 9).softmax(dim=-1) for _ in range(2))
    with torch.inference_mode():
        cross.merge(first, second)
    cross.merge(first, second).sum().backward()
    assert all(parameter.grad is not None for parameter in cross.parameters())


@pytest.mark.parametrize(("tokens", "rows"), [(100, 167772), (19200, 873), (10**8, 1)])
def test_blocks_of_larger_images_have_fewer_rows(tokens, rows):
    queries = torch.empty(1, 1, 6).expand(1, tokens, 6)
    assert BlockAffinity([(queries, queries)]).block_rows == rows

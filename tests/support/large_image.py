"""Run as a process of its own by test_affinity.py: a large image, and the memory that it takes."""

import json
import re
import sys
from pathlib import Path

import torch
from tiny_network import TinyBackbone

from model import affinity
from model.affinity import BlockAffinity
from model.auxsegnet import AuxSegNet
from model.backbones import BACKBONES

# A quarter of the elements of a whole matrix for 960x1280 pixels, in blocks of a quarter each.
SIZE = (768, 800)
affinity.BLOCK_ELEMENTS //= 4


def memory(name):
    """`VmRSS` now or `VmHWM` at most, in bytes; `ru_maxrss` would count the parent's too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", status, re.M)[1])


def dense_row(sources, cross, row, values):
    """One row of the cross-task affinity times values (N, K), by the plain 3x3 convolution."""
    tokens = len(values)
    wanted = [i for i in (row - 1, row, row + 1) if 0 <= i < tokens]
    stack = torch.zeros(1, len(sources), 3, tokens)
    for task, (queries, keys) in enumerate(sources):
        scores = queries[0, wanted] @ keys[0].T
        stack[0, task, [i - row + 1 for i in wanted]] = scores.softmax(dim=-1)
    hidden = torch.conv2d(stack, cross.conv3x3.weight, padding=(0, 1)).relu()
    weights = cross.conv1x1(hidden).softmax(dim=1)
    return (weights[0, :, 0] * stack[0, :, 1]).sum(dim=0) @ values


@torch.inference_mode()
def main():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    BACKBONES["tiny"] = TinyBackbone
    network = AuxSegNet(3, "tiny", decoder_channels=8, attention_start="similarity").eval()
    for parameter in network.cross_attention.parameters():
        torch.nn.init.normal_(parameter)
    network(torch.randn(1, 3, 64, 64), affinity="blocks")  # what is loaded once is not counted
    if sys.argv[1] == "affinity":
        said = affinity_alone(network)
    else:
        images = torch.randn(1, 3, *SIZE)
        before = memory("VmRSS")
        output = network(images, affinity="blocks")
        said = {"finite": bool(torch.isfinite(output.refined_segmentation).all())}
        said["growth"] = memory("VmHWM") - before
    json.dump(said, sys.stdout)


def affinity_alone(network):
    """Memory of applying the affinity, and how far ten of its rows are from the plain formula."""
    height, width = (side // 8 for side in SIZE)
    features = torch.randn(2, 1, 8, height, width)
    branches = zip((network.sal, network.seg), features, strict=True)
    sources = [branch.attention(maps, whole=False)[1] for branch, maps in branches]
    maps = torch.rand(1, 2, height, width)
    before = memory("VmRSS")
    blocks = BlockAffinity(sources, network.cross_attention)
    found = blocks.apply(maps).flatten(2)[0].T
    growth = memory("VmHWM") - before
    values = maps.flatten(2)[0].T
    rim = [0, blocks.block_rows - 1, blocks.block_rows, len(values) - 1]
    rows = [*rim, *torch.randint(len(values), (6,)).tolist()]
    expected = torch.stack([dense_row(sources, network.cross_attention, r, values) for r in rows])
    difference = (found[rows] - expected).abs().max() / expected.abs().max()
    return {"tokens": len(values), "growth": growth, "difference": difference.item()}


if __name__ == "__main__":
    main()

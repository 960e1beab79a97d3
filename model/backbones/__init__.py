"""Backbones: one registry of feature extractors with a common face.

A backbone is a module with the attributes `channels`, `stride`, `mean` and `std` (of RGB divided
by 255) that maps normalised images (B, 3, H0, W0) to non-negative features
(B, channels, ceil(H0 / stride), ceil(W0 / stride)). Batch normalisation is fixed in all of them.
"""

from collections.abc import Iterable

from torch import nn

from model.backbones.efficientnet_lite import (
    EfficientNetLite0,
    EfficientNetLite1,
    EfficientNetLite2,
)
from model.backbones.fixed_batch_norm import FixedBatchNorm2d
from model.backbones.resnet38 import ResNet38

__all__ = ["BACKBONES", "FixedBatchNorm2d", "create_backbone", "freeze"]

BACKBONES = {
    "resnet38": ResNet38,
    **{net.name: net for net in (EfficientNetLite0, EfficientNetLite1, EfficientNetLite2)},
}


def create_backbone(name: str, output_stride: int = 8) -> nn.Module:
    """Build a backbone by its name in `BACKBONES`, with random weights.

    Raises `ValueError` for an unknown name or an output stride that the backbone does not have.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}: known are {', '.join(sorted(BACKBONES))}")
    return BACKBONES[name](output_stride=output_stride)


def freeze(module: nn.Module, prefixes: Iterable[str]) -> None:
    """Stop the gradients of the parameters under the dotted names `prefixes`.

    A prefix covers whole components: ``blocks.1`` freezes ``blocks.1.conv.weight`` and not
    ``blocks.10.conv.weight``. Raises `ValueError` for a prefix without any parameter.
    """
    for prefix in prefixes:
        covered = [
            parameter
            for name, parameter in module.named_parameters()
            if name == prefix or name.startswith(f"{prefix}.")
        ]
        if not covered:
            raise ValueError(f"cannot freeze {prefix!r}: no parameter of the network is under it")
        for parameter in covered:
            parameter.requires_grad_(False)

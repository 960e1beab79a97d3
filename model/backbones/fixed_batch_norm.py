"""Batch normalisation that never learns, and the convolution that absorbs it."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import nn


class FixedBatchNorm2d(nn.BatchNorm2d):
    """`BatchNorm2d` with frozen statistics and frozen affine, whatever `train()` is called with.

    Batches of four crops are too small for statistics of their own: the reference networks (PSA,
    AuxSegNet) keep those of the ImageNet weights. State-dict names are those of `BatchNorm2d`.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__(channels, eps=eps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; `mode` is accepted for the sake of the surrounding module."""
        return super().train(False)

    def scale_and_shift(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer as ``x * scale + shift``: two vectors of shape (channels,)."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def draw_weights(conv: nn.Conv2d, nonlinearity: str) -> None:
    """Weights by Kaiming's normal distribution, for `nonlinearity` as in `nn.init`.

    Weights on the device "meta" have no values: drawing them does nothing, but PyTorch would
    import SymPy for that, a second of each job that reads a checkpoint.
    """
    if not conv.weight.is_meta:
        nn.init.kaiming_normal_(conv.weight, nonlinearity=nonlinearity)


def conv_bn(
    x: torch.Tensor,
    conv: nn.Conv2d,
    bn: FixedBatchNorm2d,
    padding: int | None = None,
    dilation: int | None = None,
) -> torch.Tensor:
    """``bn(conv(x))`` in one convolution, for a `FixedBatchNorm2d` and a bias-free `conv`.

    The scale is multiplied into the weight, which costs next to nothing and spares a pass over
    the activations, their gradients and the memory that autograd would keep for both. `padding`
    and `dilation` replace those of `conv` where given.
    """
    scale, shift = bn.scale_and_shift()
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    padding = conv.padding if padding is None else padding
    dilation = conv.dilation if dilation is None else dilation
    return F.conv2d(x, weight, shift, conv.stride, padding, dilation, conv.groups)

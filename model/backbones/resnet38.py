"""ResNet38, the network "A1" of Wu, Shen & van den Hengel, "Wider or Deeper" (2019).

Dilated to output stride 8 and named as in PSA (jiwoon-ahn/psa, network/resnet38d.py), so that the
weight files of PSA, SEAM and AuxSegNet fit.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.backbones.fixed_batch_norm import FixedBatchNorm2d, conv_bn, draw_weights


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False
    )


def _conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class BasicBlock(nn.Module):
    """Pre-activation block of two 3x3 convolutions.

    Where the shape changes, the shortcut convolution takes the activated input, not the input.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        self.bn_branch2a = FixedBatchNorm2d(in_channels)
        self.conv_branch2a = _conv3x3(in_channels, mid_channels, stride, dilations[0])
        self.bn_branch2b1 = FixedBatchNorm2d(mid_channels)
        self.conv_branch2b1 = _conv3x3(mid_channels, out_channels, 1, dilations[1])
        if in_channels != out_channels or stride != 1:
            self.conv_branch1 = _conv1x1(in_channels, out_channels, stride)
        else:
            self.conv_branch1 = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(activated)
        y = F.relu(conv_bn(activated, self.conv_branch2a, self.bn_branch2b1), inplace=True)
        return shortcut + self.conv_branch2b1(y)


class BottleneckBlock(nn.Module):
    """Pre-activation block 1x1, dilated 3x3, 1x1 with channel dropout before the last two."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int, dropout: float):
        super().__init__()
        self.bn_branch2a = FixedBatchNorm2d(in_channels)
        self.conv_branch2a = _conv1x1(in_channels, out_channels // 4)
        self.bn_branch2b1 = FixedBatchNorm2d(out_channels // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv3x3(out_channels // 4, out_channels // 2, dilation=dilation)
        self.bn_branch2b2 = FixedBatchNorm2d(out_channels // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _conv1x1(out_channels // 2, out_channels)
        self.conv_branch1 = _conv1x1(in_channels, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        y = F.relu(conv_bn(activated, self.conv_branch2a, self.bn_branch2b1), inplace=True)
        y = conv_bn(self.dropout_2b1(y), self.conv_branch2b1, self.bn_branch2b2)
        y = self.conv_branch2b2(self.dropout_2b2(F.relu(y, inplace=True)))
        return self.conv_branch1(activated) + y


class ResNet38(nn.Module):
    """ResNet38 without its classifier: 4096 channels at output stride 8, about 105 M parameters."""

    channels = 4096
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    def __init__(self, output_stride: int = 8):
        super().__init__()
        if output_stride != 8:
            raise ValueError(f"resnet38 has output stride 8, not {output_stride}")
        self.stride = output_stride
        self.conv1a = _conv3x3(3, 64)
        self.b2 = BasicBlock(64, 128, 128, stride=2)
        self.b2_1 = BasicBlock(128, 128, 128)
        self.b2_2 = BasicBlock(128, 128, 128)
        self.b3 = BasicBlock(128, 256, 256, stride=2)
        self.b3_1 = BasicBlock(256, 256, 256)
        self.b3_2 = BasicBlock(256, 256, 256)
        self.b4 = BasicBlock(256, 512, 512, stride=2)
        self.b4_1 = BasicBlock(512, 512, 512)
        self.b4_2 = BasicBlock(512, 512, 512)
        self.b4_3 = BasicBlock(512, 512, 512)
        self.b4_4 = BasicBlock(512, 512, 512)
        self.b4_5 = BasicBlock(512, 512, 512)
        self.b5 = BasicBlock(512, 512, 1024, dilations=(1, 2))
        self.b5_1 = BasicBlock(1024, 512, 1024, dilations=(2, 2))
        self.b5_2 = BasicBlock(1024, 512, 1024, dilations=(2, 2))
        self.b6 = BottleneckBlock(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = BottleneckBlock(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = FixedBatchNorm2d(4096)
        self._initialise()

    def _initialise(self):
        """Keep random features near unit size: no batch normalisation will do it for us."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw_weights(module, "linear")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H0, W0) normalised -> (B, 4096, ceil(H0 / 8), ceil(W0 / 8)), non-negative."""
        x = images
        for name, layer in self.named_children():
            if name != "bn7":
                x = layer(x)
        return F.relu(self.bn7(x), inplace=True)

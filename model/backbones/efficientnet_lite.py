"""EfficientNet-Lite0 to Lite2 as dilated backbones.

Architecture: Tan & Le, EfficientNet (ICML 2019), in the Lite variant of the TensorFlow TPU
repository: ReLU6 instead of swish, no squeeze-and-excitation, stem and head of fixed width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from model.backbones.fixed_batch_norm import FixedBatchNorm2d, conv_bn, draw_weights

# Kernel, stride of the first block and expansion of each group of blocks.
GROUPS = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BN_EPSILON = 1e-3
DILATION_MODES = ("auto", "plain", "phases")


class ConvBN(nn.Module):
    """Bias-free convolution and fixed batch normalisation with TensorFlow's "same" padding."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=False
        )
        self.bn = FixedBatchNorm2d(out_channels, eps=BN_EPSILON)
        draw_weights(self.conv, "relu")

    def forward(self, x: torch.Tensor, dilation: int | None = None) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        dilation = self.conv.dilation[0] if dilation is None else dilation
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride == 1:
            return conv_bn(x, self.conv, self.bn, dilation * (kernel // 2), dilation)
        x = F.pad(
            x,
            _same_padding(x.shape[-1], kernel, stride) + _same_padding(x.shape[-2], kernel, stride),
        )
        return conv_bn(x, self.conv, self.bn, 0, dilation)


def _same_padding(size, kernel, stride):
    """TensorFlow's padding (before, after) of one axis; the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Expand 1x1, depth-wise k x k, project 1x1; the input is added where the shapes allow it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        expansion: int,
        dilation: int,
        residual: bool,
    ):
        super().__init__()
        hidden = in_channels * expansion
        self.expand = ConvBN(in_channels, hidden) if expansion != 1 else None
        self.depthwise = ConvBN(hidden, hidden, kernel, stride, hidden, dilation)
        self.project = ConvBN(hidden, out_channels)
        self.dilation = dilation
        self.residual = residual

    def forward(
        self, x: torch.Tensor, dilation: int | None = None, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)).

        `mask` (B, 1, H, W) is zero where a phase was padded: the depth-wise convolution must see
        zeros there, as it would beyond the border of the image.
        """
        y = x if self.expand is None else F.relu6(_masked(self.expand(x), mask), inplace=True)
        y = F.relu6(self.depthwise(y, dilation), inplace=True)
        y = self.project(y)
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier; the larger ones differ in depth and width alone.

    Strides beyond `output_stride` (8, 16 or 32) are removed and the depth-wise convolutions that
    follow are dilated. `dilation` says how: "plain" uses dilated convolutions; "phases" runs
    undilated ones on the phase-shifted subsamples, with the same result and several times faster
    on a CPU, which has no fast kernel for dilated depth-wise convolutions; "auto" takes
    "phases" on a CPU and "plain" elsewhere.
    """

    name = "efficientnet_lite0"
    depths = (1, 2, 2, 3, 3, 4, 1)  # blocks of each group
    widths = (16, 24, 40, 80, 112, 192, 320)  # their output channels
    channels = HEAD_CHANNELS
    mean = (127 / 255, 127 / 255, 127 / 255)
    std = (128 / 255, 128 / 255, 128 / 255)

    def __init__(self, output_stride: int = 8, dilation: str = "auto"):
        super().__init__()
        if output_stride not in (8, 16, 32):
            raise ValueError(f"{self.name} has output stride 8, 16 or 32, not {output_stride}")
        if dilation not in DILATION_MODES:
            raise ValueError(f"dilation is one of {', '.join(DILATION_MODES)}, not {dilation!r}")
        self.stride = output_stride
        self.dilation = dilation
        self.stem = ConvBN(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList(_blocks(self.depths, self.widths, output_stride))
        self.head = ConvBN(self.blocks[-1].project.conv.out_channels, HEAD_CHANNELS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H0, W0) normalised -> (B, 1280, ceil(H0 / stride), ceil(W0 / stride)), 0 to 6."""
        on_cpu = images.device.type == "cpu"
        phases = self.dilation == "phases" or (self.dilation == "auto" and on_cpu)
        if on_cpu:
            # Training steps take 1.7 times as long in the other layout.
            images = images.contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(images), inplace=True)
        x = self._blocks_in_phases(x) if phases else self._blocks_plain(x)
        return F.relu6(self.head(x), inplace=True)

    def _blocks_plain(self, x):
        for block in self.blocks:
            x = block(x)
        return x

    def _blocks_in_phases(self, x):
        """A convolution of dilation d does not mix pixels of different remainder modulo d.

        So the pixels of each remainder form an image of their own ("phase") with an undilated
        convolution. The phases lie in the batch until the last block.
        """
        coarsest = self.blocks[-1].dilation
        rate, mask = 1, None
        for block in self.blocks:
            if rate == 1 and block.dilation > 1:
                size = x.shape[-2:]
                x, mask = _pad_to_multiple(x, coarsest)
            while rate < block.dilation:
                x, mask = _split(x), None if mask is None else _split(mask)
                rate *= 2
            x = block(x, dilation=1, mask=mask)
        if rate == 1:
            return x
        while rate > 1:
            x, rate = _merge(x), rate // 2
        return x[..., : size[0], : size[1]]


class EfficientNetLite1(EfficientNetLite0):
    """Lite0 with more blocks."""

    name = "efficientnet_lite1"
    depths = (1, 3, 3, 4, 4, 5, 1)


class EfficientNetLite2(EfficientNetLite1):
    """Lite1 with more channels."""

    name = "efficientnet_lite2"
    widths = (16, 24, 48, 88, 120, 208, 352)


def _masked(x, mask):
    """Zero the input of a ReLU6 outside `mask`, in place.

    Hidden from autograd, which would repeat the product: no gradient passes ReLU6 at zero.
    """
    if mask is None:
        return x
    with torch.no_grad():
        return x.mul_(mask)


def _blocks(depths, widths, output_stride):
    channels, stride, dilation = STEM_CHANNELS, 2, 1
    groups = zip(GROUPS, depths, widths, strict=True)
    for (kernel, first_stride, expansion), count, out_channels in groups:
        for index in range(count):
            wanted = first_stride if index == 0 else 1
            removed = stride * wanted > output_stride
            yield InvertedResidual(
                channels,
                out_channels,
                kernel,
                1 if removed else wanted,
                expansion,
                dilation,
                residual=wanted == 1 and channels == out_channels,
            )
            # The convolution that lost its stride still sees the grid before it.
            if removed:
                dilation *= wanted
            else:
                stride *= wanted
            channels = out_channels


def _pad_to_multiple(x, multiple):
    """Pad bottom and right to a multiple; mask (B, 1, H, W) of the pixels, None without padding."""
    height, width = x.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    if not any(padding):
        return x, None
    mask = x.new_ones(x.shape[0], 1, height, width)
    return F.pad(x, padding), F.pad(mask, padding)


def _split(x):
    """(B, C, 2h, 2w) -> (4B, C, h, w): the four phases of every second pixel, in the batch."""
    batch, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return x.permute(0, 3, 1, 2)


def _merge(x):
    """(4B, C, h, w) -> (B, C, 2h, 2w): undoes `_split`."""
    phases, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(2, 2, phases // 4, height, width, channels)
    x = x.permute(2, 3, 0, 4, 1, 5).reshape(phases // 4, 2 * height, 2 * width, channels)
    return x.permute(0, 3, 1, 2)

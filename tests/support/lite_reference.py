"""EfficientNet-Lite0 to Lite2 in plain functions, from their published tables."""

import math

import torch.nn.functional as F

# Stride of each block of the original networks; kernels and channels are those of the weights.
STRIDES = {
    0: [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1],
    1: [1, 2, 1, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
}
STRIDES[2] = STRIDES[1]


def tensorflow_same(x, weight, stride, dilation, groups):
    """Convolution with TensorFlow's "same" padding: outputs ceil(n / stride), odd pixel after."""
    padding = []
    for size in (x.shape[3], x.shape[2]):
        reach = (weight.shape[2] - 1) * dilation + 1
        total = max(0, (math.ceil(size / stride) - 1) * stride + reach - size)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, padding), weight, None, stride, 0, dilation, groups)


def lite_reference(state, x, output_stride, number=0):
    """EfficientNet-Lite`number` from a state dict in the names of `efficientnet-lite-pytorch`."""

    def conv_bn(x, conv, bn, stride=1, dilation=1, groups=1):
        x = tensorflow_same(x, state[f"{conv}.weight"], stride, dilation, groups)
        mean, var = state[f"{bn}.running_mean"], state[f"{bn}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{bn}.weight"], state[f"{bn}.bias"], eps=1e-3)

    x = F.relu6(conv_bn(x, "_conv_stem", "_bn0", stride=2))
    reached, dilation = 2, 1
    for index, stride in enumerate(STRIDES[number]):
        name, y = f"_blocks.{index}.", x
        if f"{name}_expand_conv.weight" in state:
            y = F.relu6(conv_bn(y, f"{name}_expand_conv", f"{name}_bn0"))
        kept = stride if reached * stride <= output_stride else 1
        args = (kept, dilation, y.shape[1])
        y = F.relu6(conv_bn(y, f"{name}_depthwise_conv", f"{name}_bn1", *args))
        reached, dilation = reached * kept, dilation * stride // kept
        y = conv_bn(y, f"{name}_project_conv", f"{name}_bn2")
        x = x + y if stride == 1 and x.shape[1] == y.shape[1] else y
    return F.relu6(conv_bn(x, "_conv_head", "_bn1"))

"""The released network (xulianuwa/AuxSegNet, 9f40a5d): names, shapes and formulas.

Plain functions on a dict of tensors; nothing here comes from the code under test.
"""

import torch
from torch.nn import functional as F

CHANNELS = 128
# name, in, middle, out, stride, dilation of each 3x3, shortcut convolution
BASIC_BLOCKS = [
    ("b2", 64, 128, 128, 2, (1, 1), True),
    *((f"b2_{i}", 128, 128, 128, 1, (1, 1), False) for i in (1, 2)),
    ("b3", 128, 256, 256, 2, (1, 1), True),
    *((f"b3_{i}", 256, 256, 256, 1, (1, 1), False) for i in (1, 2)),
    ("b4", 256, 512, 512, 2, (1, 1), True),
    *((f"b4_{i}", 512, 512, 512, 1, (1, 1), False) for i in range(1, 6)),
    ("b5", 512, 512, 1024, 1, (1, 2), True),
    *((f"b5_{i}", 1024, 512, 1024, 1, (2, 2), False) for i in (1, 2)),
]
BOTTLENECKS = [("b6", 1024, 2048), ("b7", 2048, 4096)]


def shapes(num_classes):
    """Name -> shape of every tensor of a released checkpoint, the idle ones included."""
    found = {"conv1a.weight": (64, 3, 3, 3), "fc8.weight": (num_classes, 4096, 1, 1)}
    for name, inputs, middle, outputs, _, _, shortcut in BASIC_BLOCKS:
        found |= batch_norm_shapes(f"{name}.bn_branch2a", inputs)
        found[f"{name}.conv_branch2a.weight"] = (middle, inputs, 3, 3)
        found |= batch_norm_shapes(f"{name}.bn_branch2b1", middle)
        found[f"{name}.conv_branch2b1.weight"] = (outputs, middle, 3, 3)
        if shortcut:
            found[f"{name}.conv_branch1.weight"] = (outputs, inputs, 1, 1)
    for name, inputs, outputs in BOTTLENECKS:
        found |= batch_norm_shapes(f"{name}.bn_branch2a", inputs)
        found[f"{name}.conv_branch2a.weight"] = (outputs // 4, inputs, 1, 1)
        found |= batch_norm_shapes(f"{name}.bn_branch2b1", outputs // 4)
        found[f"{name}.conv_branch2b1.weight"] = (outputs // 2, outputs // 4, 3, 3)
        found |= batch_norm_shapes(f"{name}.bn_branch2b2", outputs // 2)
        found[f"{name}.conv_branch2b2.weight"] = (outputs, outputs // 2, 1, 1)
        found[f"{name}.conv_branch1.weight"] = (outputs, inputs, 1, 1)
    found |= batch_norm_shapes("bn7", 4096)
    for task, outputs in (("seg", num_classes + 1), ("sal", 1)):
        found |= branch_shapes(task, outputs)
    found["cross_att.0.weight"] = (2, 2, 3, 3)
    found |= conv_shapes("cross_att.2", 2, 2, 1)
    return found


def batch_norm_shapes(name, channels):
    fields = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{field}": (channels,) for field in fields}


def conv_shapes(name, inputs, outputs, side):
    return {f"{name}.weight": (outputs, inputs, side, side), f"{name}.bias": (outputs,)}


def branch_shapes(task, outputs):
    found = conv_shapes(f"{task}_conv1", 4096, CHANNELS, 3)
    for name in ("conv2", "conv3"):
        found |= conv_shapes(f"{task}_{name}", CHANNELS, CHANNELS, 3)
    found[f"{task}_conv4.weight"] = (outputs, CHANNELS, 1, 1)
    for name in ("att.theta", "att.phi", "g", "W", "att.g", "att.W_z.0"):
        found |= conv_shapes(f"{task}_{name}", CHANNELS, CHANNELS, 1)
    return found | batch_norm_shapes(f"{task}_att.W_z.1", CHANNELS)


def is_idle(name):
    """Whether the forward pass of the released network never uses this tensor."""
    return "_att.g." in name or "_att.W_z." in name


def random_state(num_classes, seed=0):
    """Random weights, features of about unit size, and affinities that are not uniform."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(num_classes).items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif len(shape) == 4:
            values = values * (shape[1] * shape[2] * shape[3]) ** -0.5
        elif name.endswith("weight"):
            values = 0.8 + 0.2 * values
        else:
            values = 0.3 * values
        state[name] = values
    state["cross_att.0.weight"] *= 20  # affinities are far below 1
    for task in ("seg", "sal"):
        state[f"{task}_att.theta.weight"] *= 1.5
    return state


def conv(state, name, x, dilation=1, stride=1):
    weight = state[f"{name}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, dilation)


def norm_relu(state, name, x):
    fields = (state[f"{name}.{f}"] for f in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *fields, eps=1e-5).relu()


def backbone(state, images):
    """Images (B, 3, H, W) -> relu(bn7(.)) (B, 4096, H / 8, W / 8)."""
    x = conv(state, "conv1a", images)
    for name, _, _, _, stride, (first, second), shortcut in BASIC_BLOCKS:
        activated = norm_relu(state, f"{name}.bn_branch2a", x)
        y = conv(state, f"{name}.conv_branch2a", activated, first, stride)
        y = norm_relu(state, f"{name}.bn_branch2b1", y)
        y = conv(state, f"{name}.conv_branch2b1", y, second)
        x = y + (conv(state, f"{name}.conv_branch1", activated, 1, stride) if shortcut else x)
    for name, _, _ in BOTTLENECKS:
        activated = norm_relu(state, f"{name}.bn_branch2a", x)
        y = conv(state, f"{name}.conv_branch2a", activated)
        y = conv(state, f"{name}.conv_branch2b1", norm_relu(state, f"{name}.bn_branch2b1", y), 4)
        y = conv(state, f"{name}.conv_branch2b2", norm_relu(state, f"{name}.bn_branch2b2", y))
        x = conv(state, f"{name}.conv_branch1", activated) + y
    return norm_relu(state, "bn7", x)


def forward(state, images):
    """The seven outputs by name, and the largest |theta . phi|."""
    f = backbone(state, images)
    found, affinities, logits, largest = {}, {}, {}, 0.0
    found["class_logits"] = conv(state, "fc8", f.mean(dim=(2, 3), keepdim=True))[:, :, 0, 0]
    found["cams"] = conv(state, "fc8", f)
    for t in ("seg", "sal"):
        x = conv(state, f"{t}_conv2", conv(state, f"{t}_conv1", f, 6).relu(), 12).relu()
        theta, phi = (conv(state, f"{t}_att.{part}", x).flatten(2) for part in ("theta", "phi"))
        scores = torch.einsum("bdi,bdj->bij", theta, phi)
        largest = max(largest, float(scores.abs().max()))
        affinities[t] = torch.softmax(scores, dim=2)
        attended = spread(affinities[t], conv(state, f"{t}_g", x))
        y = x + conv(state, f"{t}_W", attended)
        logits[t] = conv(state, f"{t}_conv4", conv(state, f"{t}_conv3", y, 18).relu())
    stack = torch.stack([affinities["seg"], affinities["sal"]], dim=1)
    hidden = conv(state, "cross_att.0", stack).relu()
    share = torch.softmax(conv(state, "cross_att.2", hidden), dim=1)
    found["affinity"] = (share * stack).sum(dim=1)
    for t, name in (("seg", "segmentation"), ("sal", "saliency")):
        found[name] = logits[t]
        found[f"refined_{name}"] = spread(found["affinity"], logits[t])
    return found, largest


def spread(affinity, maps):
    """Token i becomes sum over j of affinity[i, j] maps[j]."""
    return torch.einsum("bij,bkj->bki", affinity, maps.flatten(2)).reshape(maps.shape)

"""Weights from outside: published checkpoints of other tools, and this workflow's own.

Known are state dicts of PSA (`res38_cls.pth`), SEAM (`resnet38_SEAM.pth`), AuxSegNet as released,
the ImageNet weights of ResNet38 (MXNet `.params`) and of EfficientNet-Lite0 (names of
`efficientnet-lite-pytorch`), and the checkpoints of this workflow. The published ones have the
backbone's parameters at the top level; in a checkpoint they are under `backbone.`, and the rest
has the names of the released code.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from model.auxsegnet import AuxSegNet
from model.backbones.resnet38 import ResNet38
from model.designs import DESIGNS
from model.listing import listed
from model.mxnet_params import is_mxnet_params, read_mxnet_params

State = dict[str, torch.Tensor]

WRAPPERS = ("state_dict", "model")
COUNTER = "num_batches_tracked"
# Layers whose first dimension is the number of classes (the latter with background).
CLASS_LAYERS = ("fc8.weight", "seg_conv4.weight")
SEAM_ONLY = ("f8_3.weight", "f8_4.weight", "f9.weight")

# Layers of a dense branch here -> in the released code (network/AuxSegNet.py).
BRANCH_LAYERS = {
    "conv1": "conv1",
    "conv2": "conv2",
    "conv3": "conv3",
    "classifier": "conv4",
    "attention.query": "att.theta",
    "attention.key": "att.phi",
    "attention.value": "g",
    "attention.projection": "W",
}
RELEASED_LAYERS = {
    **{f"seg.{ours}": f"seg_{theirs}" for ours, theirs in BRANCH_LAYERS.items()},
    **{f"sal.{ours}": f"sal_{theirs}" for ours, theirs in BRANCH_LAYERS.items()},
    "cross_attention.conv3x3": "cross_att.0",
    "cross_attention.conv1x1": "cross_att.2",
}
OWN_LAYERS = {theirs: ours for ours, theirs in RELEASED_LAYERS.items()}

MXNET_LAYER = re.compile(r"(res|bn)(\d)(?:a|b(\d+))_branch(\w+?)_([a-z]+(?:_[a-z]+)?)")
MXNET_FIELDS = {
    "weight": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
LITE_LAYERS = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.bn",
    "_conv_head": "head.conv",
    "_bn1": "head.bn",
}
LITE_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)")
LITE_BLOCK_LAYERS = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}


@dataclass(frozen=True)
class WeightsReport:
    """What `load_weights` did.

    Attributes:
        path: the file.
        loaded: weights of the network that now hold values of the file.
        missing: weights of the network that the file has nothing for; they keep their values.
        unused: names in the file that the network has no place for.

    The weights of the network are called as in a checkpoint (see `released_names`).
    """

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.path}: {len(self.loaded)} loaded"
        if self.missing:
            line += f"; missing, so left as initialised: {listed(self.missing)}"
        if self.unused:
            line += f"; unused: {listed(self.unused)}"
        return line


def load_weights(network: AuxSegNet, path: str | Path) -> WeightsReport:
    """Load a weight file into an `AuxSegNet`; returns a `WeightsReport`.

    Layers that depend on the number of classes are left at initialisation where that number
    differs in a published file; a checkpoint of this workflow must have the same.

    Raises `ValueError` with one line, leaving the network as it was, if the file cannot be read,
    nothing in it fits, a weight of the backbone is missing, shapes differ, or a value that would
    be loaded is not a finite floating-point number.
    """
    source = read_state(path)
    target = {
        name: value
        for name, value in released_names(network.state_dict()).items()
        if not name.endswith(COUNTER)
    }
    # name in a checkpoint -> name in the file
    names = {}
    for name in source:
        renamed = _model_name(name, target)
        if renamed in names:
            raise ValueError(
                f"{path}: {names[renamed]} and {name} are the same weight twice; keep one"
            )
        names[renamed] = name
    found = {name: source[names[name]] for name in target if name in names}
    own = any(name.startswith("backbone.") for name in source)
    if not own:
        found = {name: v for name, v in found.items() if not _other_classes(name, v, target)}
    _check_complete(source, found, target, path)
    _check_shapes(found, target, path)
    _check_values(found, path)
    with torch.no_grad():
        for name, value in found.items():
            target[name].copy_(value)
    return WeightsReport(
        path=str(path),
        loaded=tuple(found),
        missing=tuple(name for name in target if name not in found),
        unused=tuple(sorted(names[name] for name in names.keys() - found.keys())),
    )


def released_names(state: State) -> State:
    """A state dict of an `AuxSegNet`, with the names that the released code has for its layers."""
    return {_renamed(name, RELEASED_LAYERS): value for name, value in state.items()}


def own_names(state: State) -> State:
    """Undo `released_names`."""
    return {_renamed(name, OWN_LAYERS): value for name, value in state.items()}


def _renamed(name, layers):
    layer, _, field = name.rpartition(".")
    return f"{layers.get(layer, layer)}.{field}"


def released_state(network: AuxSegNet) -> State:
    """State dict of a network as the released code has it, which can load it strictly.

    A classifier alone has the names of PSA's. The two attention blocks of the released network
    (network/non_local.py of xulianuwa/AuxSegNet) own a `g` and a `W_z` that its forward pass
    never calls; they are filled in, with zeros where the released code starts with zeros.

    Raises `ValueError` for a network that the released code has no counterpart of: another
    backbone than ResNet38, the decoder of design `paper`, or some of the branches only.
    """
    if not isinstance(network.backbone, ResNet38):
        raise ValueError("only networks with the backbone resnet38 have released names")
    state = released_names(network.state_dict())
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    if network.branches == {"cls"}:
        return state
    if network.branches != {"cls", "seg", "sal"} or network.refined != ("seg", "sal"):
        raise ValueError("the released network has all branches and both affinities")
    if network.design != DESIGNS["official"]:
        raise ValueError("the released code has no decoder as in design paper, only official")
    for task in ("seg", "sal"):
        state |= _idle_layers(f"{task}_att", state[f"{task}_att.theta.weight"])
    return state


def _idle_layers(block, theta):
    """What a released attention block holds beside theta and phi; `theta` is (D, D, 1, 1)."""
    zeros = torch.zeros(theta.shape[0], dtype=theta.dtype)
    return {
        f"{block}.g.weight": torch.zeros_like(theta),
        f"{block}.g.bias": zeros.clone(),
        f"{block}.W_z.0.weight": torch.zeros_like(theta),
        f"{block}.W_z.0.bias": zeros.clone(),
        f"{block}.W_z.1.weight": zeros.clone(),
        f"{block}.W_z.1.bias": zeros.clone(),
        f"{block}.W_z.1.running_mean": zeros.clone(),
        f"{block}.W_z.1.running_var": torch.ones_like(zeros),
        f"{block}.W_z.1.num_batches_tracked": torch.tensor(0),
    }


def read_state(path: str | Path) -> State:
    """The file's flat dict of name -> tensor, `module.` removed, counters of batches dropped.

    What wrote the file is told by its content, not by its name. Raises `ValueError` with one line
    if the file cannot be read or holds anything but weights.
    """
    try:
        content = _mxnet_state(path) if is_mxnet_params(path) else _torch_state(path)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{path}: cannot read the weights: {reason}; fetch them first") from error
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path}: holds no weights; a state dict is expected")
    other = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ValueError(
            f"{path}: not a state dict: {listed(other)} is no tensor; choose a file of weights"
        )
    state = _unwrapped(content, path)
    classifier = state.get("fc8.weight")
    if any(name in state for name in SEAM_ONLY) and classifier is not None and classifier.dim():
        # SEAM classifies the background too, as its first class.
        state["fc8.weight"] = classifier[1:]
    return state


def _unwrapped(content, path):
    """Names without the `module.` of `DataParallel`, and without counters of batches."""
    state = {}
    for name, value in content.items():
        bare = str(name).removeprefix("module.")
        if bare in state:
            raise ValueError(f"{path}: {bare} is there twice, once with module.; keep one")
        if not bare.endswith(COUNTER):
            state[bare] = value
    return state


def _torch_state(path):
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged files raise almost anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        if isinstance(error, pickle.UnpicklingError):  # of many lines, and none for a user
            reason = "a file of another kind, or with more in it than weights"
        raise ValueError(
            f"{path}: not a readable PyTorch weight file: {reason}; fetch it again"
        ) from error


def _mxnet_state(path):
    arrays = read_mxnet_params(path)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _model_name(name, target):
    """Name in a checkpoint; what the network does not have at its top is in the backbone."""
    if name in target:
        return name
    if name.startswith(("arg:", "aux:")):
        name = mxnet_name(name)
    elif name.startswith("_"):
        name = efficientnet_lite_name(name)
    return f"backbone.{name}"


def mxnet_name(name: str) -> str:
    """Name in `ResNet38` of an array of the MXNet file; what has none there stays as it is."""
    bare = name.split(":", 1)[1]
    if bare == "conv1a_weight":
        return "conv1a.weight"
    if bare.startswith("bn7_") and bare[4:] in MXNET_FIELDS:
        return f"bn7.{MXNET_FIELDS[bare[4:]]}"
    match = MXNET_LAYER.fullmatch(bare)
    if match is None or match[5] not in MXNET_FIELDS:
        return name
    kind, level, repeat, branch, field = match.groups()
    block = f"b{level}" if repeat is None else f"b{level}_{repeat}"
    layer = "conv" if kind == "res" else "bn"
    return f"{block}.{layer}_branch{branch}.{MXNET_FIELDS[field]}"


def efficientnet_lite_name(name: str) -> str:
    """Name in an EfficientNet-Lite of a tensor of `efficientnet-lite-pytorch`; else unchanged."""
    layer, _, field = name.rpartition(".")
    if layer in LITE_LAYERS:
        return f"{LITE_LAYERS[layer]}.{field}"
    match = LITE_BLOCK.fullmatch(layer)
    if match is None or match[2] not in LITE_BLOCK_LAYERS:
        return name
    return f"blocks.{match[1]}.{LITE_BLOCK_LAYERS[match[2]]}.{field}"


def _other_classes(name, value, target):
    """Whether a layer differs from the network's in nothing but the number of classes."""
    wanted = target[name].shape
    return (
        name in CLASS_LAYERS
        and value.dim() == len(wanted)
        and value.shape[1:] == wanted[1:]
        and value.shape[0] != wanted[0]
    )


def _check_complete(source, found, target, path):
    backbone = [name for name in target if name.startswith("backbone.")]
    missing = [name for name in backbone if name not in found]
    if len(missing) == len(backbone):
        raise ValueError(
            f"{path}: nothing fits the backbone (the file has {listed(source)}; the "
            f"network has {listed(backbone)}); choose the weights of this backbone"
        )
    if missing:
        raise ValueError(
            f"{path}: weights of the backbone are missing: {listed(missing)}; choose the weights"
            " of this backbone"
        )


def _check_shapes(found, target, path):
    different = [
        f"{name} is {tuple(value.shape)} in the file and {tuple(target[name].shape)} in the network"
        for name, value in found.items()
        if value.shape != target[name].shape
    ]
    if different:
        raise ValueError(
            f"{path}: shapes differ: {listed(different)}; choose the weights of this network"
        )


def _check_values(found, path):
    bad = [
        name
        for name, value in found.items()
        if value.layout != torch.strided
        or value.is_meta
        or not value.is_floating_point()
        or not torch.isfinite(value.float()).all()
    ]
    if bad:
        raise ValueError(
            f"{path}: not finite floating-point numbers: {listed(bad)}; choose other weights"
        )

"""Backbones against plain functional versions of their published tables."""

import math

import pytest
import torch
import torch.nn.functional as F
from lite_reference import STRIDES, lite_reference
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.auxsegnet import AuxSegNet
from model.backbones import BACKBONES, FixedBatchNorm2d, create_backbone, freeze
from model.backbones.efficientnet_lite import EfficientNetLite0
from model.backbones.resnet38 import ResNet38
from model.weights import efficientnet_lite_name

# ResNet38 block by block: name, channels in, in the middle, out, stride, dilations.
BASIC = [
    ("b2", 64, 128, 128, 2, 1, 1),
    *[(f"b2_{i}", 128, 128, 128, 1, 1, 1) for i in (1, 2)],
    ("b3", 128, 256, 256, 2, 1, 1),
    *[(f"b3_{i}", 256, 256, 256, 1, 1, 1) for i in (1, 2)],
    ("b4", 256, 512, 512, 2, 1, 1),
    *[(f"b4_{i}", 512, 512, 512, 1, 1, 1) for i in (1, 2, 3, 4, 5)],
    ("b5", 512, 512, 1024, 1, 1, 2),
    *[(f"b5_{i}", 1024, 512, 1024, 1, 2, 2) for i in (1, 2)],
]
BOTTLENECK = [("b6", 1024, 512, 1024, 2048), ("b7", 2048, 1024, 2048, 4096)]
BN_FIELDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def randomise_norms(module):
    """Norms that do something: the identity would hide a wrong order, name or epsilon."""
    for layer in module.modules():
        if isinstance(layer, FixedBatchNorm2d):
            layer.weight.data.uniform_(0.7, 1.3)
            layer.bias.data.normal_(0, 0.4)
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)


def lite_state_names(number=0):
    names = {"_conv_stem.weight", "_conv_head.weight"}
    norms = ["_bn0", "_bn1"]
    for index in range(len(STRIDES[number])):
        convs = ["_expand_conv", "_depthwise_conv", "_project_conv"][index == 0 :]
        names |= {f"_blocks.{index}.{conv}.weight" for conv in convs}
        norms += [f"_blocks.{index}._bn{i}" for i in range(index == 0, 3)]
    return names | {f"{norm}.{field}" for norm in norms for field in BN_FIELDS}


def in_published_names(backbone, number=0):
    state = backbone.state_dict()
    return {name: state[efficientnet_lite_name(name)] for name in lite_state_names(number)}


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(0)
    backbone = EfficientNetLite0(output_stride=8)
    randomise_norms(backbone)
    return backbone


def with_stride(backbone, output_stride, dilation):
    other = EfficientNetLite0(output_stride, dilation)
    other.load_state_dict(backbone.state_dict())
    return other


def test_lite0_names_are_the_published_ones(lite0):
    assert set(in_published_names(lite0)) == lite_state_names()
    assert {efficientnet_lite_name(name) for name in lite_state_names()} == set(lite0.state_dict())


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(64, 32), (65, 71), (40, 9)])
@pytest.mark.parametrize("dilation", ["plain", "phases", "auto"])
def test_lite0_is_the_published_network(lite0, output_stride, size, dilation):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    backbone = with_stride(lite0, output_stride, dilation)
    with torch.no_grad():
        expected = lite_reference(in_published_names(lite0), images, output_stride)
        found = backbone(images)
    assert found.shape == (2, 1280, *(math.ceil(n / output_stride) for n in size))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


# Millions of parameters with the classifier of ImageNet, as the repository of the TPU has them.
@pytest.mark.parametrize(("number", "millions"), [(0, 4.7), (1, 5.4), (2, 6.1)])
def test_larger_ones_are_the_published_networks(number, millions):
    backbone = create_backbone(f"efficientnet_lite{number}", output_stride=16).double()
    randomise_norms(backbone)
    own = sum(p.numel() for p in backbone.parameters())
    assert (own + 1281 * 1000) / 1e6 == pytest.approx(millions, abs=0.05)
    published = in_published_names(backbone, number)
    assert len(published) == len(backbone.state_dict())
    images = torch.randn(1, 3, 65, 40, dtype=torch.float64)
    with torch.no_grad():
        expected = lite_reference(published, images, 16, number)
        torch.testing.assert_close(backbone(images), expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [(32, 32), (17, 40)])
def test_phases_equal_dilation_with_gradients(lite0, output_stride, size):
    # In double precision: rounding moves values over the kinks of ReLU6.
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    results = []
    for dilation in ("plain", "phases"):
        backbone = with_stride(lite0, output_stride, dilation).double()
        freeze(backbone, ["stem", *(f"blocks.{i}" for i in range(5))])
        features = backbone(images)
        (features**2).mean().backward()
        gradients = {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None}
        results.append((features.detach(), gradients))
    (plain, plain_gradients), (phases, gradients) = results
    torch.testing.assert_close(phases, plain, atol=1e-10, rtol=1e-10)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], atol=1e-12, rtol=1e-8)


def test_lite0_normalisation_is_that_of_its_stem():
    pixels = torch.tensor([0.0, 127.0, 255.0])
    mean, std = EfficientNetLite0.mean[0], EfficientNetLite0.std[0]
    torch.testing.assert_close((pixels / 255 - mean) / std, (pixels - 127) / 128)


def resnet38_reference(state, x):
    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        x = F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)
        return F.relu(x)

    def conv(x, name, stride=1, dilation=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, None, stride, dilation * (weight.shape[2] // 2), dilation)

    x = conv(x, "conv1a")
    for name, channels, _, out, stride, first, second in BASIC:
        active = norm(x, f"{name}.bn_branch2a")
        same = channels == out and stride == 1
        shortcut = x if same else conv(active, f"{name}.conv_branch1", stride)
        y = conv(active, f"{name}.conv_branch2a", stride, first)
        y = norm(y, f"{name}.bn_branch2b1")
        x = shortcut + conv(y, f"{name}.conv_branch2b1", 1, second)
    for name, *_ in BOTTLENECK:
        active = norm(x, f"{name}.bn_branch2a")
        y = norm(conv(active, f"{name}.conv_branch2a"), f"{name}.bn_branch2b1")
        y = norm(conv(y, f"{name}.conv_branch2b1", 1, 4), f"{name}.bn_branch2b2")
        x = conv(active, f"{name}.conv_branch1") + conv(y, f"{name}.conv_branch2b2")
    return norm(x, "bn7")


def resnet38_shapes():
    """Names of PSA's resnet38d and shapes of the table."""
    shapes = {"conv1a.weight": (64, 3, 3, 3)}
    norms = {"bn7": 4096}
    for name, channels, mid, out, stride, *_ in BASIC:
        norms |= {f"{name}.bn_branch2a": channels, f"{name}.bn_branch2b1": mid}
        shapes[f"{name}.conv_branch2a.weight"] = (mid, channels, 3, 3)
        shapes[f"{name}.conv_branch2b1.weight"] = (out, mid, 3, 3)
        if channels != out or stride != 1:
            shapes[f"{name}.conv_branch1.weight"] = (out, channels, 1, 1)
    for name, channels, first, second, out in BOTTLENECK:
        norms |= {f"{name}.bn_branch2a": channels}
        norms |= {f"{name}.bn_branch2b1": first, f"{name}.bn_branch2b2": second}
        shapes[f"{name}.conv_branch2a.weight"] = (first, channels, 1, 1)
        shapes[f"{name}.conv_branch2b1.weight"] = (second, first, 3, 3)
        shapes[f"{name}.conv_branch2b2.weight"] = (out, second, 1, 1)
        shapes[f"{name}.conv_branch1.weight"] = (out, channels, 1, 1)
    for norm, size in norms.items():
        shapes |= {f"{norm}.{field}": (size,) for field in BN_FIELDS[:4]}
        shapes[f"{norm}.num_batches_tracked"] = ()
    return shapes


@pytest.fixture(scope="module")
def resnet38():
    torch.manual_seed(0)
    backbone = ResNet38()
    randomise_norms(backbone)
    return backbone


def test_resnet38_names_and_shapes_are_those_of_psa(resnet38):
    found = {name: tuple(value.shape) for name, value in resnet38.state_dict().items()}
    assert found == resnet38_shapes()


def test_resnet38_size(resnet38):
    parameters = sum(p.numel() for p in resnet38.parameters())
    learned = {n: s for n, s in resnet38_shapes().items() if n.endswith((".weight", ".bias"))}
    assert parameters == sum(math.prod(shape) for shape in learned.values())
    assert parameters == pytest.approx(105e6, rel=0.005)


def test_resnet38_cost_with_the_branches():
    """About 230 GMAC at 321 x 321 and 115 M parameters (the released network)."""
    with torch.device("meta"):
        network, images = AuxSegNet(20, "resnet38", "official").eval(), torch.empty(1, 3, 321, 321)
    with FlopCounterMode(display=False) as counter:
        features = network.backbone(images)
        for branch in (network.seg, network.sal):
            x = features
            for layer in (branch.conv1, branch.conv2, branch.conv3, branch.classifier):
                x = layer(x)
    assert counter.get_total_flops() / 2 == pytest.approx(230e9, rel=0.02)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(115e6, rel=0.01)


def test_resnet38_is_the_published_network(resnet38):
    images = torch.randn(1, 3, 49, 66)
    with torch.no_grad():
        expected = resnet38_reference(resnet38.state_dict(), images)
        found = resnet38.eval()(images)
    assert found.shape == (1, 4096, 7, 9)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("block", "rate"), [("b6", 0.3), ("b7", 0.5)])
@pytest.mark.parametrize("layer", ["dropout_2b1", "dropout_2b2"])
def test_resnet38_drops_whole_channels_in_training_only(resnet38, block, rate, layer):
    block, dropped = resnet38.get_submodule(block), []

    def watch(_, args, output):
        alive = args[0].amax(dim=(2, 3)) > 0
        dropped.append(float((output.amax(dim=(2, 3))[alive] == 0).float().mean()))

    hook = block.get_submodule(layer).register_forward_hook(watch)
    x = torch.randn(1, block.conv_branch1.in_channels, 3, 3)
    with torch.no_grad():
        block.eval()(x)
        block.train()(x)
    hook.remove()
    assert dropped[0] == 0
    assert dropped[1] == pytest.approx(rate, abs=0.12)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_common_face(name):
    backbone = create_backbone(name).eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 33, 48))
    assert backbone.stride == 8
    assert features.shape == (1, backbone.channels, 5, 6)
    assert features.min() >= 0
    assert len(backbone.mean) == len(backbone.std) == 3


def test_norms_stay_fixed_while_training(lite0):
    lite0.train()
    before = {name: value.clone() for name, value in lite0.state_dict().items()}
    optimiser = torch.optim.SGD(lite0.parameters(), lr=0.1, weight_decay=0.1)
    lite0(torch.randn(2, 3, 32, 32)).mean().backward()
    optimiser.step()
    after = lite0.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("conv.weight")}
    lite0.zero_grad()
    lite0.load_state_dict(before)


def test_fixed_norm_ignores_training_mode():
    norm = FixedBatchNorm2d(3)
    randomise_norms(norm)
    x = torch.randn(4, 3, 5, 5) * 7 + 2
    norm.eval()
    expected, mean = norm(x), norm.running_mean.clone()
    nn.Sequential(norm).train()
    assert torch.equal(norm(x), expected)
    assert torch.equal(norm.running_mean, mean)
    assert not any(parameter.requires_grad for parameter in norm.parameters())
    assert norm.state_dict().keys() == nn.BatchNorm2d(3).state_dict().keys()


def test_freeze_covers_whole_components():
    backbone = create_backbone("efficientnet_lite0")
    norms = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    freeze(backbone, ["stem", "blocks.1"])
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad} - norms
    assert frozen == {
        "stem.conv.weight",
        *(f"blocks.1.{layer}.conv.weight" for layer in ("expand", "depthwise", "project")),
    }


@pytest.mark.parametrize("prefix", ["block", "blocks.01", "blocks.99", ""])
def test_freeze_refuses_what_matches_nothing(prefix):
    with pytest.raises(ValueError, match="cannot freeze"):
        freeze(create_backbone("efficientnet_lite0"), ["stem", prefix])


def test_unknown_choices_are_named():
    with pytest.raises(ValueError, match="efficientnet_lite2, resnet38"):
        create_backbone("resnet50")
    with pytest.raises(ValueError, match="output stride 8, not 16"):
        create_backbone("resnet38", output_stride=16)
    with pytest.raises(ValueError, match="8, 16 or 32, not 4"):
        create_backbone("efficientnet_lite0", output_stride=4)
    with pytest.raises(ValueError, match="auto, plain, phases"):
        EfficientNetLite0(dilation="fast")

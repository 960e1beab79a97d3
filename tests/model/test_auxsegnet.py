"""The network against the paper's and the released one, written out in plain operations."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.affinity import BlockAffinity
from model.auxsegnet import AFFINITIES, BRANCHES, AuxSegNet
from model.backbones import BACKBONES, FixedBatchNorm2d, freeze
from model.losses import stage_losses, weighted_sum
from model.weights import released_names
from wsss.method.inference import Viewer, predict

CLASSES = 3
IMAGE = (64, 176)  # 8 x 22 tokens: a rate of 18 reaches other tokens than the own


@pytest.fixture
def images():
    return torch.randn(2, 3, *IMAGE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def build(tiny_backbone):
    def build(design="paper", backbone="tiny", **options):
        torch.manual_seed(0)
        network = AuxSegNet(CLASSES, backbone, design, decoder_channels=16, **options).eval()
        # Affinities that are not uniform and weights that differ from pixel to pixel.
        for name, parameter in network.named_parameters():
            if not name.startswith("backbone."):
                torch.nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
        if network.cross_attention is not None:
            network.cross_attention.conv3x3.weight.data *= 20
        return network

    return build


def conv(state, name, x, rate=0):
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
    return F.conv2d(x, weight, bias, padding=rate, dilation=max(rate, 1))


def attention(state, task, x, value_name):
    """Softmax over keys of theta(x)^T phi(x), without a scale, and what it makes of the values."""
    batch, _, height, width = x.shape
    theta, phi = (conv(state, f"{task}_att.{part}", x).flatten(2) for part in ("theta", "phi"))
    values = conv(state, value_name, x).flatten(2)
    affinity = torch.zeros(batch, height * width, height * width)
    for b in range(batch):
        affinity[b] = torch.softmax(theta[b].T @ phi[b], dim=1)
    attended = torch.stack([values[b] @ affinity[b].T for b in range(batch)])
    return affinity, attended.reshape(batch, -1, height, width)


def cross_task(state, first, second):
    stack = torch.stack([first, second], dim=1)
    hidden = F.conv2d(stack, state["cross_att.0.weight"], padding=1).relu()
    scores = F.conv2d(hidden, state["cross_att.2.weight"], state["cross_att.2.bias"])
    w = torch.softmax(scores, dim=1)
    return w[:, 0] * first + w[:, 1] * second, w


def spread(affinity, maps):
    """A_CT @ x: row i weighs all tokens for token i."""
    return (affinity @ maps.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(maps.shape)


def official(state, f):
    """The network of the released code (xulianuwa/AuxSegNet, 9f40a5d), exactly."""
    logits, affinities = {}, {}
    for t in ("seg", "sal"):
        x = conv(state, f"{t}_conv2", conv(state, f"{t}_conv1", f, 6).relu(), 12).relu()
        affinities[t], attended = attention(state, t, x, f"{t}_g")
        y = x + conv(state, f"{t}_W", attended)
        logits[t] = conv(state, f"{t}_conv4", conv(state, f"{t}_conv3", y, 18).relu())
    affinity, w = cross_task(state, affinities["seg"], affinities["sal"])
    refined = {t: spread(affinity, x) for t, x in logits.items()}
    return logits, refined, affinity, w


def paper(state, f):
    """Paper, equations 2-7, saliency first in the stack; divided by row sums: (A P) / (A 1)."""
    logits, affinities = {}, {}
    for t in ("seg", "sal"):
        x = conv(state, f"{t}_conv2", conv(state, f"{t}_conv1", f, 6).relu(), 12).relu()
        affinities[t], attended = attention(state, t, x, f"{t}_g")
        logits[t] = conv(state, f"{t}_conv4", x + attended)
    affinity, w = cross_task(state, affinities["sal"], affinities["seg"])
    probability = {"seg": logits["seg"].softmax(dim=1), "sal": logits["sal"].sigmoid()}
    sums = affinity.sum(dim=2).reshape(len(f), 1, *f.shape[2:])
    return logits, {t: spread(affinity, p) / sums for t, p in probability.items()}, affinity, w


@pytest.mark.parametrize("backbone", ["tiny", "efficientnet_lite0"])
@pytest.mark.parametrize(("design", "reference"), [("official", official), ("paper", paper)])
@torch.no_grad()
def test_forward_is_the_text_of_the_design(build, images, design, reference, backbone):
    network = build(design, backbone)
    output, features = network(images), network.backbone(images)
    logits, refined, affinity, weights = reference(released_names(network.state_dict()), features)
    # The case says something: neither affinity is uniform, and both get a changing share.
    assert affinity.amax() > 3 / affinity.shape[1]
    assert weights.std() > 0.01

    def close(found, expected):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)

    close(output.segmentation, logits["seg"])
    close(output.saliency, logits["sal"])
    close(output.affinity, affinity)
    close(output.refined_segmentation, refined["seg"])
    close(output.refined_saliency, refined["sal"])
    fc8 = network.fc8.weight[:, :, 0, 0]
    close(output.class_logits, features.mean(dim=(2, 3)) @ fc8.T)
    close(output.cams, torch.einsum("ck,bkhw->bchw", fc8, features))
    if design == "paper":
        close(output.refined_segmentation.sum(dim=1), torch.ones(2, 8, 22))


class FlatBackbone(nn.Module):
    """Sees the same everywhere: 1 in each of 64 channels."""

    channels, stride = 64, 8

    def __init__(self, output_stride=8):
        super().__init__()

    def forward(self, images):
        return images.new_ones(len(images), 64, 2, 3)


@pytest.mark.parametrize(("design", "seen"), [("paper", {1.0}), ("official", {0.0, 2.0})])
@torch.no_grad()
def test_the_classifier_drops_what_its_design_says(monkeypatch, design, seen):
    """Half of the channels or none, each as a whole; and only while it learns."""
    monkeypatch.setitem(BACKBONES, "flat", FlatBackbone)
    torch.manual_seed(0)
    network = AuxSegNet(64, "flat", design, branches="cls", affinity="none")
    assert network.fc8.bias is None
    network.fc8.weight.data = torch.eye(64)[..., None, None]  # each class reads its channel
    images = torch.zeros(4, 3, 16, 24)
    assert set(network.train()(images).class_logits.flatten().tolist()) == seen
    assert (network(images).cams == 1).all()
    assert (network.eval()(images).class_logits == 1).all()


def fields(output):
    return {name for name, value in output._asdict().items() if value is not None}


ALLOWED = {
    ("cls", "none"),
    *(("seg", a) for a in ("none", "segmentation")),
    *(("seg_cls", a) for a in ("none", "segmentation")),
    *(("seg_sal", a) for a in AFFINITIES),
    *(("all", a) for a in AFFINITIES),
}


@pytest.mark.parametrize("design", ["paper", "official"])
@pytest.mark.parametrize(("branches", "affinity"), sorted(ALLOWED))
@torch.no_grad()
def test_switches_say_which_outputs_there_are(build, images, branches, affinity, design):
    output = build(design, branches=branches, affinity=affinity)(images)
    expected = set()
    if branches in ("cls", "seg_cls", "all"):
        expected |= {"class_logits", "cams"}
    if branches in ("seg_sal", "all"):
        expected |= {"saliency"}
    if branches != "cls":
        expected |= {"segmentation"}
    if affinity != "none":
        expected |= {"affinity", "refined_segmentation"}
    if affinity == "cross_task":
        expected |= {"refined_saliency"}
    assert fields(output) == expected
    shapes = {
        "class_logits": (2, CLASSES),
        "cams": (2, CLASSES, 8, 22),
        "saliency": (2, 1, 8, 22),
        "refined_saliency": (2, 1, 8, 22),
        "segmentation": (2, CLASSES + 1, 8, 22),
        "refined_segmentation": (2, CLASSES + 1, 8, 22),
        "affinity": (2, 176, 176),
    }
    for name in expected:
        assert tuple(getattr(output, name).shape) == shapes[name], name
        assert torch.isfinite(getattr(output, name)).all()


@pytest.mark.parametrize(
    ("branches", "affinity"), sorted({(b, a) for b in BRANCHES for a in AFFINITIES} - ALLOWED)
)
def test_affinity_of_a_branch_that_is_off_is_refused(build, branches, affinity):
    with pytest.raises(ValueError, match=f"{affinity}.*needs the (segmentation|saliency) branch"):
        build(branches=branches, affinity=affinity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branches": "everything"}, "unknown branches 'everything'; known: cls, seg"),
        ({"affinity": "some"}, "unknown affinity 'some'; known: none"),
        ({"design": "mine"}, "unknown design 'mine'; known: paper"),
        ({"backbone": "vgg"}, "unknown backbone 'vgg'"),
    ],
)
def test_unknown_names_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_unknown_mode_and_no_classes_are_refused(build, images):
    with pytest.raises(ValueError, match="'rows'"):
        build()(images, affinity="rows")
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        AuxSegNet(0, "tiny")


@pytest.mark.parametrize("affinity", ["segmentation", "cross_task_segmentation", "cross_task"])
@pytest.mark.parametrize("design", ["paper", "official"])
@torch.no_grad()
def test_blocks_give_what_the_whole_matrix_gives(build, images, design, affinity):
    network = build(design, affinity=affinity)
    full, blocks = network(images), network(images, affinity="blocks")
    assert isinstance(blocks.affinity, BlockAffinity)
    assert fields(blocks) == fields(full)
    for name in fields(full) - {"affinity"}:
        torch.testing.assert_close(
            getattr(blocks, name), getattr(full, name), rtol=1e-4, atol=1e-5, msg=name
        )
    maps = torch.rand(2, 5, 8, 22)
    torch.testing.assert_close(blocks.affinity.apply(maps), spread(full.affinity, maps))


@torch.no_grad()
def test_without_affinity_the_plain_outputs_stay(build, images):
    network = build()
    full, plain = network(images), network(images, affinity=None)
    assert fields(full) - fields(plain) == {"refined_saliency", "refined_segmentation", "affinity"}
    for name in fields(plain):
        torch.testing.assert_close(getattr(plain, name), getattr(full, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("design", ["paper", "official"])
@torch.no_grad()
def test_affinities_are_float32_under_mixed_precision(build, images, design):
    network = build(design)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        full, blocks = network(images), network(images, affinity="blocks")
    assert full.segmentation.dtype == torch.bfloat16  # the rest is not
    refined = ("refined_segmentation", "refined_saliency")
    assert {full.affinity.dtype, *(getattr(full, name).dtype for name in refined)} == {
        torch.float32
    }
    # Products and a softmax of eight bits would not agree so well.
    maps = torch.rand(2, 5, 8, 22)
    torch.testing.assert_close(blocks.affinity.apply(maps), spread(full.affinity, maps))
    if design == "paper":
        torch.testing.assert_close(full.refined_segmentation.sum(dim=1), torch.ones(2, 8, 22))


@torch.no_grad()
def test_segmentation_affinity_is_the_softmax_of_its_branch(build, images):
    output = build(branches="seg", affinity="segmentation")(images)
    torch.testing.assert_close(output.affinity.sum(dim=2), torch.ones(2, 176))


@torch.no_grad()
def test_affinity_can_start_as_the_similarity_of_features(tiny_backbone, images):
    torch.manual_seed(0)
    options = {"branches": "seg", "affinity": "segmentation", "decoder_channels": 16}
    network = AuxSegNet(CLASSES, "tiny", attention_start="similarity", **options).eval()
    images = 20 * images  # else the features are so small that any softmax is even
    state, f = released_names(network.state_dict()), network.backbone(images)
    x = conv(state, "seg_conv2", conv(state, "seg_conv1", f, 6).relu(), 12).relu().flatten(2)
    expected = torch.softmax(x.transpose(1, 2) @ x, dim=2)
    assert expected.amax() > 10 / expected.shape[1]
    torch.testing.assert_close(network(images).affinity, expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="unknown attention_start 'even'; known: random"):
        AuxSegNet(CLASSES, "tiny", attention_start="even", **options)


def with_bias(*names):
    return {f"{name}.{part}" for name in names for part in ("weight", "bias")}


# Repository xulianuwa/AuxSegNet, network/AuxSegNet.py; the backbone is at its top level there.
OFFICIAL_NAMES = {
    "fc8.weight",
    *with_bias("seg_conv1", "seg_conv2", "seg_conv3", "sal_conv1", "sal_conv2", "sal_conv3"),
    "seg_conv4.weight",
    "sal_conv4.weight",
    *with_bias("seg_att.theta", "seg_att.phi", "sal_att.theta", "sal_att.phi"),
    *with_bias("seg_g", "seg_W", "sal_g", "sal_W"),
    "cross_att.0.weight",
    *with_bias("cross_att.2"),
}


@pytest.mark.parametrize("design", ["official", "paper"])
def test_heads_have_the_names_of_the_released_code(tiny_backbone, design):
    state = released_names(AuxSegNet(20, "tiny", design).state_dict())
    names = {name for name in state if not name.startswith("backbone.")}
    absent = set()
    if design == "paper":
        absent = with_bias("seg_conv3", "sal_conv3", "seg_W", "sal_W")
    assert names == OFFICIAL_NAMES - absent
    for name, shape in {
        "fc8.weight": (20, 8, 1, 1),
        "seg_conv1.weight": (128, 8, 3, 3),
        "seg_conv4.weight": (21, 128, 1, 1),
        "sal_conv4.weight": (1, 128, 1, 1),
        "sal_att.phi.weight": (128, 128, 1, 1),
        "cross_att.0.weight": (2, 2, 3, 3),
        "cross_att.2.weight": (2, 2, 1, 1),
    }.items():
        assert tuple(state[name].shape) == shape


def test_dropout_of_the_official_classifier_spares_the_cams(build, images):
    network = build("official")
    network.dropout.train()
    torch.manual_seed(1)
    with torch.no_grad():
        first, second = network(images), network(images)
    assert not torch.equal(first.class_logits, second.class_logits)
    torch.testing.assert_close(first.cams, second.cams)


@pytest.mark.parametrize("design", ["paper", "official"])
def test_every_parameter_learns(build, images, design):
    network = build(design)
    labels = torch.randint(0, 2, (2, *IMAGE), dtype=torch.uint8)
    losses = stage_losses(
        network(images), torch.ones(2, CLASSES), labels, labels, design == "paper"
    )
    sum(losses.values()).backward()
    without = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    # A softmax over keys does not see what all its keys have in common.
    assert set(without) <= {"seg.attention.key.bias", "sal.attention.key.bias"}


@pytest.mark.run
def test_resnet38_trains_a_step_and_predicts_a_photograph():
    """At its full width, on a CPU."""
    torch.manual_seed(0)
    network = AuxSegNet(20, "resnet38", "paper")
    assert sum(p.numel() for p in network.parameters()) > 105e6
    freeze(network.backbone, ["conv1a"])
    network.train()
    # What would train is 115 M parameters; plain SGD keeps memory to weights and gradients.
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-6)
    watched = {
        name: parameter.detach().clone()
        for name, parameter in network.named_parameters()
        if name.endswith(
            ("conv1a.weight", "b7.conv_branch1.weight", "classifier.weight", "fc8.weight")
        )
    }
    labels = torch.randint(0, 21, (1, 64, 64), generator=torch.Generator().manual_seed(0))
    losses = stage_losses(
        network(torch.randn(1, 3, 64, 64)), torch.ones(1, 20), labels, labels.clamp(max=1), True
    )
    weights = {"classification": 1, "saliency": 1, "segmentation": 1}
    total = weighted_sum(losses, weights)
    assert len(losses) == 5 and torch.isfinite(total)
    total.backward()
    optimiser.step()
    moved = {
        name: not torch.equal(network.get_parameter(name), before)
        for name, before in watched.items()
    }
    assert moved == {name: name != "backbone.conv1a.weight" for name in watched}
    for layer in network.modules():
        if isinstance(layer, FixedBatchNorm2d):
            assert not layer.running_mean.any() and (layer.running_var == 1).all()
    optimiser.zero_grad()

    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    viewer = Viewer(network.eval(), torch.device("cpu"))
    arrays, keys = predict(viewer, image, scales=[1.0], flip=False, merge="max")
    assert arrays["unrefined"].shape == arrays["refined"].shape == (375, 500)
    assert arrays["refined"].max() <= 20
    assert arrays["probabilities"].shape == (len(keys), 47, 63)
    np.testing.assert_allclose(arrays["probabilities"].sum(axis=0, dtype=float), 1, atol=5e-3)

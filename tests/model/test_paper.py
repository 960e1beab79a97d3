"""Design `paper` against its equations in loops of numpy, and its gradients against differences."""

import numpy as np
import pytest
import torch

from model.auxsegnet import AuxSegNet
from model.losses import stage_losses, weighted_sum
from model.weights import released_names

CLASSES, SIZE, CROP = 2, (3, 4), (24, 32)
TOKENS = SIZE[0] * SIZE[1]
WEIGHTS = {"classification": 1.0, "saliency": 1.0, "segmentation": 1.0}


@pytest.fixture
def network(tiny_backbone):
    torch.manual_seed(0)
    network = AuxSegNet(CLASSES, "tiny", "paper", decoder_channels=4).double().eval()
    for name, parameter in network.named_parameters():
        if not name.startswith("backbone."):
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    network.cross_attention.conv3x3.weight.data *= 20
    for branch in (network.seg, network.sal):
        branch.attention.query.weight.data *= 1500  # its features are small
    return network


@pytest.fixture
def images():
    return torch.randn(1, 3, *CROP, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def targets():
    """Image-level labels and both pseudo labels, with ignored pixels."""
    rng = np.random.default_rng(2)
    segmentation = rng.choice([0, 1, 2, 255], (1, *CROP), p=[0.4, 0.2, 0.2, 0.2])
    saliency = rng.choice([0, 1, 255], (1, *CROP), p=[0.5, 0.4, 0.1])
    return torch.tensor([[1.0, 0.0]]).double(), torch.tensor(segmentation), torch.tensor(saliency)


def tokens(maps):
    """(1, K, h, w) -> N lists of K numbers."""
    return maps[0].flatten(1).T.tolist()


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(scores):
    powers = [np.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def pointwise(state, name, values):
    """A 1x1 convolution, token by token."""
    weight, bias = state[f"{name}.weight"][:, :, 0, 0].tolist(), state.get(f"{name}.bias")
    bias = [0.0] * len(weight) if bias is None else bias.tolist()
    return [[dot(row, v) + b for row, b in zip(weight, bias, strict=True)] for v in values]


def task_affinity(state, task, values):
    """Equations 2-3: softmax over all tokens of query . key, and the attended features added."""
    queries, keys, attended = (
        pointwise(state, f"{task}_{part}", values) for part in ("att.theta", "att.phi", "g")
    )
    affinity = [softmax([dot(q, k) for k in keys]) for q in queries]
    added = [
        [x + dot(row, [a[d] for a in attended]) for d, x in enumerate(value)]
        for row, value in zip(affinity, values, strict=True)
    ]
    return np.array(affinity), added


def cross_task_affinity(state, first, second):
    """Equations 4-5: 3x3 convolution over the N x N maps, ReLU, 1x1, softmax of two channels."""
    stack, weight = np.array([first, second]), state["cross_att.0.weight"].numpy()
    affinity = np.zeros((TOKENS, TOKENS))
    for i in range(TOKENS):
        for j in range(TOKENS):
            hidden = np.zeros(2)
            for y in (-1, 0, 1):
                for x in (-1, 0, 1):
                    if 0 <= i + y < TOKENS and 0 <= j + x < TOKENS:
                        hidden += weight[:, :, y + 1, x + 1] @ stack[:, i + y, j + x]
            last, bias = state["cross_att.2.weight"][:, :, 0, 0].numpy(), state["cross_att.2.bias"]
            share = softmax((last @ np.maximum(hidden, 0) + bias.numpy()).tolist())
            affinity[i, j] = dot(share, stack[:, i, j])
    return affinity


def refined(affinity, probabilities):
    """Equations 6-7, divided by the row sums: P_ref = (A P) / (A 1)."""
    result = np.zeros_like(probabilities)
    for i in range(TOKENS):
        for j in range(TOKENS):
            result[i] += affinity[i, j] * probabilities[j]
        result[i] /= sum(affinity[i])
    return result


@torch.no_grad()
def test_the_forward_pass_is_the_equations_in_loops(network, images):
    state, output = released_names(network.state_dict()), network(images)
    features = network.backbone(images)
    logits, affinities = {}, {}
    for task, branch in (("seg", network.seg), ("sal", network.sal)):
        assert (branch.conv1.dilation, branch.conv2.dilation) == ((6, 6), (12, 12))
        decoded = tokens(branch.conv2(branch.conv1(features).relu()).relu())
        affinities[task], added = task_affinity(state, task, decoded)
        logits[task] = np.array(pointwise(state, f"{task}_conv4", added))
    affinity = cross_task_affinity(state, affinities["sal"], affinities["seg"])
    np.testing.assert_allclose(output.affinity[0], affinity, rtol=1e-9)
    assert abs(affinity.sum(axis=1) - 1).max() > 0.01  # the division matters
    np.testing.assert_allclose(tokens(output.segmentation), logits["seg"], rtol=1e-9)
    np.testing.assert_allclose(tokens(output.saliency), logits["sal"], rtol=1e-9)
    probabilities = np.array([softmax(row) for row in logits["seg"].tolist()])
    expected = refined(affinity, probabilities)
    np.testing.assert_allclose(tokens(output.refined_segmentation), expected, rtol=1e-9)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    expected = refined(affinity, 1 / (1 + np.exp(-logits["sal"])))
    np.testing.assert_allclose(tokens(output.refined_saliency), expected, rtol=1e-9)


def upsampled(maps, size):
    """Bilinear with align_corners=False: pixel centres lie at (i + 0.5) / scale - 0.5."""
    (height, width), (rows, columns) = size, maps.shape[1:]
    result = np.zeros((len(maps), height, width))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = maps[:, top, left] * (1 - u + left) + maps[:, top, right] * (u - left)
            lower = maps[:, bottom, left] * (1 - u + left) + maps[:, bottom, right] * (u - left)
            result[:, y, x] = upper * (1 - v + top) + lower * (v - top)
    return result


def mean_loss(likelihoods, labels):
    """Mean of -log of the likelihood of the label, over the pixels that have one."""
    assert likelihoods.min() > 1e-6  # nothing here is clamped
    terms = [
        -np.log(likelihoods[label, y, x])
        for (y, x), label in np.ndenumerate(labels)
        if label != 255
    ]
    return np.mean(terms)


@torch.no_grad()
def test_the_losses_are_equation_8_in_loops(network, images, targets):
    labels, segmentation, saliency = targets
    output = network(images)
    losses = stage_losses(output, *targets, refined_probabilities=True)
    seg, sal = segmentation[0].numpy(), saliency[0].numpy()
    of = {name: maps[0].numpy() for name, maps in output._asdict().items() if name != "affinity"}
    scores = np.exp(upsampled(of["segmentation"], CROP))
    assert losses["segmentation"].item() == pytest.approx(mean_loss(scores / scores.sum(0), seg))
    p = 1 / (1 + np.exp(-upsampled(of["saliency"], CROP)))
    assert losses["saliency"].item() == pytest.approx(mean_loss(np.concatenate([1 - p, p]), sal))
    p = upsampled(of["refined_segmentation"], CROP)
    assert losses["refined_segmentation"].item() == pytest.approx(mean_loss(p, seg))
    p = upsampled(of["refined_saliency"], CROP)
    both = np.concatenate([1 - p, p])
    assert losses["refined_saliency"].item() == pytest.approx(mean_loss(both, sal))
    x = of["class_logits"]
    terms = [-np.log(1 / (1 + np.exp(-x[0]))), -np.log(1 / (1 + np.exp(x[1])))]  # labels 1, 0
    assert losses["classification"].item() == pytest.approx(np.mean(terms))
    total = sum(loss.item() for loss in losses.values())
    assert weighted_sum(losses, WEIGHTS).item() == pytest.approx(total)
    assert labels.tolist() == [[1, 0]]


@pytest.mark.parametrize("design", ["paper", "official"])
def test_gradients_are_finite_differences(tiny_backbone, images, targets, design):
    """Every parameter, moved a little in a random direction, in double precision."""
    torch.manual_seed(3)
    network = AuxSegNet(CLASSES, "tiny", design, decoder_channels=4).double().eval()
    generator = torch.Generator().manual_seed(4)

    def loss():
        output = network(images)
        losses = stage_losses(output, *targets, network.design.refine_probabilities)
        return weighted_sum(losses, WEIGHTS)

    loss().backward()
    step, checked = 1e-6, 0
    for name, parameter in network.named_parameters():
        if parameter.grad is None:
            continue
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        expected = (parameter.grad * direction).sum().item()
        values = []
        with torch.no_grad():
            for sign in (1, -2, 1):
                parameter += sign * step * direction
                values.append(loss().item())
        slope = (values[0] - values[1]) / (2 * step)
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-7), name
        checked += abs(expected) > 1e-6
    assert checked >= 15

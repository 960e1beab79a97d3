"""Losses against PyTorch's, sums by hand, and the corners where others give NaN."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch.nn import functional as F

from model.auxsegnet import AuxSegNetOutput
from model.losses import (
    classification_loss,
    saliency_loss,
    segmentation_loss,
    stage_losses,
    weighted_sum,
)


@pytest.fixture
def maps():
    return torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.choice([0, 1, 2, 3, 255], (2, 20, 24)).astype(np.uint8))


def upsampled(maps):
    return F.interpolate(maps, (20, 24), mode="bilinear", align_corners=False)


def test_segmentation_loss_of_logits_is_cross_entropy(maps, labels):
    expected = F.cross_entropy(upsampled(maps), labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss(maps, labels), expected)


def test_segmentation_loss_of_probabilities_is_log_loss(maps, labels):
    probabilities = maps.softmax(dim=1)
    scores = upsampled(maps.double().softmax(dim=1)).permute(0, 2, 3, 1)[labels != 255]
    expected = log_loss(labels[labels != 255], scores, labels=[0, 1, 2, 3])
    loss = segmentation_loss(probabilities, labels, probabilities=True)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def binary(labels):
    return torch.where(labels == 255, 255, labels % 2)


def test_saliency_loss_is_binary_cross_entropy(maps, labels):
    logits, target = maps[:, :1], binary(labels)
    known = target != 255
    found = upsampled(logits)[:, 0][known]
    expected = F.binary_cross_entropy_with_logits(found, target[known].float())
    torch.testing.assert_close(saliency_loss(logits, target), expected)
    probability = upsampled(logits.sigmoid())[:, 0][known]
    expected = log_loss(target[known], probability.double())
    loss = saliency_loss(logits.sigmoid(), target, probabilities=True)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_classification_loss_by_hand():
    logits, labels = torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    terms = [math.log1p(math.exp(x)) for x in (-2, -1, 0, 3)]
    assert classification_loss(logits, labels).item() == pytest.approx(np.mean(terms))


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("loss", [segmentation_loss, saliency_loss])
def test_crop_without_labelled_pixel_contributes_nothing(maps, loss, probabilities):
    maps = (maps[:, :1] if loss is saliency_loss else maps).requires_grad_()
    values = maps.sigmoid() if probabilities else maps
    labels = torch.full((2, 20, 24), 255, dtype=torch.uint8)
    value = loss(values, labels, probabilities)
    assert value.item() == 0.0
    value.backward()
    assert (maps.grad == 0).all()


@pytest.mark.parametrize("loss", [segmentation_loss, saliency_loss])
def test_one_labelled_pixel_counts_wholly(maps, loss):
    maps = (maps[:, :1] if loss is saliency_loss else maps)[:1]
    labels = torch.full((1, 5, 6), 255, dtype=torch.uint8)
    labels[0, 2, 3] = 1
    x = maps[0, :, 2, 3].double()
    expected = -math.log(x.softmax(0)[1] if len(x) > 1 else x.sigmoid()[0])
    assert loss(maps, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [-0.5, 0.0, 1.0, 1.8])
def test_probabilities_out_of_range_are_clamped(value):
    """Rows of A_CT (paper, equation 5) do not sum to 1; clamped to [1e-6, 1 - 1e-6]."""
    clamped = min(max(value, 1e-6), 1 - 1e-6)
    maps = torch.full((1, 2, 3, 3), value)
    ones = torch.ones(1, 3, 3, dtype=torch.uint8)
    loss = segmentation_loss(maps, ones, probabilities=True).item()
    assert loss == pytest.approx(-math.log(clamped), rel=1e-4, abs=1e-7)
    for target, p in ((ones, clamped), (0 * ones, 1 - clamped)):
        loss = saliency_loss(maps[:, :1], target, probabilities=True).item()
        assert loss == pytest.approx(-math.log(p), rel=0.02, abs=1e-7)


def test_half_precision_maps_are_summed_in_float32(maps, labels):
    loss = segmentation_loss(maps.bfloat16(), labels)
    assert loss.dtype == torch.float32
    expected = F.cross_entropy(upsampled(maps.bfloat16().float()), labels.long(), ignore_index=255)
    torch.testing.assert_close(loss, expected)


def outputs(maps, **off):
    fields = {
        "class_logits": maps[:, :3, 0, 0],
        "cams": maps[:, :3],
        "saliency": maps[:, :1],
        "refined_saliency": maps[:, 1:2].sigmoid(),
        "segmentation": maps,
        "refined_segmentation": maps.flip(1).softmax(dim=1),
        "affinity": None,
    }
    return AuxSegNetOutput(**(fields | off))


def test_stage_losses_are_the_five_terms_of_equation_8(maps, labels):
    image_labels = torch.tensor([[1.0, 0, 0], [0, 1.0, 1.0]])
    losses = stage_losses(outputs(maps), image_labels, labels, binary(labels), True)
    expected = {
        "classification": F.multilabel_soft_margin_loss(maps[:, :3, 0, 0], image_labels),
        "saliency": saliency_loss(maps[:, :1], binary(labels)),
        "refined_saliency": saliency_loss(maps[:, 1:2].sigmoid(), binary(labels), True),
        "segmentation": segmentation_loss(maps, labels),
        "refined_segmentation": segmentation_loss(maps.flip(1).softmax(1), labels, True),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    weights = {"classification": 1.0, "saliency": 0.5, "segmentation": 2.0}
    value = {name: loss.item() for name, loss in expected.items()}
    total = value["classification"] + 0.5 * (value["saliency"] + value["refined_saliency"])
    total += 2 * (value["segmentation"] + value["refined_segmentation"])
    assert weighted_sum(losses, weights).item() == pytest.approx(total, rel=1e-5)


def test_official_refined_maps_are_logits(maps, labels):
    logits = outputs(maps, refined_saliency=maps[:, 1:2], refined_segmentation=maps.flip(1))
    losses = stage_losses(logits, torch.ones(2, 3), labels, binary(labels), False)
    torch.testing.assert_close(
        losses["refined_segmentation"],
        F.cross_entropy(upsampled(maps.flip(1)), labels.long(), ignore_index=255),
    )
    torch.testing.assert_close(
        losses["refined_saliency"], saliency_loss(maps[:, 1:2], binary(labels))
    )


def test_what_is_switched_off_has_no_loss(maps, labels):
    off = dict.fromkeys(
        ("class_logits", "cams", "saliency", "refined_saliency", "refined_segmentation")
    )
    losses = stage_losses(outputs(maps, **off), torch.ones(2, 3), labels, binary(labels), True)
    assert set(losses) == {"segmentation"}

"""The training losses (paper, equation 8)."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from model.auxsegnet import AuxSegNetOutput
from model.labels import IGNORE
from model.precision import at_least_float32

# Refined probabilities are clamped before the logarithm; float32 holds 1 - 1e-6.
EPSILON = 1e-6


def _upsample(maps, size):
    # What the affinity refined lies channels-last; nll_loss on a CPU wants the ordinary layout.
    maps = at_least_float32(maps).contiguous()
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def _mean_over_labelled(loss, labelled):
    """Mean over labelled pixels; zero (with a gradient of zero) where there is none."""
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)


def classification_loss(class_logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Multi-label soft-margin loss; logits and 0/1 labels (B, C)."""
    return F.multilabel_soft_margin_loss(at_least_float32(class_logits), labels)


def segmentation_loss(
    maps: torch.Tensor, labels: torch.Tensor, probabilities: bool = False
) -> torch.Tensor:
    """Cross entropy over the labelled pixels of the batch.

    Args:
        maps: (B, C + 1, h, w) logits, or probabilities; up-sampled to the labels.
        labels: (B, H, W) integers 0..C, 255 = ignore.
    """
    maps = _upsample(maps, labels.shape[-2:])
    scores = maps.clamp(EPSILON, 1 - EPSILON).log() if probabilities else maps.log_softmax(dim=1)
    loss = F.nll_loss(scores, labels.long(), ignore_index=IGNORE, reduction="sum")
    return loss / (labels != IGNORE).sum().clamp(min=1)


def saliency_loss(
    maps: torch.Tensor, labels: torch.Tensor, probabilities: bool = False
) -> torch.Tensor:
    """Binary cross entropy over the labelled pixels of the batch.

    Args:
        maps: (B, 1, h, w) logits, or probabilities; up-sampled to the labels.
        labels: (B, H, W) of 0 and 1, 255 = ignore.
    """
    maps = _upsample(maps, labels.shape[-2:])[:, 0]
    labelled = labels != IGNORE
    target = (labels == 1).to(maps.dtype)
    if probabilities:
        loss = F.binary_cross_entropy(maps.clamp(EPSILON, 1 - EPSILON), target, reduction="none")
    else:
        loss = F.binary_cross_entropy_with_logits(maps, target, reduction="none")
    return _mean_over_labelled(loss, labelled)


def stage_losses(
    output: AuxSegNetOutput,
    labels: torch.Tensor,
    segmentation: torch.Tensor,
    saliency: torch.Tensor,
    refined_probabilities: bool,
) -> dict[str, torch.Tensor]:
    """All terms of equation 8 for what the network has, as a dict of scalars.

    Args:
        labels: image-level labels (B, C).
        segmentation, saliency: pseudo labels (B, H, W), 255 = ignore.
        refined_probabilities: the refined maps are probabilities (design `paper`).
    """
    losses = {}
    if output.class_logits is not None:  # L_cls
        losses["classification"] = classification_loss(output.class_logits, labels)
    if output.saliency is not None:  # L_sal1
        losses["saliency"] = saliency_loss(output.saliency, saliency)
    if output.refined_saliency is not None:  # L_sal2
        losses["refined_saliency"] = saliency_loss(
            output.refined_saliency, saliency, refined_probabilities
        )
    if output.segmentation is not None:  # L_seg1
        losses["segmentation"] = segmentation_loss(output.segmentation, segmentation)
    if output.refined_segmentation is not None:  # L_seg2
        losses["refined_segmentation"] = segmentation_loss(
            output.refined_segmentation, segmentation, refined_probabilities
        )
    return losses


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Equation 8: the losses weighed by task (keys classification, saliency, segmentation)."""
    return torch.stack(
        [loss * weights[name.removeprefix("refined_")] for name, loss in losses.items()]
    ).sum()

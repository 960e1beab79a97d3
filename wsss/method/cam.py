"""Class activation maps: normalisation, refinement, and their grid."""

import torch
from torch.nn import functional as F

from model.affinity import BlockAffinity, apply_affinity


def normalise(cams: torch.Tensor) -> torch.Tensor:
    """ReLU, then each map (..., h, w) divided by its spatial maximum + 1e-5.

    Paper, section 3.1; the constant is that of PSA (Ahn and Kwak, CVPR 2018).
    """
    cams = cams.clamp(min=0)
    return cams / (cams.amax(dim=(-2, -1), keepdim=True) + 1e-5)


def refine(cams: torch.Tensor, affinity: torch.Tensor | BlockAffinity) -> torch.Tensor:
    """Refined CAMs (paper, section 3.3): affinity @ CAMs, not normalised again.

    Args:
        cams: normalised, (B, K, h, w).
        affinity: (B, N, N) with N = h * w, or a `BlockAffinity`, which makes its rows in blocks.

    Returns:
        (B, K, h, w).
    """
    return apply_affinity(affinity, cams)


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear, align_corners=False; (B, K, h, w) -> (B, K, *size)."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

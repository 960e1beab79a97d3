"""Class activation maps: normalisation, and their grid."""

import torch
from torch.nn import functional as F


def normalise(cams: torch.Tensor) -> torch.Tensor:
    """ReLU, then each map (..., h, w) divided by its spatial maximum + 1e-5.

    Paper, section 3.1; the constant is that of PSA (Ahn and Kwak, CVPR 2018).
    """
    cams = cams.clamp(min=0)
    return cams / (cams.amax(dim=(-2, -1), keepdim=True) + 1e-5)


def resize(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear, align_corners=False; (B, K, h, w) -> (B, K, *size)."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)

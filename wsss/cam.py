"""Class activation maps: normalisation, scales, refinement.

A network seen from here maps normalised images (B, 3, H, W) to an `AuxSegNetOutput`.
"""

import numpy as np
import torch
from torch.nn import functional as F

from model.affinity import apply_affinity


def normalise(cams):
    """ReLU, then each map (..., h, w) divided by its spatial maximum + 1e-5.

    Paper, section 3.1; the constant is that of PSA (Ahn and Kwak, CVPR 2018).
    """
    cams = cams.clamp(min=0)
    return cams / (cams.amax(dim=(-2, -1), keepdim=True) + 1e-5)


def refine(cams, affinity):
    """Propagate normalised CAMs by an affinity: affinity @ CAMs, not normalised again.

    Paper, section 3.3.

    Args:
        cams: (B, K, h, w), or (K, h, w) of one image.
        affinity: (B, N, N) with N = h * w, (N, N) for one image, or a `BlockAffinity`, which makes
            the rows in blocks.

    Returns:
        As `cams`; arrays of NumPy are taken, too, and give one.
    """
    if isinstance(cams, np.ndarray):
        return refine(torch.from_numpy(cams), affinity).detach().numpy()
    if isinstance(affinity, np.ndarray):
        affinity = torch.from_numpy(affinity)
    if isinstance(affinity, torch.Tensor) and affinity.dim() == 2:
        affinity = affinity[None]
    if cams.dim() == 3:
        return apply_affinity(affinity, cams[None])[0]
    return apply_affinity(affinity, cams)


def resize(maps, size):
    """Bilinear, align_corners=False; (B, K, h, w) -> (B, K, *size)."""
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def multi_scale_cams(cams_of, image, keys, scales, flip):
    """Stage-0 CAMs, summed over scales and flips and normalised (as in PSA).

    Args:
        cams_of: function of (image tensor, scale, flipped) -> raw CAMs (1, C, h, w), un-flipped.
        image: whatever `cams_of` takes.
        keys: class ids of the image's labels; other classes are left out.
        scales, flip: views; the first scale decides the grid of the result.

    Returns:
        float32 (K, h, w) in [0, 1).
    """
    keys = torch.as_tensor(keys, dtype=torch.long)
    total = None
    for scale in scales:
        for flipped in (False, True) if flip else (False,):
            cams = cams_of(image, scale, flipped)[:, keys.to("cpu")].clamp(min=0)
            total = cams if total is None else total + resize(cams, total.shape[-2:])
    return normalise(total)[0]

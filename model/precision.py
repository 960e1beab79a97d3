"""The least precision that affinities and losses are computed in."""

import torch


def at_least_float32(maps: torch.Tensor) -> torch.Tensor:
    """Half-precision maps in float32; float32 and double precision as they are."""
    return maps if maps.dtype == torch.float64 else maps.float()

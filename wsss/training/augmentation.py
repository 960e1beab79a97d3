"""Random views of training images. Images are uint8 RGB (H, W, 3), label maps uint8 (H, W)."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

from wsss.storage.pixels import Size


def random_crop_origin(size: Size, crop: int, rng: Generator) -> tuple[int, int]:
    """Top-left corner of a random crop; 0 along a side that is smaller than the crop."""
    top, left = (int(rng.integers(0, max(side - crop, 0) + 1)) for side in size)
    return top, left


def padded(array: np.ndarray, crop: int, fill: float) -> np.ndarray:
    """(h, w, ...) as (crop, crop, ...), contiguous; filled at the bottom and right."""
    if array.shape[:2] == (crop, crop):
        return np.ascontiguousarray(array)
    out = np.full((crop, crop, *array.shape[2:]), fill, dtype=array.dtype)
    out[: array.shape[0], : array.shape[1]] = array
    return out


def jitter_colours(
    crop: np.ndarray, image: np.ndarray, strengths: Sequence[float], rng: Generator
) -> np.ndarray:
    """Random brightness, contrast, saturation and hue (torchvision's definitions and order fixed).

    Args:
        crop: uint8 RGB (h, w, 3), what is wanted of the image.
        image: uint8 RGB (H, W, 3), the whole: contrast goes by the mean of its grey values.
        strengths: the maximal changes of the four factors around 1 (hue: in turns).
        rng: four numbers are drawn.
    """
    *others, hue = strengths
    brightness, contrast, saturation = (_factor(strength, rng) for strength in others)
    shift = rng.uniform(-hue, hue)
    # What brightness and contrast make of each of the 256 values.
    table = np.clip(np.arange(256, dtype=np.float32) * brightness, 0, 255)
    grey = cv2.cvtColor(cv2.LUT(image, table), cv2.COLOR_RGB2GRAY)
    table = np.clip(_blend(table, grey.mean(), contrast), 0, 255)
    out = cv2.LUT(np.ascontiguousarray(crop), table)
    grey = cv2.cvtColor(out, cv2.COLOR_RGB2GRAY)[..., None]
    out = np.clip(_blend(out, grey, saturation), 0, 255)
    if hue:
        hsv = cv2.cvtColor(out, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * shift) % 360
        out = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.rint(out).astype(np.uint8)


def _factor(strength: float, rng: Generator) -> float:
    return rng.uniform(max(0.0, 1 - strength), 1 + strength)


def _blend(image: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    return image * factor + other * (1 - factor)

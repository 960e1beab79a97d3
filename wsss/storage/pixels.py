"""Images and maps in other sizes, and pixels as a network wants them."""

from collections.abc import Sequence

import cv2
import numpy as np

Size = tuple[int, int]  # height, width


def scaled_size(size: Size, factor: float) -> Size:
    """(height, width) times a factor, at least 1 pixel."""
    height, width = (max(1, round(side * factor)) for side in size)
    return height, width


def shrunk_size(size: Size, long_side: int | None) -> Size:
    """(height, width) with a longer side of at most `long_side` pixels; None: as it is."""
    if long_side is None or max(size) <= long_side:
        return size
    return scaled_size(size, long_side / max(size))


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """A photograph, uint8 (H, W, 3), at `size`: bilinear, but averaged where both sides shrink."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] < image.shape[0] and size[1] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def resize_labels(labels: np.ndarray, size: Size) -> np.ndarray:
    """Class ids, uint8 (H, W), at `size`; never a mixture of two."""
    return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def resize_map(values: np.ndarray, size: Size) -> np.ndarray:
    """A map (h, w) of any number type at `size`: bilinear, align_corners=False; float32."""
    return cv2.resize(values.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)


def resize_maps(maps: Sequence[np.ndarray] | np.ndarray, size: Size) -> np.ndarray:
    """K maps, each as `resize_map` has it: float32 (K, height, width)."""
    return np.array([resize_map(values, size) for values in maps], np.float32).reshape(-1, *size)


def normalise_pixels(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 RGB (H, W, 3) as float32; `mean` and `std` are of RGB / 255, the backbone's."""
    values = np.arange(256, dtype=np.float32)[:, None]  # of which each channel has a table
    tables = (values / 255 - np.float32(mean)) / np.float32(std)
    return cv2.LUT(np.ascontiguousarray(image), tables.reshape(1, 256, 3))

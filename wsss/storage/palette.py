"""The colours of PASCAL VOC and PNG files that carry class indices."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from wsss.storage.files import atomic_path


def voc_palette() -> np.ndarray:
    """The palette of VOC's own masks as uint8 (256, 3).

    The bits of an index are dealt out to red, green and blue in turn, three at a time, and fill
    each channel from its highest bit down (VOC development kit, VOClabelcolormap).
    """
    bits = (np.arange(256)[:, None] >> np.arange(24)) & 1  # from the lowest up
    return np.packbits(bits.reshape(256, 8, 3), axis=1)[:, 0]


def palette_png(label_map: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """Uint8 indices (H, W) as the bytes of a PNG, indices as they are.

    `palette` is uint8 (256, 3); VOC's, which other tools expect, unless given.
    """
    if label_map.dtype != np.uint8 or label_map.ndim != 2:
        raise ValueError(
            f"a label map is uint8 of two dimensions, not {label_map.dtype} {label_map.shape}"
        )
    image = Image.fromarray(np.ascontiguousarray(label_map)).convert("L")
    image.putpalette((voc_palette() if palette is None else palette).tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=False)
    return content.getvalue()


def write_palette_png(
    path: str | Path, label_map: np.ndarray, palette: np.ndarray | None = None
) -> None:
    """Write a PNG of `palette_png`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(palette_png(label_map, palette))

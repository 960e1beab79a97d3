"""The colours of PASCAL VOC and PNG files that carry class indices."""

import io

import numpy as np
from PIL import Image

from wsss.files import atomic_path


def voc_palette():
    """The palette of VOC's own masks as uint8 (256, 3).

    The bits of an index are dealt out to red, green and blue in turn, three at a time, and fill
    each channel from its highest bit down (VOC development kit, VOClabelcolormap).
    """
    indices = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for place in range(8):
            source_bit = 3 * place + channel
            palette[:, channel] |= (((indices >> source_bit) & 1) << (7 - place)).astype(np.uint8)
    return palette


def palette_png(label_map, palette=None):
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


def write_palette_png(path, label_map, palette=None):
    """Write a PNG of `palette_png`."""
    content = palette_png(label_map, palette)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)

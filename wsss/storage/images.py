"""Photographs and label masks from disk, in one form each, or refused by name.

Photographs become uint8 RGB in the orientation that a viewer shows (EXIF applied). Transparent
pixels are laid over white. 16-bit grey keeps its upper eight bits.
Masks become the stored indices, never colours, and are taken to lie in the same orientation as
the photograph that a viewer shows; an EXIF tag in a mask is not followed.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageOps

from wsss.errors import InputError, reason_of
from wsss.storage.pixels import scaled_size

SWAPPED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF values that turn width into height
ORIENTATION_TAG = 0x0112


def read_image(path: str | Path) -> np.ndarray:
    """Read a photograph as uint8 RGB of shape (H, W, 3), EXIF orientation applied.

    Raises InputError, naming the file, if it is missing, damaged, larger than Pillow's limit
    against decompression bombs, or holds values whose range is unknown (floating point).
    """
    with _opened(path, "image") as image:
        return np.array(_to_rgb(ImageOps.exif_transpose(image), path))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a palette or grey label mask as uint8 indices of shape (H, W).

    Raises InputError, naming the file, for colour or lossy files, values above 255, and
    whatever `read_image` refuses.
    """
    with _opened(path, "mask") as image:
        _refuse_lossy(image, path)
        if image.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
            raise InputError(
                f"mask {path} holds colours (mode {image.mode}), not class indices: save it as a"
                " palette or greyscale PNG"
            )
        step = _grey_step(image)
        values = np.array(image) // step if step > 1 else np.array(image)
    if values.max() > 255:
        raise InputError(f"mask {path} has the value {values.max()}: class indices end at 255")
    return values.astype(np.uint8)


def read_colours(path: Path | zipfile.Path) -> np.ndarray:
    """Read a mask whose classes are colours as uint8 RGB (H, W, 3), from a folder or a zip.

    Raises InputError, naming the file, for lossy files and whatever `read_image` refuses.
    """
    with path.open("rb") as file, _opened(path, "mask", file) as image:
        _refuse_lossy(image, path)
        return np.array(image.convert("RGB"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a photograph as `read_image` would return it, from its header."""
    with _opened(path, "image") as image:
        if image.format == "TIFF":  # Pillow turns these itself, at a time that has changed
            return ImageOps.exif_transpose(image).size
        width, height = image.size
        if image.getexif().get(ORIENTATION_TAG) in SWAPPED_ORIENTATIONS:
            width, height = height, width
        return width, height


def mask_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a mask, from its header."""
    with _opened(path, "mask") as image:
        return image.size


def shrink(image: np.ndarray, long_side: int | None) -> np.ndarray:
    """Shrink (H, W[, C]) so that its longer side is at most `long_side` pixels; never enlarge.

    `long_side` None leaves the image as it is. Pixels are averaged over their area.
    """
    size = image.shape[:2]
    if long_side is None or max(size) <= long_side:
        return image
    height, width = scaled_size(size, long_side / max(size))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _refuse_lossy(image, path):
    if image.format in ("JPEG", "WEBP"):
        raise InputError(
            f"mask {path} is a {image.format} file, whose values are not exact: save it as PNG"
        )


@contextmanager
def _opened(
    path: str | Path | zipfile.Path, what: str, file: IO[bytes] | None = None
) -> Iterator[Image.Image]:
    """Open with Pillow; every complaint of a decoder becomes one line that names the file.

    `file` is the open file, where the path is not one of the file system.
    """
    try:
        with Image.open(file or path) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
            yield image
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{what} {path} does not exist: put it there, or correct dataset.root"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{what} {path} is a folder, not a file") from None
    except PermissionError:
        raise InputError(f"{what} {path} may not be read: check its permissions") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{what} {path} has more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} million pixels:"
            " scale it down or remove it"
        ) from None
    except MemoryError:
        raise
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, ... on bad files.
    except Exception as error:
        raise InputError(
            f"{what} {path} is damaged or not an image ({reason_of(error)}): replace or remove it"
        ) from error


def _to_rgb(image, path):
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        return _from_16_bit(image, path)
    if image.mode == "F":
        raise InputError(
            f"image {path} holds floating-point values of unknown range: save it with 8 bits"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image, path):
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"image {path} has values outside of 0..65535: save it with 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def _grey_step(image):
    """Pillow stretches 2- and 4-bit grey to 0..255; this is the stretch to undo."""
    raw_mode = image.tile[0].args if image.tile else None
    raw_mode = raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode
    return {"L;2": 85, "L;4": 17}.get(raw_mode, 1)

"""Photographs and label masks from disk, in one form each, or refused by name.

Photographs become uint8 RGB in the orientation that a viewer shows (EXIF applied). Transparent
pixels are laid over white. Of 16-bit files the upper eight of the bits in use are kept: scanners
and microscopes write 10, 12 or 14 bits into 16, and how many shows in a file's highest value.
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
from wsss.storage.pixels import Size, scaled_size, shrunk_size

# Of a JPEG that is shrunk, as much is decoded as has this many times the long side wanted. With 2
# a photograph of 4000x3000 comes no faster, and pixels differ twice as much.
DECODED_SIDES = 3
DEPTHS = (8, 10, 12, 14, 16)  # bits that a 16-bit file may use
SWAPPED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF values that turn width into height
ORIENTATION_TAG = 0x0112
MASK_VALUES = (
    "whose values are 0 for background, 1, 2, ... for the classes in their order and 255 for what"
    " is not to count"
)


def read_image(path: str | Path) -> np.ndarray:
    """Read a photograph as uint8 RGB of shape (H, W, 3), EXIF orientation applied.

    Raises InputError, naming the file, if it is missing, damaged, larger than Pillow's limit
    against decompression bombs, or holds values whose range is unknown (floating point).
    """
    with _opened(path, "image") as image:
        return _pixels(image, path)


def read_shrunk(path: str | Path, long_side: int) -> tuple[np.ndarray, Size]:
    """Read a photograph as `shrink` would leave it, and its (height, width) as `read_image` would.

    JPEGs of six times `long_side` and more are decoded at a half, a quarter or an eighth of their
    sides, which takes 4000x3000 pixels down to 320 in a fifth of the time. Pixels then differ from
    those of `shrink` by 1 of 255 in the mean of photographs, by 4 in one that is all texture.

    Raises InputError for what `read_image` refuses.
    """
    with _opened(path, "image") as image:
        width, height = _upright_size(image)
        # Pillow takes the smallest of libjpeg's fractions that is not below this size.
        wanted = scaled_size(image.size, DECODED_SIDES * long_side / max(image.size))
        image.draft(None, wanted)
        pixels = _pixels(image, path)
    return _averaged(pixels, shrunk_size((height, width), long_side)), (height, width)


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
                f" palette or greyscale PNG {MASK_VALUES}"
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


def read_grey(path: str | Path) -> np.ndarray:
    """Read an 8-bit grey map as uint8 (H, W); three equal channels are grey, too.

    Raises InputError, naming the file, for colours, transparency, and whatever `read_image`
    refuses.
    """
    with _opened(path, "map") as image:
        if image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA"):
            raise InputError(f"map {path} has the mode {image.mode}: save it as 8-bit grey PNG")
        pixels = np.array(image.convert("RGBA"))
    grey = pixels[..., 0]
    if (pixels[..., 1:3] != grey[..., None]).any() or (pixels[..., 3] != 255).any():
        raise InputError(
            f"map {path} holds colours or transparency, not grey: save it as 8-bit grey PNG"
        )
    return np.ascontiguousarray(grey)


def is_turned(path: str | Path) -> bool:
    """Whether the EXIF orientation of a photograph tells viewers to turn or mirror it."""
    with _opened(path, "image") as image:
        return image.getexif().get(ORIENTATION_TAG, 1) in range(2, 9)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a photograph as `read_image` would return it, from its header."""
    with _opened(path, "image") as image:
        return _upright_size(image)


def mask_size(path: str | Path) -> tuple[int, int]:
    """Width and height of a mask, from its header."""
    with _opened(path, "mask") as image:
        return image.size


def shrink(image: np.ndarray, long_side: int | None) -> np.ndarray:
    """Shrink (H, W[, C]) so that its longer side is at most `long_side` pixels; never enlarge.

    `long_side` None leaves the image as it is. Pixels are averaged over their area.
    """
    return _averaged(image, shrunk_size(image.shape[:2], long_side))


def _averaged(image, size):
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


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


def _upright_size(image):
    if image.format == "TIFF":  # Pillow turns these itself, at a time that has changed
        return ImageOps.exif_transpose(image).size
    width, height = image.size
    if image.getexif().get(ORIENTATION_TAG) in SWAPPED_ORIENTATIONS:
        width, height = height, width
    return width, height


def _pixels(image, path):
    has_16_bits = ";16" in _raw_mode(image)
    ImageOps.exif_transpose(image, in_place=True)
    pixels = np.array(_to_rgb(image, path))
    # Of 16-bit colours Pillow keeps the upper eight bits, which 14 and fewer leave dark.
    if has_16_bits and pixels.max() < 64:
        return _dark_16_bit_colours(path, pixels)
    return pixels


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
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(image, path):
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"image {path} has values outside of 0..65535: save it with 8 bits")
    return Image.fromarray(_upper_bits(values)).convert("RGB")


def _upper_bits(values):
    """Of whole numbers below 65536 the upper eight of the bits that the highest one needs."""
    bits = next(depth for depth in DEPTHS if values.max() < 1 << depth)
    return (values >> (bits - 8)).astype(np.uint8)


def _dark_16_bit_colours(path, pixels):
    """The photograph as OpenCV reads it, which keeps all bits; `pixels` where it cannot."""
    values = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if values is None or values.shape != pixels.shape:
        return pixels
    return _upper_bits(values[..., ::-1])  # BGR; IMREAD_COLOR_RGB is wrong for such TIFFs


def _raw_mode(image):
    """How the pixels lie in the file, as Pillow names it."""
    raw_mode = image.tile[0].args if image.tile else ""
    return str(raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode)


def _grey_step(image):
    """Pillow stretches 2- and 4-bit grey to 0..255; this is the stretch to undo."""
    return {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)

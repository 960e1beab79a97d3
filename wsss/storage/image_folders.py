"""Which files of a folder are photographs, and which of them cannot be read here.

What a name ends in says what a file is meant to be. Formats that not every Pillow reads, and names
that say nothing, are looked into.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from wsss.errors import InputError, listed, printable, reason_of

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif"),
    *(".tif", ".tiff", ".webp"),
)
SOMETIMES = (".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jxl", ".mpo")
# Of a camera's raw files Pillow reads the thumbnail at best.
RAW = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".raf", ".rw2", ".pef", ".srw")
SUFFIXES = (*EXTENSIONS, *SOMETIMES, *RAW)  # of whatever is meant to be a photograph
# Pillow's names of the formats of photographs; the last two come with packages of their own.
FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "JPEG2000", "BMP", "TIFF"),
    *("HEIF", "JXL"),
)


class ImageFiles(NamedTuple):
    """What of a folder are photographs: `images` to be read, and two kinds that are left out."""

    images: list[Path]
    unreadable: list[Path]
    nested: list[Path]  # in folders below it

    def left_out(self, folder: str | Path, of_nested: str) -> list[str]:
        """A line for each kind that is left out; `of_nested` says what to do with folders in it."""
        kinds = [
            (self.unreadable, "cannot be read", "save them as JPEG or PNG"),
            (self.nested, "lie in folders inside it", of_nested),
        ]
        return [
            printable(
                f"{folder}: left out: {len(paths)} photographs that {why}"
                f" ({listed([path.relative_to(folder) for path in paths], 3)}): {remedy}"
            )
            for paths, why, remedy in kinds
            if paths
        ]


def list_images(folder: str | Path, besides: Iterable[Path] = ()) -> ImageFiles:
    """The photographs of a folder, by name; hidden files and folders are passed over.

    Folders `besides` in it hold something else. Raises InputError if it cannot be listed.
    """
    found = ImageFiles([], [], [])
    for path in _entries(folder):
        suffix = path.suffix.lower()
        if path.is_dir():
            if path not in besides:
                found.nested.extend(_below(path, besides))
        elif suffix in EXTENSIONS or (suffix in SOMETIMES and _opens(path)):
            found.images.append(path)
        elif suffix in SUFFIXES or _opens(path):
            found.unreadable.append(path)
    return found


def images_in(folder: str | Path) -> list[Path]:
    """Paths of the images directly in a folder, by name; hidden files are passed over.

    Raises InputError, naming the folder, if it cannot be listed or has none.
    """
    found = list_images(folder)
    refuse_none(folder, found, "name these folders")
    return found.images


def refuse_none(folder: str | Path, found: ImageFiles, of_nested: str) -> None:
    """InputError if no photograph of a folder can be read, with what there is instead."""
    if not found.images:
        others = found.left_out(folder, of_nested)
        raise InputError(
            "; ".join(others)
            or f"{folder}: no {', '.join(EXTENSIONS)} file in it; name another folder"
        )


def _entries(folder):
    try:
        paths = sorted(Path(folder).iterdir(), key=lambda path: (path.stem, path.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({reason_of(error)})") from error
    return [path for path in paths if not path.name.startswith(".")]


def _below(folder, besides):
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and Path(place, name) not in besides
        )
        for name in sorted(files):
            if name[0] != "." and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name)


def _opens(path):
    """Whether this Pillow finds a photograph in a file; only its header is read."""
    try:
        with Image.open(path) as image:
            return image.format in FORMATS
    except Image.DecompressionBombError:
        return True
    # Decoders raise nearly anything on what is no image.
    except Exception:
        return False

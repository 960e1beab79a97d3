"""Finished files for people: a palette PNG and an overlay per image, and tables beside them."""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from wsss.datasets.index import check_id
from wsss.errors import InputError, listed, reason_of
from wsss.reports.drawing import class_name, class_palette, overlay, save_picture
from wsss.storage.files import write_csv
from wsss.storage.palette import write_palette_png

log = logging.getLogger(__name__)

MASK_COLUMNS = ("image_id", "mask", "overlay", "classes", "shares")
COLOUR_COLUMNS = ("class_id", "name", "colour")


def mask_names(image_id: str) -> tuple[str, str]:
    """The file names of an image's mask and overlay.

    They differ in their suffix too: an image may be called like another one's overlay.
    """
    return f"{image_id}.png", f"{image_id}_overlay.jpg"


def write_mask_files(
    folder: str | Path,
    image_id: str,
    image: np.ndarray,
    label: np.ndarray,
    classes: Sequence[str],
    alpha: float,
) -> tuple[str, ...]:
    """Write mask and overlay of an image; returns its row of the table.

    Args:
        folder: where the files go.
        image: uint8 RGB (H, W, 3).
        label: uint8 class ids (H, W).
        classes: names of the object classes, without background.
        alpha: opacity of the colours in the overlay, 0..1.

    Raises:
        InputError: the id cannot be a file name, or a file cannot be written.
    """
    names = mask_names(check_id(image_id, "masks"))
    mask, tinted = (_inside(Path(folder), name) for name in names)
    write_palette_png(mask, label, palette=class_palette())
    save_picture(tinted, overlay(image, label, alpha))
    shares = class_shares(label, classes)
    text = ";".join(f"{name}={share:.4g}" for name, share in shares.items())
    return (image_id, mask.name, tinted.name, ";".join(shares), text)


def remove_others(folder: Path, kept: Collection[str]) -> None:
    """Remove masks and overlays of other images than those that are kept.

    Only what has an overlay is taken for a mask: people may have put files of theirs beside.

    Raises:
        InputError: a file cannot be removed.
    """
    _, overlay_name = mask_names("")
    ids = (path.name.removesuffix(overlay_name) for path in folder.glob(f"*{overlay_name}"))
    gone = sorted(set(ids) - set(kept))
    for path in (folder / name for image_id in gone for name in mask_names(image_id)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{path}, of an earlier run, cannot be removed ({reason_of(error)})"
            ) from error
    if gone:
        log.info("%s: removed what was there of %d images: %s", folder, len(gone), listed(gone))


def class_shares(label: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Name -> share of the pixels, for the object classes in a label map (H, W)."""
    ids, counts = np.unique(label, return_counts=True)
    return {
        class_name(int(i), classes): count / label.size
        for i, count in zip(ids, counts, strict=True)
        if i != 0
    }


def write_mask_table(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """masks.csv: the rows of `write_mask_files`."""
    write_csv(path, MASK_COLUMNS, rows)


def write_class_table(path: Path, classes: Sequence[str]) -> None:
    """classes.csv: value in the masks, name and colour (#rrggbb) of background and classes."""
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_palette()]
    names = ["background", *classes]
    write_csv(path, COLOUR_COLUMNS, zip(range(len(names)), names, colours, strict=False))


def _inside(folder, name):
    path = folder / name
    if path.parent.resolve() != folder.resolve() or path.name != name:
        raise InputError(f"{name!r} leads out of {folder}")
    return path

"""Finished files for people: a palette PNG and an overlay per image, and tables beside them."""

import csv
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wsss.datasets.index import check_id
from wsss.errors import InputError, listed, reason_of
from wsss.method.uncertainty import Uncertainty
from wsss.reports.drawing import class_name, class_palette, overlay, save_picture
from wsss.storage.files import write_csv
from wsss.storage.palette import write_palette_png

log = logging.getLogger(__name__)

MASK_COLUMNS = ("image_id", "mask", "overlay", "classes", "shares", *Uncertainty._fields)
COLOUR_COLUMNS = ("class_id", "name", "colour")


class MaskRow(NamedTuple):
    """What masks.csv says of an image."""

    image_id: str
    shares: dict[str, float]  # of the pixels, by the name of the object class
    uncertainty: Uncertainty


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
) -> dict[str, float]:
    """Write mask and overlay of an image; returns its `class_shares`.

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
    return class_shares(label, classes)


def remove_others(folder: Path, kept: Collection[str]) -> None:
    """Remove masks and overlays of other images than those that are kept.

    Only what has an overlay is taken for a mask: people may have put files of theirs beside.

    Raises:
        InputError: a file cannot be removed.
    """
    _, overlay_name = mask_names("")
    ids = (path.name.removesuffix(overlay_name) for path in folder.glob(f"*{overlay_name}"))
    gone = sorted(set(ids) - set(kept))
    for image_id in gone:
        for name in mask_names(image_id):
            remove_earlier(folder / name)
    if gone:
        log.info("%s: removed what was there of %d images: %s", folder, len(gone), listed(gone))


def remove_earlier(path: Path) -> None:
    """Remove a file that an earlier run left, if it is there; InputError if it cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}, of an earlier run, cannot be removed ({reason_of(error)})"
        ) from error


def class_shares(label: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Name -> share of the pixels, for the object classes in a label map (H, W)."""
    ids, counts = np.unique(label, return_counts=True)
    return {
        class_name(int(i), classes): count / label.size
        for i, count in zip(ids, counts, strict=True)
        if i != 0
    }


def write_mask_table(path: Path, rows: Iterable[MaskRow]) -> None:
    """masks.csv; what most needs a look comes first."""
    ordered = sorted(rows, key=lambda row: (row.uncertainty.confidence, row.image_id))
    write_csv(path, MASK_COLUMNS, map(_cells, ordered))


def _cells(row):
    shares = ";".join(f"{name}={share:.4g}" for name, share in row.shares.items())
    sure = (f"{value:.4f}" for value in row.uncertainty)
    return (row.image_id, *mask_names(row.image_id), ";".join(row.shares), shares, *sure)


def read_mask_table(path: Path) -> dict[str, Path]:
    """Image id -> mask, of a masks.csv.

    Raises:
        InputError: it is missing, or another table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["image_id"]: path.parent / row["mask"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist: make it with snakemake {path}, and the --configfile of the run"
        ) from None
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise InputError(f"{path}: no table of masks ({reason_of(error)}); remake it") from error


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

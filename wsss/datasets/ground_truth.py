"""Which masks a run is scored against: COCO has two kinds, VOC's and SBD's differ as well.

And whether they are masks of these labels, which shows only when all of them are read.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from model.labels import IGNORE
from wsss.compute.progress import progress
from wsss.datasets.coco.masks import read_manifest
from wsss.datasets.index import DatasetIndex
from wsss.errors import InputError, listed
from wsss.storage.files import atomic_path

FILE = "ground_truth.json"
MADE_FROM = ("variant", "images", "sha256")  # as in the manifest; variant: the painting order


def ground_truth(index: DatasetIndex) -> list[dict[str, Any]]:
    """A dict per folder of masks: its path below the root, and the number of masks in each split.

    `scored` counts those that the evaluation uses. Of masks that were painted here, `made` has
    the order of painting (as `variant`), the annotation file with its digest, and the digest of
    all masks.
    """
    folders = {}
    for record in index.records:
        if record.mask:
            folders.setdefault(str(PurePosixPath(record.mask).parent), []).append(record)
    return [_described(index.root, folder, records) for folder, records in folders.items()]


def _described(root, folder, records):
    counts = {split: sum(r.split == split for r in records) for split in ("train", "val")}
    described = {"folder": folder, **counts, "scored": sum(record.scored for record in records)}
    manifest = read_manifest(root / folder)
    try:
        source = {key: manifest["annotations"][key] for key in ("file", "sha256")}
        made = {key: manifest[key] for key in MADE_FROM} | {"annotations": source}
    except (KeyError, TypeError):  # none, or another program's file of that name
        return described
    return described | {"made": made}


def write_ground_truth(index: DatasetIndex, folder: str | Path) -> None:
    """Write `ground_truth` as ground_truth.json into a data set's folder of results."""
    with atomic_path(Path(folder) / FILE) as temporary:
        temporary.write_text(json.dumps(ground_truth(index), indent=2) + "\n", encoding="utf-8")


# --- masks against labels ----------------------------------------------------------------------


class Verdict(NamedTuple):
    """What is odd about the masks, and whether nothing can be scored with them."""

    wrong: bool
    message: str


def classes_in(mask: np.ndarray) -> frozenset[int]:
    """The ids of the object classes in a mask as `read_mask` returns it."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return frozenset(np.flatnonzero(counts).tolist()) - {0, IGNORE}


def verdict_on_masks(index: DatasetIndex, found: Mapping[str, frozenset[int]]) -> Verdict | None:
    """Compare masks with labels.

    Masks without any class are of 0 and 255, and masks most of which lack a class that their
    labels name have the classes in another order: both are wrong. A few that do are usual, an
    object being small or hidden: 7 of 885 photographs with six classes of VOC 2012.

    Args:
        index: the data set.
        found: image id -> what `classes_in` found in its mask, for those that were read.
    """
    if not found:
        return None
    meant = [
        f"{value} {name}" for value, name in zip(index.mask_values, index.classes, strict=True)
    ]
    values = (
        f"masks must hold 0 for background, 255 for what is not to count, and {listed(meant, 10)}"
    )
    if not any(found.values()):
        return Verdict(
            True,
            f"none of {len(found)} masks has a pixel of a class, but 0, 255 or classes that are not"
            f" learnt alone: {values}",
        )
    labels = {
        image_id: {index.classes.index(name) + 1 for name in index.record(image_id).labels}
        for image_id in found
    }
    labelled = [image_id for image_id in found if labels[image_id]]
    lacking = [image_id for image_id in labelled if not labels[image_id] <= found[image_id]]
    if not lacking:
        return None
    message = f"{len(lacking)} of {len(labelled)} lack a class that their labels name"
    shown = listed([_compared(index, i, labels[i], found[i]) for i in lacking], 3)
    if 2 * len(lacking) > len(labelled):
        return Verdict(True, f"{message}, as in another order of the classes: {shown}; {values}")
    return Verdict(False, f"{message}: {shown}")


def _compared(index, image_id, labels, found):
    names = ["background", *index.classes]
    label, mask = (" and ".join(names[i] for i in sorted(ids)) for ids in (labels, found))
    return f"{image_id} ({label}; its mask: {mask or 'none'})"


def check_masks(index: DatasetIndex, threads: int) -> Verdict | None:
    """Read all masks and compare them with the labels.

    Returns:
        What is worth a note.

    Raises:
        InputError: masks with which nothing can be scored, or that cannot be read.
    """
    records = [record for record in index.records if record.mask]
    with ThreadPoolExecutor(threads) as pool:  # decoders let go of Python's lock
        results = pool.map(lambda record: classes_in(index.read_mask(record)), records)
        results = progress(results, total=len(records), desc="reading masks")
        found = {record.image_id: ids for record, ids in zip(records, results, strict=True)}
    verdict = verdict_on_masks(index, found)
    if verdict and verdict.wrong:
        raise InputError(f"{index.root}: {verdict.message}")
    return verdict

"""Which masks a run is scored against: COCO has two kinds, VOC's and SBD's differ as well."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from wsss.datasets.coco.masks import read_manifest
from wsss.datasets.index import DatasetIndex
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

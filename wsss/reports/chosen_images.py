"""Which images pictures show, and what of them: deterministic where nobody says it."""

from collections.abc import Collection, Sequence

import cv2
import numpy as np
import pandas as pd

from model.labels import IGNORE
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError, listed
from wsss.storage.artifacts import ArtifactReader


def check_ids(index: DatasetIndex, ids: Collection[str]) -> None:
    """Refuse ids that are no images of the data set.

    Raises:
        InputError: an id is not in the index.
    """
    unknown = [i for i in ids if i not in {record.image_id for record in index.records}]
    if unknown:
        raise InputError(
            f"figures.images: not in the index of the data set: {listed(unknown)}; correct the ids"
        )


def choose(
    records: Sequence[ImageRecord],
    readers: Collection[ArtifactReader],
    count: int,
    ids: Collection[str] = (),
) -> list[ImageRecord]:
    """Records to show, among those that every reader has.

    Those of `ids`; without ids, the first with a mask and several classes, taking what shows a new
    class before what does not.
    """
    shown = [r for r in records if all(r.image_id in reader for reader in readers)]
    if ids:
        return [record for record in shown if record.image_id in ids]
    shown.sort(key=lambda record: (record.mask is None, len(record.labels) < 2))
    seen, fresh, rest = set(), [], []
    for record in shown:
        (fresh if set(record.labels) - seen else rest).append(record)
        seen.update(record.labels)
    return (fresh + rest)[:count]


def named_or_chosen(
    records: Sequence[ImageRecord],
    readers: Collection[ArtifactReader],
    count: int,
    ids: Collection[str],
) -> list[ImageRecord]:
    """`choose`, by itself where `ids` has images of other splits only."""
    return choose(records, readers, count, ids) or choose(records, readers, count)


def listing(records: Sequence[ImageRecord], **columns: Sequence) -> pd.DataFrame:
    """The table beside a picture: image_id, split, labels, and more columns."""
    return pd.DataFrame(
        {
            "image_id": [record.image_id for record in records],
            "split": [record.split for record in records],
            "labels": [";".join(record.labels) for record in records],
            **columns,
        }
    )


def dominant_class(label_map: np.ndarray, keys: Sequence[int]) -> int:
    """The one of `keys` (class ids 0..C-1) with most pixels; the first where none has any.

    Args:
        label_map: uint8 (H, W), 0 background, key + 1 for a class, 255.
    """
    pixels = np.bincount(label_map.ravel(), minlength=IGNORE + 1)
    return max(keys, key=lambda key: (pixels[key + 1], -key))


def points_of(label_map: np.ndarray, count: int = 2) -> list[tuple[float, float]]:
    """Points (x, y) in the middle of the largest regions, each of another class; 0..1.

    Objects come before background, which fills up where there are too few.

    Args:
        label_map: uint8 (H, W), 0 background, classes, 255.
    """
    pixels = np.bincount(label_map.ravel(), minlength=IGNORE + 1)[:IGNORE]
    present = sorted(np.flatnonzero(pixels), key=lambda label: (label == 0, -pixels[label]))
    return [_middle(label_map == label) for label in present[:count]]


def _middle(region):
    """The point of a region that is farthest from what is not of it, nor of the image."""
    distance = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    height, width = region.shape
    return ((x + 0.5) / width, (y + 0.5) / height)

"""What each image adds to the IoU of each class, from the tables that runs are compared by.

An overlap is that of `ConfusionMatrix`: per class, pixels of the intersection and of the union of
prediction and ground truth. They add up over images, so that mIoU and any resample of the images
come from a table that is small beside the label maps, and outlives them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wsss.method.evaluation import OVERLAP_COLUMNS, read_rows


def read_overlaps(runs: Sequence[tuple[str | Path, str]], num_classes: int) -> list[np.ndarray]:
    """The overlaps of several runs, images in one order.

    Args:
        runs: a table that `evaluate_segmentation` wrote, and a kind of prediction in it:
            unrefined, refined, merged or crf. All of the same images.
        num_classes: C.

    Returns:
        int64 (N, 2, C + 1) for each run.

    Raises:
        InputError: a table is missing or damaged, or has no such prediction.
    """
    tables = [read_rows(path, kind, OVERLAP_COLUMNS) for path, kind in runs]
    ids = np.unique(np.concatenate([table["image_id"] for table in tables]))
    return [_dense(table, ids, num_classes) for table in tables]


def _dense(table, ids, num_classes):
    overlaps = np.zeros((len(ids), 2, num_classes + 1), np.int64)
    image = pd.Index(ids).get_indexer(table["image_id"])
    for part, name in enumerate(OVERLAP_COLUMNS[2:]):
        overlaps[image, part, table["class_id"]] = table[name]
    return overlaps

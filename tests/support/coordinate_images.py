"""Photographs that tell where a pixel comes from, and labels that do likewise.

Red is 5 * column, green 5 * row, blue 20 * number of the image. Segmentation labels are the
column, saliency rises from row to row.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.storage.artifacts import Record

CLASSES = ("cat", "dog", "cow")
SIZE = (32, 40)


def map_index(root, count, size=SIZE):
    """`count` photographs of (height, width) `size` as described above, and their index."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    records = []
    for i in range(count):
        image = np.stack([5 * columns, 5 * rows, np.full(size, 20 * i)], axis=-1).astype(np.uint8)
        cv2.imwrite(str(root / f"{i}.png"), image[..., ::-1])
        labels = (CLASSES[i % 3],)
        records.append(
            ImageRecord(f"image{i}", "train", True, f"{i}.png", None, size[1], size[0], labels)
        )
    return DatasetIndex(root, CLASSES, (1, 2, 3), tuple(records))


@dataclass
class ColumnLabels:
    """Stands for the reader of pseudo labels."""

    size: tuple[int, int] = SIZE

    def read(self, image_id):
        rows, columns = np.mgrid[: self.size[0], : self.size[1]].astype(np.uint8)
        return Record({"segmentation": columns, "saliency": 112 + rows}, {})

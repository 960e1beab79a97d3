"""The results of a run with drawn masks, whose objects are known."""

import numpy as np

from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset, write_test_images
from wsss.method.uncertainty import Uncertainty
from wsss.reports.mask_files import MaskRow, write_mask_files, write_mask_table

CLASSES = ("cat", "guinea pig: brown", "sheep")


def label_a():
    """Two cats that touch at a corner only, which is one; a third; a pig with a hole; a speck."""
    label = np.zeros((30, 40), np.uint8)
    label[2:8, 2:8] = label[8:14, 8:14] = 1
    label[2:8, 30:38] = 1
    label[16:28, 20:34] = 2
    label[20:24, 25:29] = 0
    label[25, 3:6] = 3
    return label


def label_b():
    """Two classes side by side that leave no background."""
    label = np.full((30, 40), 3, np.uint8)
    label[:, 17:] = 1
    return label


LABELS = {"a": label_a(), "b": label_b(), "empty": np.zeros((30, 40), np.uint8)}


def index_of(root, labels, split="train"):
    """An index of images `<id>.jpg`; the last one is only predicted."""
    records = [
        ImageRecord(i, split, False, f"photos/{i}.jpg", None, *label.shape[::-1], CLASSES[:1])
        for i, label in labels.items()
    ]
    return DatasetIndex(root, CLASSES, (1, 2, 3), tuple(records))


def write_results(folder, labels=None):
    """A folder of results with index and finished masks."""
    labels = LABELS if labels is None else labels
    index = index_of(folder, labels)
    write_dataset(index, folder)
    write_test_images(index, folder)
    rows = []
    for image_id, mask in labels.items():
        image = np.zeros((*mask.shape, 3), np.uint8)
        shares = write_mask_files(folder / "masks", image_id, image, mask, CLASSES, 0.5)
        rows.append(MaskRow(image_id, shares, Uncertainty(confidence=0.9, uncertain=0.1)))
    write_mask_table(folder / "masks/masks.csv", rows)
    return folder

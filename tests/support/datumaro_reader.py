"""What datumaro, the library of CVAT, finds in a data set; run by a Python that has it.

python datumaro_reader.py FORMAT FOLDER MASKS.npz [FORMAT FOLDER ...]

MASKS.npz has an array (objects, H, W) by image, and their labels by image with `_labels` behind.
What was read is then written in other formats, as CVAT exports it.
"""

import sys

import numpy as np
from datumaro import AnnotationType, Dataset

OPTIONS = {
    "coco_instances": {},
    "voc_segmentation": {"label_map": "source", "apply_colormap": True},
}


def main(form, folder, output, *exports):
    dataset = Dataset.import_from(folder, form)
    names = dataset.categories()[AnnotationType.label].items
    found = {}
    for item in dataset:
        masks = [a for a in item.annotations if a.type == AnnotationType.mask]
        found[item.id] = np.array([mask.image for mask in masks], bool)
        found[f"{item.id}_labels"] = np.array([names[mask.label].name for mask in masks], str)
    np.savez(output, **found)
    for target, place in zip(exports[::2], exports[1::2], strict=True):
        dataset.export(place, target, **OPTIONS[target])


main(*sys.argv[1:])

"""Masks as files that annotation tools take in: COCO's instances, and CVAT's zip.

A semantic mask knows no objects: each connected component of a class becomes one, so that a person
can correct it alone. Components that are smaller than a share of the photograph are specks, which
nobody wants to click away: they become background, in both formats alike.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from model.labels import IGNORE
from wsss.datasets.cvat import CLASS_MASKS, LABELMAP, NAMES, OBJECT_MASKS, labelmap
from wsss.datasets.index import ImageRecord
from wsss.errors import InputError
from wsss.reports.drawing import class_palette
from wsss.storage.files import atomic_path
from wsss.storage.palette import voc_palette

MOST_OBJECTS = 255  # of an image: colours that VOC's palette has beside that of background
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip knows: the same masks, the same file


class ObjectMap(NamedTuple):
    """The objects of an image: their numbers 1.. as (H, W), 0 elsewhere, and their classes."""

    numbers: np.ndarray
    class_ids: list[int]


def objects_of(label: np.ndarray, smallest: float) -> ObjectMap:
    """The connected components of the classes in a label map, without specks.

    Args:
        label: class ids (H, W); 255 belongs to no object.
        smallest: share of the pixels, 0..1, that a component must have. Components are connected
            over corners, too.
    """
    numbers, class_ids = np.zeros(label.shape, np.int32), []
    for class_id in np.setdiff1d(label, (0, IGNORE)):
        covered = (label == class_id).astype(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(covered, connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        kept = [part for part in range(1, len(areas)) if areas[part] >= smallest * label.size]
        renumbered = np.zeros(len(areas), np.int32)
        renumbered[kept] = np.arange(len(kept)) + len(class_ids) + 1
        numbers += renumbered[parts]
        class_ids += [int(class_id)] * len(kept)
    return ObjectMap(numbers, class_ids)


def write_coco(
    path: Path, classes: Sequence[str], images: Iterable[tuple[ImageRecord, ObjectMap]]
) -> None:
    """COCO's `instances_*.json`: an annotation an object, as compressed RLE.

    A category's id is the class id; an image is called as its file, without folders.
    """
    content = {
        "info": {"description": "masks of AuxSegNet, an annotation for each connected component"},
        "licenses": [],
        "categories": [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in enumerate(classes, 1)
        ],
        "images": [],
        "annotations": [],
    }
    for number, (record, objects) in enumerate(images, 1):
        size = {"width": record.width, "height": record.height}
        entry = {"id": number, "file_name": PurePosixPath(record.image).name, **size}
        content["images"].append(entry)
        for annotation in _annotations(objects, number):
            annotation["id"] = len(content["annotations"]) + 1
            content["annotations"].append(annotation)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _annotations(objects, image_number) -> Iterator[dict]:
    """The annotations of an image, without ids."""
    from pycocotools import mask as rle_of  # here, so that other commands do without it

    for number, class_id in enumerate(objects.class_ids, 1):
        rle = rle_of.encode(np.asfortranarray(objects.numbers == number, np.uint8))
        yield {
            "image_id": image_number,
            "category_id": class_id,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            "area": int(rle_of.area(rle)),
            "bbox": rle_of.toBbox(rle).tolist(),
            "iscrowd": 0,
        }


def write_cvat(
    path: Path, classes: Sequence[str], images: Iterable[tuple[ImageRecord, ObjectMap]]
) -> None:
    """CVAT's "segmentation mask 1.1", a zip; see `wsss.datasets.cvat`.

    Classes have the colours of masks and overlays, objects those of VOC's palette by number.

    Raises:
        InputError: an image has more objects than there are colours.
    """
    names = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for record, objects in images:
            if len(objects.class_ids) > MOST_OBJECTS:
                raise InputError(
                    f"image {record.image_id}: {len(objects.class_ids)} objects, but the format has"
                    f" colours for {MOST_OBJECTS}: raise --smallest, or use --format coco"
                )
            class_of = np.array([0, *objects.class_ids], np.uint8)
            label = class_palette()[class_of[objects.numbers]]
            names.append(PurePosixPath(record.image).stem)
            _add(archive, f"{CLASS_MASKS}/{names[-1]}.png", _png(label))
            numbered = voc_palette()[objects.numbers]
            _add(archive, f"{OBJECT_MASKS}/{names[-1]}.png", _png(numbered))
        _add(archive, LABELMAP, labelmap(["background", *classes], class_palette()).encode())
        _add(archive, NAMES, "".join(f"{name}\n" for name in names).encode())


def _png(colours):
    content = io.BytesIO()
    Image.fromarray(colours).save(content, format="PNG")
    return content.getvalue()


def _add(archive, name, content):
    archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_STORED)

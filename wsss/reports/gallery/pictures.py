"""What the gallery has of one image: its photograph, its maps for the page, and its scores."""

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.metrics import ConfusionMatrix, mean_defined
from wsss.reports.drawing import save_picture
from wsss.reports.gallery.choice import MAP_SIDE
from wsss.reports.gallery.layers import FORMS, LABELS, Layer
from wsss.storage.files import atomic_path
from wsss.storage.pixels import Size, resize_labels, resize_map, scaled_size

TRUTH = "truth"
QUALITY = 85  # of photographs, as JPEG
CERTAINTY = ("confidence", "uncertain")  # attributes of the label maps of the CRF


@dataclass(frozen=True)
class Pictures:
    """Writes the files of a record and returns what `data.js` says of it.

    Picklable, so that processes can share the work. `long_side` is that of photographs and label
    maps in pixels; larger ones are shrunk.
    """

    index: DatasetIndex
    layers: Sequence[Layer]
    long_side: int
    folder: Path

    def __call__(self, record: ImageRecord) -> dict[str, Any]:
        photograph = self.index.read_image(record, self.long_side)
        photo_file, maps_file = (self.folder / name for name in picture_names(record.image_id))
        save_picture(photo_file, photograph, quality=QUALITY)
        truth = self.index.read_mask(record) if record.mask else None
        found = {number: layer.read(record.image_id) for number, layer in enumerate(self.layers)}
        found = {number: pair for number, pair in found.items() if pair and pair[0].size}
        size = photograph.shape[:2]
        parts = [] if truth is None else [_part(TRUTH, resize_labels(truth, size))]
        for number, (array, attributes) in found.items():
            form = FORMS[self.layers[number].name]
            array = resize_labels(array, size) if form == LABELS else _bytes_of_map(array)
            parts.append(_part(number, array, attributes.get("keys")))
        _write_maps(maps_file, record.image_id, parts)
        return self._row(record, size, truth, found)

    def _row(
        self,
        record: ImageRecord,
        size: Size,
        truth: np.ndarray | None,
        found: dict[int, tuple[np.ndarray, dict]],
    ) -> dict[str, Any]:
        labels = {n: pair for n, pair in found.items() if FORMS[self.layers[n].name] == LABELS}
        final = [array for n, (array, _) in labels.items() if self.layers[n].name == "crf"]
        own = {1 + self.index.classes.index(name) for name in record.labels}
        return {
            "id": record.image_id,
            "split": record.split,
            "size": size[::-1],
            "labels": sorted(own),
            "classes": sorted(own | _objects(truth, *final)),
            "truth": truth is not None,
            "scores": {
                number: self._scores(array, truth, self.layers[number].ignore_prediction)
                for number, (array, _) in labels.items()
                if truth is not None and record.scored
            },
            **{
                name: {n: round(a[name], 4) for n, (_, a) in labels.items() if name in a}
                for name in CERTAINTY
            },
        }

    def _scores(self, prediction, truth, ignore_prediction):
        """The mean IoU of an image as in the tables of images, and the IoU of each class in it."""
        matrix = ConfusionMatrix(len(self.index.classes), ignore_prediction)
        matrix.update(prediction, truth)
        ious = 100 * matrix.iou()
        mean = mean_defined(ious)
        by_class = {i: round(iou, 2) for i, iou in enumerate(ious.tolist()) if not np.isnan(iou)}
        return [None if np.isnan(mean) else round(float(mean), 2), by_class]


def picture_names(image_id: str) -> tuple[str, str]:
    """The file names of an image's photograph and of its maps."""
    return f"{image_id}.jpg", f"{image_id}.js"


def _objects(*label_maps):
    """Ids of the object classes in some label maps; None is passed over."""
    ids = (np.unique(labels).tolist() for labels in label_maps if labels is not None)
    return {i for some in ids for i in some} - {0, 255}


def _bytes_of_map(array: np.ndarray) -> np.ndarray:
    """One or several maps as 255ths, uint8, at most MAP_SIDE pixels on the longer side."""
    maps = array.reshape(-1, *array.shape[-2:])
    scale = 1 if array.dtype == np.uint8 else 255
    size = maps.shape[1:]
    size = scaled_size(size, min(1, MAP_SIDE / max(size)))
    small = [np.rint(np.clip(scale * resize_map(part, size), 0, 255)) for part in maps]
    return np.array(small, np.uint8).reshape(*array.shape[:-2], *size)


def _part(key, array, keys=None):
    classes = {} if keys is None or array.ndim < 3 else {"classes": [key + 1 for key in keys]}
    return {"key": key, "shape": array.shape, **classes}, array.tobytes()


def _write_maps(path: Path, image_id: str, parts: Sequence[tuple[dict, bytes]]) -> None:
    """A script that hands the maps to the page: a page in a folder may load nothing else.

    All values in one zlib stream, as base64, in the order of their descriptions.
    """
    values = base64.b64encode(zlib.compress(b"".join(values for _, values in parts), 9)).decode()
    arguments = [json.dumps(image_id), json.dumps([part for part, _ in parts]), json.dumps(values)]
    with atomic_path(path) as temporary:
        temporary.write_text(f"receive({', '.join(arguments)});\n", encoding="utf-8")

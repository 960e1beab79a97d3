"""Artifacts and checkpoints in words: what a file is, and what its arrays hold."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsss.errors import InputError, listed
from wsss.reports.disk import readable_bytes
from wsss.reports.drawing import class_name
from wsss.storage.artifacts import IDENTITY_KEYS, ArtifactReader

SAMPLE = 200  # images whose values are read for the ranges
LABEL_MAPS = {
    "pseudo_labels": ("segmentation",),
    "predictions": ("unrefined", "refined"),
    "predictions_crf": ("predictions_crf",),
}
# Arrays of a map per class, and whether their keys count background as 0.
CLASS_MAPS = {"cams": ("cams", False), "predictions": ("probabilities", True)}


class Artifact:
    """An opened artifact: its header, and records with a name for every array."""

    def __init__(self, path: str | Path):
        self.path = path
        self.reader = ArtifactReader(path)
        (self.header,) = self.reader.headers.values()
        self.kind = self.header["kind"]
        self.classes = self.header.get("classes", [])
        self.ids = self.reader.ids

    def read(self, image_id: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Name -> array, and the attributes; InputError if the image is not in it.

        An array without a name of its own gets the kind's.
        """
        if image_id not in self.reader:
            where = self.reader.paths[0]
            raise InputError(f"{where}: no image {image_id!r} in it; {self._hint(image_id)}")
        record = self.reader.read(image_id)
        arrays = record.array if isinstance(record.array, dict) else {self.kind: record.array}
        return arrays, record.attributes

    def _hint(self, image_id):
        close = difflib.get_close_matches(image_id, self.ids, n=3, cutoff=0.5)
        close = close or [i for i in self.ids if image_id and image_id in i]
        return f"close to it: {listed(close, 3)}" if close else f"it holds {listed(self.ids, 3)}"

    def is_label_map(self, name: str) -> bool:
        """Whether an array holds class ids."""
        return name in LABEL_MAPS.get(self.kind, ())

    def map_names(self, name: str, array: np.ndarray, attributes: dict) -> list[str] | None:
        """The class names of the maps of an array, or None if it is not a map per class."""
        wanted, with_background = CLASS_MAPS.get(self.kind, (None, False))
        if name != wanted or array.ndim != 3:
            return None
        shift = 0 if with_background else 1
        return [class_name(key + shift, self.classes) for key in attributes["keys"]]


def describe_artifact(artifact: Artifact, path: str | Path) -> list[str]:
    """Lines on a whole file."""
    header, ids = artifact.header, artifact.ids
    lines = [
        f"{path}  ({readable_bytes(Path(path).stat().st_size)})",
        line_of("kind", f"{artifact.kind}, schema {header['schema_version']}"),
        line_of("content digest", header["content_digest"]),
        *_identity_lines(header),
        *_mapping_lines("parameters", header["parameters"]),
        *_mapping_lines("made from", header["sources"]),
        line_of("versions", ", ".join(f"{k} {v}" for k, v in header["versions"].items())),
        line_of("images", f"{len(ids)}: {listed(ids, 6)}" if ids else "none"),
    ]
    return [*lines, *_array_lines(artifact)] if ids else lines


def _identity_lines(header):
    lines = []
    for key in IDENTITY_KEYS:
        value = header.get(key)
        if key == "classes" and value is not None:
            lines.append(line_of("classes", f"{len(value)}: {', '.join(value)}"))
        elif value is not None:
            lines.append(line_of(key.replace("_", " "), value))
    return lines


def _array_lines(artifact):
    """A table of the arrays: type, range of shapes, range of values."""
    step = -(-len(artifact.ids) // SAMPLE)
    sample = artifact.ids[::step]
    found = {}
    for image_id in sample:
        for name, array in artifact.read(image_id)[0].items():
            found.setdefault(name, []).append(_summary(array))
    rows = [("array", "type", "shape", "values")]
    for name, parts in found.items():
        dtypes, shapes, lows, highs = zip(*parts, strict=True)
        low, high = min(lows), max(highs)
        values = f"{number_text(low)} .. {number_text(high)}" if low <= high else "-"
        rows.append((name, "/".join(sorted(set(dtypes))), _shapes(shapes), values))
    of = "all images" if step == 1 else f"{len(sample)} images, evenly spaced"
    return ["", *table_lines(rows), f"(shapes and values of {of})"]


def _summary(array):
    if array.size == 0:  # no CAM, for an image without labels
        return str(array.dtype), array.shape, np.inf, -np.inf
    return str(array.dtype), array.shape, float(array.min()), float(array.max())


def _shapes(shapes):
    """`1..3 x 24..32 x 32` for many shapes of as many dimensions."""
    if len({len(shape) for shape in shapes}) > 1:
        return "of different dimensions"
    ranges = [(min(side), max(side)) for side in zip(*shapes, strict=True)]
    return " x ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in ranges)


def describe_image(artifact: Artifact, image_id: str) -> list[str]:
    """Lines on the arrays of one image."""
    arrays, attributes = artifact.read(image_id)
    lines = [f"{image_id}  ({artifact.kind})"]
    lines += [line_of(name, value) for name, value in attributes.items()]
    rows = [("array", "type", "shape", "min", "mean", "max")]
    for name, array in arrays.items():
        rows.append((name, str(array.dtype), _shapes([array.shape]), *_statistics(array)))
        names = artifact.map_names(name, array, attributes) or []
        for name_of_map, part in zip(names, array, strict=False):
            rows.append((f"  {name_of_map}", "", "", *_statistics(part)))
    lines += ["", *table_lines(rows)]
    for name, array in arrays.items():
        if artifact.is_label_map(name):
            lines += ["", *table_lines(_label_rows(name, array, artifact.classes))]
    return lines


def _statistics(array):
    if array.size == 0:
        return ("-", "-", "-")
    values = array.astype(np.float64)
    return tuple(number_text(v) for v in (values.min(), values.mean(), values.max()))


def _label_rows(name, labels, classes):
    ids, counts = np.unique(labels, return_counts=True)
    rows = [(f"classes in {name}", "id", "pixels")]
    for i, count in zip(ids.tolist(), counts.tolist(), strict=True):
        share = f"{100 * count / labels.size:.1f} %"
        rows.append((f"  {class_name(i, classes)}", str(i), share))
    return rows


def describe_checkpoint(path: str | Path) -> list[str]:
    """Lines on a checkpoint."""
    from wsss.storage.checkpoint import (
        read_checkpoint,  # torch takes seconds, and only these need it
    )

    checkpoint = read_checkpoint(path)
    state = checkpoint["model"]
    return [
        f"{path}  ({readable_bytes(Path(path).stat().st_size)})",
        line_of("kind", f"checkpoint, {checkpoint['format']}"),
        line_of("digest", checkpoint["digest"]),
        *_identity_lines(checkpoint["identity"]),
        *_mapping_lines("network", checkpoint["arguments"]),
        *_mapping_lines("settings", checkpoint["parameters"]),
        *_mapping_lines("made from", checkpoint.get("sources"), empty="not recorded"),
        line_of("weights", f"{sum(t.numel() for t in state.values()):,} in {len(state)} tensors"),
    ]


def line_of(name: str, value: Any) -> str:
    """A name and its value."""
    return f"{name:<15} {value}"


def _mapping_lines(name, mapping, empty="none"):
    """A line per entry; nested sections stay JSON."""
    if not mapping:
        return [line_of(name, empty)]
    width = max(map(len, mapping))
    texts = [
        f"{key:<{width}}  {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in mapping.items()
    ]
    return [line_of(name if number == 0 else "", text) for number, text in enumerate(texts)]


def table_lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows of cells in columns as wide as their widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def number_text(value: float) -> str:
    """A number with four digits that count."""
    return f"{value:.4g}"

"""COCO's `instances_*.json`, read once and checked before anything is made from it.

The file is read here and not by `pycocotools.coco.COCO`, which lets a second annotation of the
same id replace the first and takes unknown images and categories as they come; outlines become
pixels by `pycocotools.mask` (`wsss.datasets.coco.masks`).

Files of other tools are read as readers built on pycocotools do: `iscrowd` that is missing or
`false` is 0, an `area` that is missing is that of the outline, an id may be 3.0, and an annotation
without an outline labels its image and paints nothing.
"""

import json
import logging
import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from model.labels import IGNORE
from wsss.datasets.index import check_id
from wsss.errors import InputError, listed

log = logging.getLogger(__name__)

AGAIN = "correct it, or unpack the annotations again"


@dataclass(frozen=True)
class CocoImage:
    """An entry of `images`: `image_id` is the stem of `file_name`, `number` is COCO's own id."""

    image_id: str
    number: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class Annotations:
    """What an annotation file holds.

    `categories` maps category ids to names, ascending; `images` ascend by number; `of_image` maps
    the number of an image to its annotations, as they stand in the file and in its order.
    """

    path: Path
    categories: dict[int, str]
    images: tuple[CocoImage, ...]
    of_image: dict[int, list[dict]] = field(repr=False)

    @cached_property
    def values(self) -> dict[int, int]:
        """Mask value by category id: 1, 2, ... in ascending order, so that 1..90 become 1..80."""
        return {category: value for value, category in enumerate(self.categories, 1)}

    def names_in(self, image: CocoImage) -> set[str]:
        """Categories of which an image has at least one annotation, crowds included."""
        return self._names(self.of_image.get(image.number, ()))

    def outlined_in(self, image: CocoImage) -> set[str]:
        """Categories of which an image has at least one object with an outline, and no crowd."""
        objects = self.of_image.get(image.number, ())
        return self._names(o for o in objects if o["segmentation"] and not o["iscrowd"])

    def _names(self, annotations):
        return {self.categories[annotation["category_id"]] for annotation in annotations}


def read_annotations(path: Path) -> Annotations:
    """Read and check an annotation file; outlines are only checked when they are painted.

    Raises:
        InputError: names the file and the entry, for what is not JSON, for missing keys, values of
            the wrong kind, ids that stand twice, and annotations of an unknown image or category.
    """
    log.info("reading %s (%.0f MB)", path, path.stat().st_size / 1e6)
    content = _json_of(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(
                f"{path} has no list {key!r}: name an instances_*.json, which has images,"
                " annotations and categories"
            )
    categories = _categories(content["categories"], path)
    images = _images(content["images"], path)
    known = {image.number for image in images}
    of_image = _annotations(content["annotations"], path, known, categories)
    _check_outlined(path, of_image)
    return Annotations(path, categories, images, of_image)


def _json_of(path):
    try:
        with open(path, "rb") as file:  # bytes, of which a byte order mark may be the first
            return json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"annotation file {path} is not readable JSON ({error}): unpack it again"
        ) from error


def _categories(entries, path):
    names = {}
    for where, entry in _entries(entries, "category", path):
        number, name = _int_of(entry, "id", where), entry.get("name")
        if not isinstance(name, str):
            raise InputError(f"{where} has no name: {AGAIN}")
        if number in names or name in names.values():
            raise InputError(f"{where}: its id or name {name!r} stands twice: {AGAIN}")
        names[number] = name
    if not 0 < len(names) < IGNORE:
        raise InputError(f"{path} has {len(names)} categories: masks can hold 1 to {IGNORE - 1}")
    return dict(sorted(names.items()))


def _images(entries, path):
    images, stems = {}, set()
    for where, entry in _entries(entries, "image", path):
        number, name = _int_of(entry, "id", where), entry.get("file_name")
        if not isinstance(name, str):
            raise InputError(f"{where} has no file_name: {AGAIN}")
        stem = check_id(PurePosixPath(name).stem, where)
        if number in images or stem in stems:
            raise InputError(f"{where}: its id or file name {name!r} stands twice: {AGAIN}")
        width, height = (_int_of(entry, key, where) for key in ("width", "height"))
        images[number] = CocoImage(stem, number, name, width, height)
        stems.add(stem)
    return tuple(images[number] for number in sorted(images))


def _annotations(entries, path, images, categories):
    of_image, seen = defaultdict(list), set()
    for where, entry in _entries(entries, "annotation", path):
        number = _int_of(entry, "id", where)
        if number in seen:
            raise InputError(f"{where}: its id stands twice: {AGAIN}")
        seen.add(number)
        for key, known in (("image_id", images), ("category_id", categories)):
            if _int_of(entry, key, where) not in known:
                raise InputError(f"{where}: {key} {entry[key]} is not in the file: {AGAIN}")
        _check_shape(entry, where)
        of_image[entry["image_id"]].append(entry)
    return dict(of_image)


def _check_shape(entry, where):
    """`iscrowd`, `area` and the kind of `segmentation`, which all may be missing."""
    entry["iscrowd"] = crowd = entry.get("iscrowd") or 0
    if crowd not in (0, 1):
        raise InputError(f"{where}: iscrowd is {crowd!r}, not 0 or 1: {AGAIN}")
    entry["area"] = area = entry.get("area")
    # Written so that "not a number", which JSON files can hold, is refused.
    if area is not None and (type(area) not in (int, float) or not 0 <= area < math.inf):
        raise InputError(f"{where}: area is {area!r}, not a number of pixels: {AGAIN}")
    entry["segmentation"] = outline = entry.get("segmentation") or []
    if not isinstance(outline, list | dict):
        raise InputError(
            f"{where}: segmentation is {outline!r}, neither polygons nor an RLE: {AGAIN}"
        )


def _check_outlined(path, of_image):
    """Boxes alone cannot be painted; some annotations without an outline are told."""
    entries = [entry for annotations in of_image.values() for entry in annotations]
    without = [str(entry["id"]) for entry in entries if not entry["segmentation"]]
    if without and len(without) == len(entries):
        raise InputError(
            f"{path} has no segmentation: boxes alone cannot be painted, use a file with outlines"
        )
    if without:
        log.warning(
            "%s: %d of %d annotations have no outline and paint nothing: %s",
            *(path, len(without), len(entries), listed(without)),
        )


def _entries(entries, kind, path):
    """Pairs of where an entry stands, for messages, and the entry."""
    for number, entry in enumerate(entries, 1):
        yield f"{path}, {kind} {entry.get('id', f'number {number}')}", entry


def _int_of(entry, key, where):
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():  # tables with gaps make 3.0 of 3
        value = entry[key] = int(value)
    if type(value) is not int:
        raise InputError(f"{where}: {key} is {value!r}, not a whole number: {AGAIN}")
    return value

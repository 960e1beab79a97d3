"""Masks that people corrected, which stand in for the pseudo labels of their images.

`pseudo_labels.corrected` names a folder of palette PNGs, an `instances_*.json` of COCO's kind, or
CVAT's "segmentation mask 1.1", as a zip or unpacked. They need not be of all images.

What tools make of COCO's format:

- CVAT writes everything that was painted with a brush as a crowd (iscrowd 1). A crowd of a class
  shows that class, so it is an object here.
- Label Studio puts eight letters before the name of an image, and eight more where it copies it.
- An image without any annotation is one that nobody has looked at yet: it is not corrected.
- A box without an outline paints nothing. It may stand beside the outline that was drawn from it;
  an image with boxes alone of a class is refused, since that class would be background.

Objects are painted in the order of the file, each over those before it, as tools draw them.
"""

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from wsss.configuration.paths import expanded_path
from wsss.datasets.coco.annotations import read_annotations
from wsss.datasets.coco.masks import Region, paint
from wsss.datasets.cvat import LABELMAP, CvatMasks
from wsss.datasets.index import SPLITS, DatasetIndex, ImageRecord
from wsss.datasets.near_names import match_names, near_key, told_missing, told_near
from wsss.errors import InputError, listed
from wsss.storage.files import sha256_of

KEY = "pseudo_labels.corrected"
LABEL_STUDIO = re.compile(r"^[0-9a-f]{8}(?:-|__)")


class _Masks(Protocol):
    """Masks by name, each read in the class ids of an index."""

    names: list[str]

    def read(self, name: str, record: ImageRecord) -> np.ndarray: ...


@dataclass(frozen=True)
class CorrectedMasks:
    """The masks of `pseudo_labels.corrected`; picklable, so that processes can share the work.

    `names` has the name of a mask by image id, for the training images that have one. `elsewhere`
    are ids of images that are not trained on, and `strangers` names that are no image's. `near`
    tells names that are nearly their images' with these, `nearest` strangers with what is most
    like them; both are empty where there are none.
    """

    path: Path
    masks: _Masks
    names: dict[str, str]
    elsewhere: list[str]
    strangers: list[str]
    near: str
    nearest: str

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.names

    def read(self, record: ImageRecord) -> np.ndarray:
        """The mask of a training image as uint8 class ids (H, W), 255 where nobody knows.

        Raises:
            InputError: the mask is damaged, of another size, or holds what is no class.
        """
        return self.masks.read(self.names[record.image_id], record)


def corrected_masks(text: str, index: DatasetIndex) -> CorrectedMasks:
    """The masks that the configuration names; those for which `index` has an image.

    Raises:
        InputError: there are none, they cannot be read, none is a training image's, or an image
            has two.
    """
    path = existing_path(text)
    masks = _masks_at(path, index)
    train, val, test = (_files(index, split) for split in SPLITS)
    # A run knows nothing of what is only predicted: so it must not count in what a run takes.
    names, near, others = _by_image(masks.names, train | val, path)
    _check_distinct(names, test, path)
    predicted, _, strangers = _by_image(others, test, path)
    nearest = told_missing(strangers, train | val | test, {}, {})
    if not train.keys() & names.keys():
        raise InputError(
            f"{KEY}: {path} has a mask of none of the training images"
            f" ({nearest or listed(masks.names) or 'it is empty'}): call masks as images, or name"
            " another"
        )
    elsewhere = [image_id for image_id in (*names, *predicted) if image_id not in train]
    corrected = {image_id: name for image_id, name in names.items() if image_id in train}
    return CorrectedMasks(path, masks, corrected, elsewhere, strangers, near, nearest)


def existing_path(text: str) -> Path:
    """The path that the configuration names; InputError if nothing is there."""
    path = expanded_path(text, KEY)
    if not path.exists():
        raise InputError(f"{KEY}: {path} does not exist: correct the path")
    return path


def digest_of_masks(text: str) -> str:
    """SHA-256 of the masks that the configuration names, by content, wherever they lie."""
    path = existing_path(text)
    if path.is_file():
        return sha256_of(path)
    files = [f for f in path.rglob("*") if f.suffix.lower() == ".png" or f.name == LABELMAP]
    named = (f"{f.relative_to(path).as_posix()}={sha256_of(f)};" for f in sorted(files))
    return hashlib.sha256("".join(named).encode()).hexdigest()


def _masks_at(path, index) -> _Masks:
    class_ids = {name: number for number, name in enumerate(("background", *index.classes))}
    if path.suffix.lower() == ".json":
        return _CocoMasks(path, class_ids)
    if path.is_dir() and not (path / LABELMAP).is_file():
        return _PngMasks(path, index)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return _CvatMasks(CvatMasks(path), class_ids)
    raise InputError(
        f"{KEY}: {path} is no folder of PNGs, no .json of COCO's kind and no .zip of CVAT's: name"
        " one of these"
    )


def _files(index, split):
    """The names of photographs by image id."""
    return {record.image_id: PurePosixPath(record.image).name for record in index.split(split)}


def _by_image(names, files, path):
    """Match names of masks and images as those of rows and files are matched.

    Returns names of masks by the id of their image, a line on those that are only near, and those
    that are no image's.
    """
    keys = {near_key(image_id) for image_id in files}
    meant = {name: _without_prefix(name, files, keys) for name in names}
    matches = match_names(meant.values(), files)
    found = defaultdict(list)
    for name in names:
        found[matches.ids.get(meant[name])].append(name)
    strangers = found.pop(None, [])
    twice = [image_id for image_id in found if len(found[image_id]) > 1]
    if twice:
        raise InputError(
            f"{KEY}: {path} has two masks of {listed(twice)} ({listed(found[twice[0]])}): keep one"
        )
    return {i: name for i, (name,) in found.items()}, told_near(matches, files), strangers


def _check_distinct(names, test, path):
    """A mask of an image that is only predicted must not pass for that of another."""
    for image_id, name in names.items():
        if name in test:
            raise InputError(
                f"{KEY}: {path} has a mask {name}, which would be taken for one of {image_id},"
                f" though there is {test[name]}: remove it, or rename one of the photographs"
            )


def _without_prefix(name, image_ids, keys):
    """A name without what Label Studio puts before it, if only then it is or is near an image's.

    A date or the first part of a UUID looks the same.
    """
    once = LABEL_STUDIO.sub("", name)
    forms = (name, once, LABEL_STUDIO.sub("", once))
    exact = (form for form in forms if form in image_ids)
    near = (form for form in forms if near_key(form) in keys)
    return next(exact, None) or next(near, name)


class _PngMasks:
    """A folder of `<image id>.png` in the values of the data set's masks."""

    def __init__(self, folder: Path, index: DatasetIndex):
        self.index = index
        self.files = {
            path.stem: path
            for path in sorted(folder.iterdir())
            if path.suffix.lower() == ".png" and not path.name.startswith(".")
        }
        self.names = list(self.files)

    def read(self, name: str, record: ImageRecord) -> np.ndarray:
        return self.index.read_label_map(record, self.files[name])


@dataclass(frozen=True)
class _CvatMasks:
    masks: CvatMasks
    class_ids: dict[str, int]

    @property
    def names(self) -> list[str]:
        return list(self.masks.members)

    def read(self, name: str, record: ImageRecord) -> np.ndarray:
        label = self.masks.read(name, self.class_ids)
        _check_size(label.shape, record, f"{self.masks.path}, {self.masks.members[name]}")
        return label


class _CocoMasks:
    """The annotations of a file of COCO's kind, for the images that have any."""

    def __init__(self, path: Path, class_ids: dict[str, int]):
        self.annotations = read_annotations(path)
        self._values = self._values_of(class_ids)
        self._images = {
            image.image_id: image
            for image in self.annotations.images
            if image.number in self.annotations.of_image
        }
        self.names = list(self._images)

    def read(self, name: str, record: ImageRecord) -> np.ndarray:
        image = self._images[name]
        _check_size((image.height, image.width), record, f"{self.annotations.path}, image {name}")
        entries = self.annotations.of_image[image.number]
        self._check_outlined(entries, name)
        regions = [
            Region(entry["id"], self._values[entry["category_id"]], False, 0, entry["segmentation"])
            for entry in entries
        ]
        try:
            return paint(regions, image.height, image.width, "annotation_order")
        except InputError as error:
            raise InputError(f"{self.annotations.path}, {error}") from error

    def _check_outlined(self, entries, name):
        outlined = {entry["category_id"] for entry in entries if entry["segmentation"]}
        boxed = {entry["category_id"] for entry in entries} - outlined
        if boxed:
            names = listed(repr(self.annotations.categories[number]) for number in sorted(boxed))
            raise InputError(
                f"{self.annotations.path}, image {name}: {names} has boxes without outlines only,"
                " and would be background: outline it, or remove all annotations of the image,"
                " which then keeps its pseudo label"
            )

    def _values_of(self, class_ids):
        """Class ids by category, of the categories that are in use."""
        entries = (e for entries in self.annotations.of_image.values() for e in entries)
        used = {entry["category_id"] for entry in entries}
        names = {number: self.annotations.categories[number] for number in sorted(used)}
        unknown = [name for name in names.values() if name not in class_ids]
        if unknown:
            raise InputError(
                f"{self.annotations.path}: the category {listed(map(repr, unknown))} is no class of"
                f" the data set ({listed(class_ids)}): rename it, or remove its annotations"
            )
        return {number: class_ids[name] for number, name in names.items()}


def _check_size(shape, record, what):
    if tuple(shape) != (record.height, record.width):
        raise InputError(
            f"{what} is {shape[1]}x{shape[0]}, but the photograph, turned upright,"
            f" {record.width}x{record.height}: correct the photograph that is trained on"
        )

"""A folder of photographs for each class, as many collections come: PHOTOS/cat/*.jpg."""

import filecmp
import hashlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsss.configuration.data_sections import Folder
from wsss.datasets.class_names import check_class_names, check_single_labels, is_no_class
from wsss.datasets.index import check_id
from wsss.datasets.labels import LabelTable
from wsss.errors import InputError, listed
from wsss.storage.image_folders import ImageFiles, list_images

FOLDERS = "folders"  # instead of the name of a CSV
DEEPER = "put them into the folder of their class"


class ClassFolders(NamedTuple):
    """Labels by image id, the photographs by id (paths below the root), and notes."""

    table: LabelTable
    files: dict[str, str]
    notes: tuple[str, ...]


class _Place(NamedTuple):
    """A folder of photographs below the root: `name`, of a class or none, and what is in it."""

    name: str | None
    path: PurePosixPath
    found: ImageFiles


def read_class_folders(folder: Folder, root: Path) -> ClassFolders:
    """Labels from the folders that photographs lie in; one in two folders has two labels.

    The folders of the classes lie in `folder.images`, or in the root where that holds no folders
    of photographs. Photographs beside them are labelled by no folder. A folder `background` or
    `none` has the negatives.

    Raises:
        InputError: no such folder, a folder that is no class, or two photographs of one name.
    """
    places, base = _places(folder, root)
    _check_labelled(places, root / base)
    classes = [place.name for place in places if place.name and not is_no_class(place.name)]
    check_class_names(str(root / base), dict.fromkeys(classes, ""))
    check_single_labels(str(root / base), dict.fromkeys(classes, ""))
    files, labels = {}, {}
    for place in places:
        for path in place.found.images:
            image_id = check_id(path.stem, str(path.parent))
            file = str(place.path / path.name)
            _check_same(root, files.setdefault(image_id, file), file)
            if place.name:
                more = () if is_no_class(place.name) else (place.name,)
                labels[image_id] = (*labels.get(image_id, ()), *more)
    notes = [
        line for p in places for line in p.found.left_out(root / p.path, DEEPER) if p.found.images
    ]
    empty = [place.name for place in places if place.name and not place.found.images]
    if empty:
        notes.append(f"{root / base}: folders without photographs of their own: {listed(empty)}")
    used = {name for names in labels.values() for name in names}
    table = LabelTable(tuple(name for name in classes if name in used), labels)
    return ClassFolders(table, {i: files[i] for i in sorted(files)}, tuple(notes))


def digest_of_class_folders(folder: Folder, root: Path) -> str:
    """SHA-256 over the paths of the labelled photographs, which say what their labels are."""
    places, _ = _places(folder, root)
    paths = (f"{p.path / file.name}\n" for p in places if p.name for file in p.found.images)
    return hashlib.sha256("".join(paths).encode(errors="surrogateescape")).hexdigest()


def _places(folder, root):
    """The folders of the classes and those of photographs beside them, and where the first lie."""
    images, base = PurePosixPath(folder.images), PurePosixPath()
    others = [root / path for path in (folder.images, folder.masks) if path]
    if (root / images).is_dir():
        found = list_images(root / images, others[1:])
        if found.nested:
            base = images
        places = [_Place(None, images, found._replace(nested=[]))]
    else:
        places = []
    if base != images:
        beside = list_images(root, others)
        places.append(_Place(None, base, beside._replace(nested=[])))
    places += [
        _Place(path.name, base / path.name, list_images(path))
        for path in sorted((root / base).iterdir())
        if path.is_dir() and path.name[0] != "." and path not in others
    ]
    return places, base


def _check_labelled(places, base):
    labelled = [place for place in places if place.name]
    if not any(place.found.images for place in labelled):
        deeper = [path for place in labelled for path in place.found.nested]
        raise InputError(
            f"dataset.folder.labels: folders: {base} has no folders with photographs in them: name"
            " the folder around those of the classes as dataset.root"
            + (f" ({deeper[0]} lies deeper)" if deeper else "")
        )


def _check_same(root, one, other):
    if one != other and not filecmp.cmp(root / one, root / other, shallow=False):
        raise InputError(
            f"{root}: {one} and {other} are different photographs of one name: rename one, or move"
            " what is no class elsewhere"
        )

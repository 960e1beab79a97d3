"""Data sets in COCO's layout: folders of images, `instances_*.json`, masks painted from these.

Image-level labels are the categories of which an image has at least one annotation, crowds
included: a crowd of people shows people. It is how the 82,081 and 40,137 labelled images of COCO
2014 are counted, and how multi-label classification on COCO is trained.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsss.configuration.data_sections import Coco, Dataset
from wsss.datasets.coco.annotations import Annotations, read_annotations
from wsss.datasets.coco.masks import (
    check_outlines,
    digest_of_annotations,
    folder_of_masks,
    make_masks,
)
from wsss.datasets.index import DatasetIndex, ImageRecord, check_id, measured, values_beside
from wsss.datasets.labels import configured_file, read_lines
from wsss.errors import InputError, listed
from wsss.storage.image_folders import list_images
from wsss.storage.images import is_turned


def build(dataset: Dataset, root: Path, processes: int, paint: bool) -> DatasetIndex:
    """Index the images to train and to validate on, as `dataset` describes them.

    Masks are painted on `processes` processes, or found as an earlier run left them; without
    `paint` the index names them, whether or not they are there. Images come by ascending id, or in
    the order of a list. Training images without annotations are left out; validation images
    without annotations too with `unannotated: drop`, else they count as all background. With a
    subset of classes, so are images that hold none of them.

    Raises:
        InputError: the file or key that is wrong.
    """
    _check_lists(dataset.coco)
    make = partial(make_masks, processes=processes) if paint else None
    # One file after the other: both at once would take twice the memory.
    parts = [
        _annotated(dataset, root, file, splits, make)
        for file, splits in _splits_by_file(dataset.coco).items()
    ]
    _check_categories(parts)
    index = parts[0].index
    return replace(
        index,
        records=tuple(r for part in parts for r in part.index.records),
        notes=tuple(note for part in parts for note in part.index.notes),
    )


class _Part(NamedTuple):
    """What an annotation file contributes: its images, and its categories by id."""

    index: DatasetIndex
    categories: dict[int, str]


def _annotated(
    dataset: Dataset, root: Path, file: str, splits: list[str], make: Callable | None
) -> _Part:
    """The part of one annotation file, which is let go of at the end; `make` makes its masks."""
    coco = dataset.coco
    remedy = "put it there, or name another"
    path = configured_file(root / file, f"dataset.coco.{splits[0]}_annotations", remedy)
    annotations = read_annotations(path)
    classes, values = _chosen_classes(dataset.classes, annotations)
    notes: list[str] = []
    records = [
        record
        for split in splits
        for record in _split_records(root, coco, split, annotations, classes, notes)
    ]
    others = values_beside(values, len(annotations.categories))
    index = measured(DatasetIndex(root, classes, values, tuple(records), others, tuple(notes)))
    _check_sizes(index, annotations)
    _check_objects(index, annotations)
    digest = digest_of_annotations(path, root / coco.masks_folder)
    folder = folder_of_masks(coco, path, digest)
    if make:
        make(annotations, digest, root / folder, coco.masks)
    else:
        check_outlines(annotations)
    masked = [replace(r, mask=str(folder / f"{r.image_id}.png")) for r in index.records]
    return _Part(replace(index, records=tuple(masked)), annotations.categories)


def annotation_files(coco: Coco) -> list[str]:
    """Annotation files, below the root of the data set; one, where both splits have the same."""
    return list(_splits_by_file(coco))


def _splits_by_file(coco):
    """Splits by annotation file, which both may name: it is then read once."""
    if coco.train_annotations == coco.val_annotations:
        return {coco.train_annotations: ["train", "val"]}
    return {coco.train_annotations: ["train"], coco.val_annotations: ["val"]}


def _check_lists(coco):
    if coco.train_annotations != coco.val_annotations:
        return
    for split, path in {"train": coco.train_list, "val": coco.val_list}.items():
        if not path:
            raise InputError(
                f"dataset.coco.{split}_list is not set, but train and val name the same"
                " annotations: name lists of their images"
            )


def _check_categories(parts):
    one, other = parts[0].categories, parts[-1].categories
    if one != other:
        different = sorted({name for _, name in one.items() ^ other.items()})
        raise InputError(
            "dataset.coco: train_annotations and val_annotations have different categories or ids"
            f" ({listed(different)}): name files of one data set"
        )


def _chosen_classes(names, annotations):
    """Chosen classes, and the value that each has in the masks."""
    known = tuple(annotations.categories.values())
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise InputError(f"dataset.classes: {annotations.path} has no category {listed(unknown)}")
    chosen = names or known
    return chosen, tuple(known.index(name) + 1 for name in chosen)


def _split_records(
    root: Path,
    coco: Coco,
    split: str,
    annotations: Annotations,
    classes: tuple[str, ...],
    notes: list[str],
) -> list[ImageRecord]:
    """Records of a split, not yet measured and without masks; `notes` gets what is left out."""
    folder, path = {
        "train": (coco.train_images, coco.train_list),
        "val": (coco.val_images, coco.val_list),
    }[split]
    images = _listed_images(root, path, split, annotations) if path else annotations.images
    empty = [image.image_id for image in images if not annotations.names_in(image)]
    subset = len(classes) < len(annotations.categories)
    keep = split == "val" and coco.unannotated == "keep" and not subset
    if empty:
        told = "kept as all background" if keep else "left out"
        notes.append(f"{split}: {len(empty)} images without annotations {told}: {listed(empty)}")
    records, others = [], []
    for image in images:
        present = annotations.names_in(image)
        labels = tuple(name for name in classes if name in present)
        if labels or (keep and not present):
            file = str(PurePosixPath(folder) / image.file_name)
            records.append(ImageRecord(image.image_id, split, True, file, None, 0, 0, labels))
        elif present:
            others.append(image.image_id)
    if others:
        notes.append(f"{split}: {len(others)} images of other classes left out: {listed(others)}")
    return records


def _listed_images(root, path, split, annotations):
    """Images of a list of stems, file names or COCO's numbers, one a line."""
    key = f"dataset.coco.{split}_list"
    file = configured_file(root / path, key, "put the list there, name another, or set null")
    by_name = {str(image.number): image for image in annotations.images}
    by_name |= {image.file_name: image for image in annotations.images}
    by_name |= {image.image_id: image for image in annotations.images}
    images = {}
    for number, line in read_lines(file):
        image = by_name.get(line) or by_name.get(line.lstrip("0"))
        if image is None:
            raise InputError(f"{file}, line {number}: {line!r} is no image of {annotations.path}")
        if image.image_id in images:
            raise InputError(f"{file}, line {number}: {line!r} is listed twice: remove one")
        images[image.image_id] = image
    if not images:
        raise InputError(f"{key}: {file} names no image")
    return list(images.values())


def _check_sizes(index, annotations):
    """Outlines fit only photographs of the size that the annotations say."""
    sizes = {image.image_id: f"{image.width}x{image.height}" for image in annotations.images}
    other = [
        record
        for record in index.records
        if f"{record.width}x{record.height}" != sizes[record.image_id]
    ]
    if not other:
        return
    turned = any(is_turned(index.root / record.image) for record in other[:3])
    remedy = (
        "they are turned upright, as their EXIF orientation says: annotate the upright photographs,"
        " or take the orientation away (exiftool -Orientation= FILES) where they were annotated as"
        " stored"
    )
    found = (f"{r.image} is {r.width}x{r.height}, not {sizes[r.image_id]}" for r in other)
    raise InputError(
        f"{annotations.path}: images are of another size than it says: {listed([*found], 3)}:"
        f" {remedy if turned else 'use the photographs that were annotated'}"
    )


def _check_objects(index, annotations):
    """Ground truth needs single objects: crowds are painted as 255 or not at all."""
    images = {image.image_id: image for image in annotations.images}
    labelled = [record for record in index.records if record.labels]
    lacking = [
        record.image_id
        for record in labelled
        if annotations.outlined_in(images[record.image_id]).isdisjoint(record.labels)
    ]
    if 2 * len(lacking) > len(labelled):
        raise InputError(
            f"{annotations.path}: in {len(lacking)} of {len(labelled)} images all is outlined by"
            f" crowds (iscrowd 1) or not at all: {listed(lacking, 3)}; set iscrowd to 0 where an"
            " outline is that of one object"
        )


def records_to_predict(dataset: Dataset, root: Path) -> tuple[list[ImageRecord], tuple[str, ...]]:
    """Records of the images that are only predicted: all of a folder, or those of a list; notes.

    Raises:
        InputError: the file or key that is wrong.
    """
    coco = dataset.coco
    if not coco.test_images:
        if coco.test_list:
            raise InputError("dataset.coco.test_list: test_images is not set: name their folder")
        return [], ()
    folder = root / coco.test_images
    if not folder.is_dir():
        raise InputError(f"dataset.coco.test_images: the folder {folder} does not exist")
    found = list_images(folder)
    names = [path.name for path in found.images]
    by_stem = {check_id(PurePosixPath(name).stem, str(folder)): name for name in sorted(names)}
    if len(by_stem) < len(names):
        twice = sorted(set(names) - set(by_stem.values()))
        raise InputError(f"{folder}: another file has the id of {listed(twice)}: rename one")
    if coco.test_list:
        by_stem = _listed_files(root / coco.test_list, folder, by_stem)
    paths = {stem: str(PurePosixPath(coco.test_images) / n) for stem, n in by_stem.items()}
    records = [ImageRecord(i, "test", False, path, None, 0, 0, ()) for i, path in paths.items()]
    return records, tuple(found.left_out(folder, "move them up"))


def _listed_files(path, folder, by_stem):
    file = configured_file(path, "dataset.coco.test_list", "put it there, or set null")
    stems = {name: stem for stem, name in by_stem.items()} | {stem: stem for stem in by_stem}
    unknown = [line for _, line in read_lines(file) if line not in stems]
    if unknown:
        raise InputError(f"{file}: {folder} has no image {listed(unknown)}: remove the lines")
    return {stems[line]: by_stem[stems[line]] for _, line in read_lines(file)}

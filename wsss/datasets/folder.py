"""One's own photographs: a folder of images, a CSV of labels, masks if there are any."""

from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsss.configuration.data_sections import Dataset
from wsss.datasets.class_folders import FOLDERS, read_class_folders
from wsss.datasets.index import (
    TEST,
    DatasetIndex,
    ImageRecord,
    check_id,
    measured,
    values_beside,
)
from wsss.datasets.labels import LabelTable, configured_file, read_label_csv, read_lines
from wsss.datasets.near_names import match_names, told_missing, told_near
from wsss.errors import InputError, listed
from wsss.storage.image_folders import list_images, refuse_none

DEEPER = "move them up, or set dataset.folder.labels: folders if each of these folders is a class"


def build(dataset: Dataset, root: Path) -> DatasetIndex:
    """Index the images to train and to validate on, as `dataset` describes them.

    Splits come from the CSV's column `split` or from `folder.val_list` and `folder.test_list`;
    all else trains. Images without a row in the CSV, and those of other classes than the chosen
    ones, are predicted only: split test. A row without labels is a negative.
    Mask values are 0 for background, 1..C in class order, 255 for ignore. Class order is the
    order of the columns; where the CSV or folders name the labels, it is that of `dataset.classes`
    or else alphabetical.

    Raises:
        InputError: the file or key that is wrong.
    """
    photographs = _photographs(dataset, root)
    records = [record for record in photographs.records if record.split != TEST]
    _check_masks(root, dataset.folder, records)
    table, classes, values = photographs.table, photographs.classes, photographs.values
    known = len(table.classes) if table.class_columns else len(classes)
    others = values_beside(values, known)
    return measured(DatasetIndex(root, classes, values, tuple(records), others, photographs.notes))


def records_to_predict(dataset: Dataset, root: Path) -> tuple[list[ImageRecord], tuple[str, ...]]:
    """Records of the images that are only predicted, whatever they show, and notes."""
    photographs = _photographs(dataset, root)
    return [r for r in photographs.records if r.split == TEST], photographs.notes


class _Photographs(NamedTuple):
    """All images of the folder, not yet measured, and what they were found by."""

    table: LabelTable
    classes: tuple[str, ...]
    values: tuple[int, ...]
    records: list[ImageRecord]
    notes: tuple[str, ...]


class _Labelled(NamedTuple):
    """Photographs with what is said of them.

    `files` are paths below the root by id, `rows` labels by id, `others` paths that are left out,
    with the reason; `source` is where the labels are from.
    """

    source: Path
    table: LabelTable
    files: dict[str, str]
    others: dict[str, str]
    rows: dict[str, tuple[str, ...]]
    row_splits: dict[str, str]
    notes: list[str]


def _photographs(dataset, root):
    folder = dataset.folder
    labelled = (_of_class_folders if folder.labels == FOLDERS else _of_csv)(folder, root)
    notes = labelled.notes
    splits = _splits(root, folder, labelled)
    unlabelled = [i for i in splits if i not in labelled.rows]
    if unlabelled:
        where = "in no folder of a class" if folder.labels == FOLDERS else f"not in {folder.labels}"
        notes.append(f"{where}, so predicted only: {_counted(unlabelled)}")
    classes, values = _classes(dataset.classes, labelled)
    labels = {i: tuple(c for c in classes if c in row) for i, row in labelled.rows.items()}
    strange = [i for i, names in labels.items() if not names and labelled.rows[i]]
    if strange:
        notes.append(f"none of dataset.classes, so predicted only: {_counted(strange)}")
        splits |= dict.fromkeys(strange, TEST)
    masks = _masks(root, folder, splits, notes)
    records = [
        _record(image_id, split, labelled.files[image_id], masks.get(image_id), labels)
        for image_id, split in splits.items()
    ]
    return _Photographs(labelled.table, classes, values, records, tuple(notes))


def _counted(names):
    return f"{len(names)} ({listed(names)})"


def _of_class_folders(folder, root):
    found = read_class_folders(folder, root)
    rows = found.table.labels
    return _Labelled(root, found.table, found.files, {}, rows, {}, list(found.notes))


def _of_csv(folder, root):
    csv_path = root / folder.labels
    remedy = "put it there, name your own, or set folders if there is a folder for each class"
    table = read_label_csv(configured_file(csv_path, "dataset.folder.labels", remedy))
    found = _list_images(folder, root)
    files = _by_id(found.images, root / folder.images, folder.images)
    others = {
        str(PurePosixPath(folder.images) / path.relative_to(root / folder.images)): why
        for paths, why in ((found.unreadable, "cannot be read"), (found.nested, "lies deeper"))
        for path in paths
    }
    matches = match_names(table.labels, files)
    if matches.missing:
        told = told_missing(matches.missing, files, others, table.places)
        raise InputError(
            f"{csv_path}: no image for {len(matches.missing)} of {len(table.labels)} rows: {told}:"
            f" correct these names, or put the photographs into {root / folder.images}"
        )
    _check_distinct(matches.ids, csv_path)
    notes = [*table.notes, *found.left_out(root / folder.images, DEEPER)]
    if matches.near:
        notes.append(f"{csv_path}: taken for nearly the same name: {told_near(matches, files)}")
    rows = {matches.ids[name]: row for name, row in table.labels.items()}
    splits = {matches.ids[name]: split for name, split in table.splits.items()}
    return _Labelled(csv_path, table, files, others, rows, splits, notes)


def _list_images(folder, root):
    images = root / folder.images
    if not images.is_dir():
        raise InputError(f"dataset.folder.images: the folder {images} does not exist")
    found = list_images(images, [root / folder.masks] if folder.masks else [])
    refuse_none(images, found, DEEPER)
    return found


def _by_id(paths, folder, name):
    """Paths below the root by image id, sorted by id."""
    files = {}
    for path in paths:
        image_id = check_id(path.stem, str(folder))
        if image_id in files:
            other = PurePosixPath(files[image_id]).name
            raise InputError(f"{folder}: {other} and {path.name} have the same id: rename one")
        files[image_id] = str(PurePosixPath(name) / path.name)
    return files


def _check_distinct(ids, csv_path):
    """Two names of one image: with the extension and without."""
    names = {}
    for name, image_id in ids.items():
        other = names.setdefault(image_id, name)
        if other != name:
            raise InputError(
                f"{csv_path}: an image has a row with its extension and one without ({other},"
                f" {name}): write the same name in both"
            )


def _splits(root, folder, labelled):
    lists = {"val": folder.val_list, "test": folder.test_list}
    if labelled.row_splits and any(lists.values()):
        raise InputError(
            f"{labelled.source} has a column split, and dataset.folder.val_list or test_list is"
            " set too: use one of the two"
        )
    splits = dict(labelled.row_splits)
    for split, path in lists.items():
        key = f"dataset.folder.{split}_list"
        for image_id in _listed_ids(root, path, key, labelled):
            if image_id in splits:
                raise InputError(f"{key}: {image_id} in {path} is listed twice: keep one line")
            splits[image_id] = split
    rows = labelled.rows
    return {i: splits.get(i, "train" if i in rows else TEST) for i in labelled.files}


def _listed_ids(root, path, key, labelled):
    """The ids of the images that a list names, one for each line."""
    if not path:
        return []
    remedy = "put the list there, name another, or set null"
    lines = read_lines(configured_file(root / path, key, remedy))
    names = [PurePosixPath(line.replace("\\", "/")).name for _, line in lines]
    matches = match_names(names, labelled.files)
    if matches.missing:
        places = {name: f"line {n}" for name, (n, _) in zip(names, lines, strict=True)}
        told = told_missing(matches.missing, labelled.files, labelled.others, places)
        raise InputError(f"{key}: {path} names what is no image: {told}: correct these names")
    if matches.near:
        near = told_near(matches, labelled.files)
        labelled.notes.append(f"{path}: taken for nearly the same name: {near}")
    return [matches.ids[name] for name in names]


def _classes(chosen, labelled):
    """Chosen classes and the value that each has in the masks."""
    table = labelled.table
    chosen = chosen or table.classes
    unknown = [name for name in chosen if name not in table.classes]
    if unknown:
        raise InputError(
            f"dataset.classes: {labelled.source} knows no {listed(unknown)}, but"
            f" {listed(table.classes, 20) or 'no class at all'}"
        )
    if not any(labelled.rows.values()):
        raise InputError(f"{labelled.source}: no photograph has a label: say what they show")
    order = table.classes if table.class_columns else chosen
    return chosen, tuple(order.index(name) + 1 for name in chosen)


def _masks(root, folder, image_ids, notes):
    """Paths of the masks below the root by image id; masks are optional one by one."""
    if not folder.masks or not (root / folder.masks).is_dir():
        return {}
    paths = sorted((root / folder.masks).iterdir())
    # Sorted so, a.png goes before a.PNG.
    files = {path.stem: path.name for path in paths if path.suffix.lower() == ".png"}
    matches = match_names(image_ids, files)
    if matches.near:
        near = told_near(matches, files)
        notes.append(f"{root / folder.masks}: taken for nearly the same name: {near}")
    return {i: str(PurePosixPath(folder.masks) / files[m]) for i, m in matches.ids.items()}


def _record(image_id, split, image, mask, labels):
    return ImageRecord(
        image_id=image_id,
        split=split,
        scored=mask is not None and split != TEST,
        image=image,
        mask=mask,
        width=0,
        height=0,
        labels=() if split == TEST else labels.get(image_id, ()),
    )


def _check_masks(root, folder, records):
    """Masks are optional one by one; a folder without any was meant to be another one."""
    if not folder.masks:
        return
    masks = root / folder.masks
    remedy = "name the folder of <image id>.png, or set null if there is no ground truth"
    if not masks.is_dir():
        raise InputError(f"dataset.folder.masks: the folder {masks} does not exist: {remedy}")
    if not any(record.mask for record in records):
        raise InputError(
            f"dataset.folder.masks: {masks} has a mask for none of the images: {remedy}"
        )

"""One's own photographs: a folder of images, a CSV of labels, masks if there are any."""

import logging
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from wsss.configuration.sections import Dataset, Folder
from wsss.datasets.index import (
    TEST,
    DatasetIndex,
    ImageRecord,
    check_id,
    measured,
    values_beside,
)
from wsss.datasets.labels import LabelTable, configured_file, read_label_csv, read_lines
from wsss.errors import InputError, listed
from wsss.storage.images import images_in

log = logging.getLogger(__name__)


def build(dataset: Dataset, root: Path) -> DatasetIndex:
    """Index the images to train and to validate on, as `dataset` describes them.

    Splits come from the CSV's column `split` or from `folder.val_list` and `folder.test_list`;
    all else trains. Images without a row in the CSV are predicted only: split test.
    Mask values are 0 for background, 1..C in class order, 255 for ignore. Class order is the
    order of the columns; where the CSV lists names in `labels`, it is that of `dataset.classes`
    or else alphabetical.

    Raises:
        InputError: the file or key that is wrong.
    """
    folder = dataset.folder
    photographs = _photographs(folder, root)
    _check_labelled(photographs, root / folder.labels)
    _tell_unlabelled(photographs, folder.labels)
    classes, values = _classes(dataset.classes, photographs.table, root / folder.labels)
    records = []
    for image_id, split in photographs.splits.items():
        present = photographs.rows.get(image_id)
        labels = tuple(c for c in classes if c in (present or ()))
        if split == TEST or (present and not labels):
            continue  # it holds other classes only
        records.append(_record(root, folder, image_id, photographs, labels))
    _check_masks(root, folder, records)
    known = len(photographs.table.classes) if photographs.table.class_columns else len(classes)
    others = values_beside(values, known)
    return measured(DatasetIndex(root, classes, values, tuple(records), others))


def records_to_predict(dataset: Dataset, root: Path) -> list[ImageRecord]:
    """Records of the images that are only predicted, whatever they show."""
    photographs = _photographs(dataset.folder, root)
    return [
        _record(root, dataset.folder, image_id, photographs, ())
        for image_id, split in photographs.splits.items()
        if split == TEST
    ]


class _Photographs(NamedTuple):
    """The table of labels; file names, rows of the table and splits by image id."""

    table: LabelTable
    files: dict[str, str]
    rows: dict[str, tuple[str, ...]]
    splits: dict[str, str]


def _photographs(folder: Folder, root: Path) -> _Photographs:
    csv_path = root / folder.labels
    remedy = "put it there, or name your own file"
    table = read_label_csv(configured_file(csv_path, "dataset.folder.labels", remedy))
    files = _image_files(root / folder.images)
    rows = _by_image(table.labels, files, csv_path)
    splits = _splits(root, folder, table, rows, files, csv_path)
    return _Photographs(table, files, rows, splits)


def _image_files(folder):
    """File names by image id, sorted by id."""
    if not folder.is_dir():
        raise InputError(f"dataset.folder.images: the folder {folder} does not exist")
    files = {}
    for path in images_in(folder):
        image_id = check_id(path.stem, str(folder))
        if image_id in files:
            raise InputError(
                f"{folder}: {files[image_id]} and {path.name} have the same id: rename one"
            )
        files[image_id] = path.name
    return files


def _image_id(name, files):
    """The id that a row or list means, given with or without the extension; None if unknown."""
    if name in files:
        return name
    path = PurePosixPath(name)
    return path.stem if files.get(path.stem) == name else None


def _by_image(labels, files, csv_path):
    """Rows keyed by id without extension."""
    unknown = [name for name in labels if _image_id(name, files) is None]
    if unknown:
        raise InputError(f"{csv_path}: no image for {listed(unknown)}: add it or drop the row")
    rows = {_image_id(name, files): row for name, row in labels.items()}
    if len(rows) < len(labels):
        raise InputError(
            f"{csv_path}: an image has a row with its extension and one without: keep one"
        )
    return rows


def _splits(root, folder, table, rows, files, csv_path):
    lists = {"val": folder.val_list, "test": folder.test_list}
    if table.splits and any(lists.values()):
        raise InputError(
            f"{csv_path} has a column split, and dataset.folder.val_list or test_list is set too:"
            " use one of the two"
        )
    splits = {_image_id(name, files): split for name, split in table.splits.items()}
    for split, path in lists.items():
        for name in _listed_names(root, path, f"dataset.folder.{split}_list"):
            image_id = _image_id(name, files)
            if image_id is None or image_id in splits:
                problem = "has no image" if image_id is None else "is listed twice"
                raise InputError(
                    f"dataset.folder.{split}_list: {name} in {path} {problem}: remove that line"
                )
            splits[image_id] = split
    return {i: splits.get(i, "train" if i in rows else TEST) for i in files}


def _listed_names(root, path, key):
    if not path:
        return []
    remedy = "put the list there, name another, or set null"
    return [name for _, name in read_lines(configured_file(root / path, key, remedy))]


def _check_labelled(photographs, csv_path):
    rows = photographs.rows
    empty = [i for i, split in photographs.splits.items() if split == "train" and not rows.get(i)]
    if empty:
        raise InputError(
            f"{csv_path}: training images without any label: {listed(empty)}; label them, drop"
            " their rows, or give them the split test"
        )


def _tell_unlabelled(photographs, csv_name):
    tests = [image_id for image_id, split in photographs.splits.items() if split == TEST]
    unlabelled = [image_id for image_id in tests if image_id not in photographs.rows]
    if unlabelled:
        log.warning("not in %s, so predicted only: %s", csv_name, listed(unlabelled))


def _classes(chosen, table, csv_path):
    """Chosen classes and the value that each has in the masks."""
    chosen = chosen or table.classes
    unknown = [name for name in chosen if name not in table.classes]
    if unknown:
        raise InputError(f"dataset.classes: {csv_path} knows no {listed(unknown)}")
    order = table.classes if table.class_columns else chosen
    return chosen, tuple(order.index(name) + 1 for name in chosen)


def _record(root, folder, image_id, photographs, labels):
    split, mask = photographs.splits[image_id], None
    if folder.masks:
        mask = str(PurePosixPath(folder.masks) / f"{image_id}.png")
        mask = mask if (root / mask).is_file() else None
    return ImageRecord(
        image_id=image_id,
        split=split,
        scored=mask is not None and split != TEST,
        image=str(PurePosixPath(folder.images) / photographs.files[image_id]),
        mask=mask,
        width=0,
        height=0,
        labels=labels,
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

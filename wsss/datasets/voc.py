"""Data sets in the layout of PASCAL VOC's development kit."""

import re
from pathlib import Path, PurePosixPath

from wsss.configuration.data_sections import Dataset, Voc
from wsss.configuration.paths import expanded_path
from wsss.datasets.index import (
    DatasetIndex,
    ImageRecord,
    check_id,
    measured,
    values_beside,
)
from wsss.datasets.labels import (
    OWN_CLASSES,
    LabelTable,
    configured_file,
    read_annotation,
    read_cls_labels,
    read_label_csv,
    read_lines,
)
from wsss.errors import InputError, listed

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
LISTS = ("train_list", "val_list", "test_list", "scored_list")
LIST_PATH = re.compile(r"/?(?:[^\s/]+/)*JPEGImages/[^\s/]+\.jpe?g", re.IGNORECASE)


def build(dataset: Dataset, root: Path) -> DatasetIndex:
    """Index the images to train and to validate on, as `dataset` describes them.

    Masks come from the folder `voc.masks`, whatever path a list may add to an id. A train image
    is scored if `voc.scored_list` holds it or, without that list, if it has a mask; a list that
    names none of them is refused. A train image whose labels are none at all is a negative; one
    that shows other classes than the chosen ones is left out.
    Lists lie below the devkit and the label file below the root, unless their path is absolute;
    $VARIABLES in it are expanded here, so that moved files are no other setting. A list names as
    many images as `voc.counts` says, or any number where that is None.

    Raises:
        InputError: the file or key that is wrong.
    """
    voc = dataset.voc
    devkit = root / voc.devkit
    classes = _chosen_classes(dataset.classes)
    ids = {split: _listed_ids(devkit, voc, f"{split}_list") for split in ("train", "val")}
    if not ids["train"]:
        raise InputError("dataset.voc.train_list names no image")
    table = _labels(root, devkit, voc.labels, ids)
    labels, others = table.labels, []
    _check_labels(ids, labels, subset=set(classes) != set(CLASSES), where=voc.labels)
    scored = _scored_ids(devkit, voc, ids["train"])
    records = []
    for split, split_ids in ids.items():
        for image_id in split_ids:
            present = labels.get(image_id)
            kept = tuple(name for name in classes if name in (present or ()))
            negative = split == "train" and not present
            if kept or negative or len(classes) == len(CLASSES):  # else it shows others only
                records.append(_record(root, voc, image_id, split, kept, scored))
            else:
                others.append(image_id)
    _check_masks(records, voc, scored)
    values = tuple(CLASSES.index(name) + 1 for name in classes)
    notes = list(table.notes)
    if others:
        notes.append(f"{len(others)} images of other classes left out: {listed(others)}")
    beside = values_beside(values, len(CLASSES))
    return measured(DatasetIndex(root, classes, values, tuple(records), beside, tuple(notes)))


def records_to_predict(dataset: Dataset, root: Path) -> tuple[list[ImageRecord], tuple[str, ...]]:
    """Records of the images that are only predicted, those of `voc.test_list`; without notes."""
    voc = dataset.voc
    ids = _listed_ids(root / voc.devkit, voc, "test_list")
    return [_record(root, voc, image_id, "test", (), None) for image_id in ids], ()


def listed_files(root: Path, voc: Voc) -> list[Path]:
    """Paths of the lists and the label file that the section names."""
    devkit = root / voc.devkit
    files = [_list_file(devkit, voc, key) for key in LISTS if getattr(voc, key)]
    labels = [] if voc.labels == "annotations" else [_label_file(root, voc.labels)]
    return files + labels


def _list_file(devkit, voc, key):
    return devkit / expanded_path(getattr(voc, key), f"dataset.voc.{key}")


def _label_file(root, source):
    return root / expanded_path(source, "dataset.voc.labels")


def read_list(path: Path) -> list[str]:
    """Image ids of a list: bare, or as `/JPEGImages/<id>.jpg`, each maybe with a mask path."""
    return [_id_of_line(line.split(), f"{path}, line {n}") for n, line in read_lines(path)]


def _id_of_line(words, where):
    first, rest = words[0], words[1:]
    if len(rest) > 1 or (rest and "/" not in rest[0]):
        raise InputError(f"{where}: {' '.join(words)!r} is more than an id and a mask path")
    is_path = LIST_PATH.fullmatch(first) and ".." not in first
    return check_id(PurePosixPath(first).stem if is_path else first, where)


def _listed_ids(devkit, voc, key):
    if not getattr(voc, key):
        return []
    remedy = "put the list there or name another"
    path = configured_file(_list_file(devkit, voc, key), f"dataset.voc.{key}", remedy)
    ids = read_list(path)
    split = key.removesuffix("_list")
    expected = getattr(voc.counts, split)
    if expected is not None and len(ids) != expected:
        raise InputError(
            f"dataset.voc.{key}: {path} names {len(ids)} images, but dataset.voc.counts.{split} is"
            f" {expected}: name the right list, or set the count to null"
        )
    return ids


def _scored_ids(devkit, voc, train_ids):
    """The set of training ids that are scored; None where that list is not set."""
    if not voc.scored_list:
        return None
    ids = set(_listed_ids(devkit, voc, "scored_list"))
    if ids.isdisjoint(train_ids):
        found = "no image of dataset.voc.train_list" if ids else "no image"
        raise InputError(
            f"dataset.voc.scored_list: {_list_file(devkit, voc, 'scored_list')} names {found}: name"
            " a list of training images, or set null to score all that have a mask"
        )
    return ids


def _chosen_classes(names):
    unknown = [name for name in names or () if name not in CLASSES]
    if unknown:
        raise InputError(f"dataset.classes: {listed(unknown)} is not a class of VOC: {OWN_CLASSES}")
    return names or CLASSES


def _labels(root, devkit, source, ids):
    """The table of labels, in VOC's class order."""
    if source == "annotations":
        folder = devkit / "Annotations"
        if not folder.is_dir():
            raise InputError(
                f"dataset.voc.labels: the folder {folder} does not exist: put VOC's annotations"
                " there, or name a .csv or .npy file below dataset.root"
            )
        files = {i: folder / f"{i}.xml" for split in ids.values() for i in split}
        found = {i: read_annotation(f, CLASSES) for i, f in files.items() if f.is_file()}
        return LabelTable(CLASSES, found)
    path = _label_file(root, source)
    if path.suffix not in (".csv", ".npy"):
        raise InputError(
            f"dataset.voc.labels: {source} is neither a .csv, an .npy nor 'annotations'"
        )
    remedy = "put it there, or set dataset.voc.labels: annotations to take labels from VOC's XML"
    configured_file(path, "dataset.voc.labels", remedy)
    if path.suffix == ".npy":
        return read_cls_labels(path, CLASSES)
    table = read_label_csv(path)
    unknown = [name for name in table.classes if name not in CLASSES]
    if unknown:
        raise InputError(
            f"{path}: {listed(unknown)} is not a class of VOC: correct the name or leave it out;"
            f" {OWN_CLASSES}"
        )
    return table


def _check_labels(ids, labels, subset, where):
    """Training needs to know them; with a subset of classes, choosing val images does so too."""
    needed = ids["train"] + (ids["val"] if subset else [])
    missing = [image_id for image_id in needed if image_id not in labels]
    if missing:
        raise InputError(
            f"dataset.voc.labels: {where} has no labels for {listed(missing)}: add them or take the"
            " images off the list"
        )


def _record(root, voc, image_id, split, labels, scored):
    devkit = PurePosixPath(voc.devkit)
    mask = str(devkit / voc.masks / f"{image_id}.png") if voc.masks else None
    has_mask = mask is not None and (root / mask).is_file()
    counts = split == "val" or (split == "train" and (scored is None or image_id in scored))
    return ImageRecord(
        image_id=image_id,
        split=split,
        scored=has_mask and counts,
        image=str(devkit / "JPEGImages" / f"{image_id}.jpg"),
        mask=mask if has_mask else None,
        width=0,
        height=0,
        labels=labels,
    )


def _check_masks(records, voc, scored):
    """Ground truth that the evaluation counts on must be there, unless masks are off altogether."""
    if not voc.masks:
        return
    needed = [
        record
        for record in records
        if record.split == "val" or (record.split == "train" and record.image_id in (scored or ()))
    ]
    missing = [record.image_id for record in needed if record.mask is None]
    if missing:
        raise InputError(
            f"dataset.voc.masks: {voc.masks} has no mask for {listed(missing)}: put them there"
            " or take the images off the list"
        )

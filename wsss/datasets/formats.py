"""Data sets by format: from the configuration's section `dataset` to an index of images."""

import logging
from dataclasses import replace
from pathlib import Path

from wsss.configuration.paths import expanded_path
from wsss.configuration.sections import Dataset
from wsss.datasets import folder, voc
from wsss.datasets.coco import records as coco
from wsss.datasets.coco.masks import digest_of_annotations
from wsss.datasets.index import DatasetIndex, measured, resolve_root
from wsss.errors import InputError, listed
from wsss.storage.files import sha256_of

log = logging.getLogger(__name__)


# By format: functions of (dataset, root) -> records without their sizes.
RECORDS_TO_PREDICT = {
    "voc": voc.records_to_predict,
    "coco": coco.records_to_predict,
    "folder": folder.records_to_predict,
}


def build_index(
    dataset: Dataset, root: str | Path | None = None, processes: int = 1, paint: bool = True
) -> DatasetIndex:
    """Index the images to train and to validate on.

    Args:
        dataset: what is indexed.
        root: stands in for its own.
        processes: how many paint COCO's masks, which are made on the way.
        paint: if not, COCO's index names masks that may not be there yet.

    Raises:
        InputError: the key or file to mend.
    """
    root = resolve_root(root or dataset.root, must_exist=dataset.format != "demo")
    index = _index_of_format(dataset, root, processes, paint)
    _check_training(index)
    return index


def _index_of_format(dataset, root, processes, paint):
    match dataset.format:
        case "voc":
            return voc.build(dataset, root)
        case "coco":
            return coco.build(dataset, root, processes, paint)
        case "folder":
            return folder.build(dataset, root)
        case "demo":
            # It brings its drawing packages along.
            from wsss.datasets.demo.build import build as build_demo

            return build_demo(dataset, root)


def with_test_images(index: DatasetIndex, dataset: Dataset) -> DatasetIndex:
    """The index with the images, too, that `dataset` only wants predicted.

    Raises:
        InputError: the key or file to mend, as for an image that is in another split.
    """
    find = RECORDS_TO_PREDICT.get(dataset.format)
    records = find(dataset, index.root) if find else ()
    if not records:
        return index
    found = measured(replace(index, records=tuple(records))).records
    return replace(index, records=(*index.records, *found))


def without_test_images(dataset: Dataset) -> Dataset:
    """The section as far as it counts for `build_index`.

    In a folder all images that are not to be predicted only are trained on: there it all counts.
    """
    counts = dataset.voc.counts.model_copy(update={"test": None})
    voc_learnt = dataset.voc.model_copy(update={"test_list": None, "counts": counts})
    coco_learnt = dataset.coco.model_copy(update={"test_images": None, "test_list": None})
    return dataset.model_copy(update={"voc": voc_learnt, "coco": coco_learnt})


def paints_masks(dataset: Dataset) -> bool:
    """Whether the format makes its masks from something else while it is indexed."""
    return dataset.format == "coco"


def _check_training(index):
    held = {label for record in index.split("train") for label in record.labels}
    if not held:
        raise InputError(f"{index.root}: no training image holds a class of dataset.classes")
    absent = [name for name in index.classes if name not in held]
    if absent:
        log.warning("no training image holds %s: it cannot be learnt", listed(absent))


def listed_files(dataset: Dataset) -> list[Path]:
    """The label and list files of an index: a change of one makes the index again."""
    root = expanded_path(dataset.root or "", "dataset.root")
    match dataset.format:
        case "voc":
            return voc.listed_files(root, dataset.voc)
        case "coco":
            lists = (dataset.coco.train_list, dataset.coco.val_list, dataset.coco.test_list)
            paths = (*coco.annotation_files(dataset.coco), *lists)
        case "folder":
            paths = (dataset.folder.labels, dataset.folder.val_list, dataset.folder.test_list)
        case "demo":
            paths = ()
    return [root / path for path in paths if path]


def digest_of_listed(dataset: Dataset, file: Path) -> str:
    """SHA-256 of one of the `listed_files`, or "missing".

    By content and not by path or time, so that a data set may move. COCO's annotations are too
    large to be hashed at every call: what is known of them is remembered beside the masks.
    """
    if not file.is_file():
        return "missing"
    if dataset.format == "coco":
        root = expanded_path(dataset.root, "dataset.root")
        return digest_of_annotations(file, root / dataset.coco.masks_folder)
    return sha256_of(file)

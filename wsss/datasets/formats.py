"""Data sets by format: from the configuration's section `dataset` to an index of images."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from wsss.configuration.data_sections import Dataset
from wsss.configuration.paths import expanded_path
from wsss.datasets import folder, voc
from wsss.datasets.class_folders import FOLDERS, digest_of_class_folders
from wsss.datasets.coco import records as coco
from wsss.datasets.coco.masks import digest_of_annotations
from wsss.datasets.index import DatasetIndex, measured, resolve_root
from wsss.errors import InputError, listed
from wsss.storage.files import sha256_of

# By format: functions of (dataset, root) -> records without their sizes, and notes.
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
    return replace(index, notes=(*index.notes, *_notes_on_training(index)))


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
    """The index with the images, too, that `dataset` only wants predicted, and notes on them.

    Raises:
        InputError: the key or file to mend, as for an image that is in another split.
    """
    find = RECORDS_TO_PREDICT.get(dataset.format)
    records, notes = find(dataset, index.root) if find else ((), ())
    index = replace(index, notes=tuple(dict.fromkeys((*index.notes, *notes))))
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


def _notes_on_training(index):
    """What the labels of the training images mean for the classifier; InputError without any."""
    train = index.split("train")
    counts = Counter(label for record in train for label in record.labels)
    if not counts:
        raise InputError(f"{index.root}: no training image holds a class of dataset.classes")
    absent = [name for name in index.classes if name not in counts]
    if absent:
        yield f"no training image holds {listed(absent)}: it cannot be learnt"
    negatives = [record.image_id for record in train if record.is_negative]
    if negatives:
        yield (
            f"{len(negatives)} training images without labels are negatives, all background:"
            f" {listed(negatives)}"
        )
    for name in [name for name, count in counts.items() if count == len(train)]:
        yield (
            f"every training image ({len(train)}) holds {name}: the classifier has no"
            " counter-example; add photographs without it, such as rows without labels"
        )


def listed_files(dataset: Dataset) -> list[Path]:
    """The label and list files of an index: a change of one makes the index again.

    The root itself stands for the folders of classes in it.
    """
    root = expanded_path(dataset.root or "", "dataset.root")
    match dataset.format:
        case "voc":
            return voc.listed_files(root, dataset.voc)
        case "coco":
            lists = (dataset.coco.train_list, dataset.coco.val_list, dataset.coco.test_list)
            paths = (*coco.annotation_files(dataset.coco), *lists)
        case "folder":
            labels = "" if dataset.folder.labels == FOLDERS else dataset.folder.labels
            lists = [path for path in (dataset.folder.val_list, dataset.folder.test_list) if path]
            return [root / path for path in (labels, *lists)]
        case "demo":
            paths = ()
    return [root / path for path in paths if path]


def digest_of_listed(dataset: Dataset, file: Path) -> str:
    """SHA-256 of one of the `listed_files`, or "missing".

    By content and not by path or time, so that a data set may move. COCO's annotations are too
    large to be hashed at every call: what is known of them is remembered beside the masks.
    """
    if dataset.format == "folder" and file.is_dir():
        return digest_of_class_folders(dataset.folder, file)
    if not file.is_file():
        return "missing"
    if dataset.format == "coco":
        root = expanded_path(dataset.root, "dataset.root")
        return digest_of_annotations(file, root / dataset.coco.masks_folder)
    return sha256_of(file)

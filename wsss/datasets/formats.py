"""Data sets by format: from a configuration's `dataset` section to an index of images."""

import logging
from dataclasses import replace
from pathlib import Path

from wsss.datasets import coco, folder, voc
from wsss.datasets.coco_masks import digest_of_annotations
from wsss.datasets.index import measured, resolve_root
from wsss.errors import InputError, listed
from wsss.files import expanded_path, sha256_of

log = logging.getLogger(__name__)


def _build_demo(settings, root):
    # Its drawing packages are of no use to the other formats.
    from wsss.datasets import demo

    return demo.build(settings, root)


FORMATS = {"voc": voc.build, "coco": coco.build, "folder": folder.build, "demo": _build_demo}
# Functions of (settings, root) -> records without their sizes.
RECORDS_TO_PREDICT = {
    "voc": voc.records_to_predict,
    "coco": coco.records_to_predict,
    "folder": folder.records_to_predict,
}


def build_index(settings, root=None, processes=1, paint=True):
    """Build the DatasetIndex of the images to train and to validate on.

    `settings` is the `dataset` section; `root` stands in for its own. COCO's masks are painted on
    the way, on `processes` processes; without `paint` its index names masks that may not be there
    yet. Raises InputError with the key or file to mend.
    """
    name = settings.get("format")
    if name not in FORMATS:
        raise InputError(f"dataset.format is {name!r}: choose one of {', '.join(FORMATS)}")
    made_here = name == "demo"
    folder_of_images = resolve_root(root or settings.get("root"), must_exist=not made_here)
    painting = {"processes": processes, "paint": paint} if paints_masks(settings) else {}
    index = FORMATS[name](settings, folder_of_images, **painting)
    _check_training(index)
    return index


def with_test_images(index, settings):
    """The index with the images, too, that the `dataset` section only wants predicted.

    Raises InputError with the key or file to mend, as for an image that is in another split.
    """
    find = RECORDS_TO_PREDICT.get(settings["format"])
    records = find(settings, index.root) if find else ()
    if not records:
        return index
    found = measured(replace(index, records=tuple(records))).records
    return replace(index, records=(*index.records, *found))


def without_test_images(settings):
    """The `dataset` section as far as it counts for `build_index`.

    In a folder all images that are not to be predicted only are trained on: there it all counts.
    """
    name = settings["format"]
    changes = {
        "voc": {"test_list": None},
        "coco": {"test_images": None, "test_list": None},
    }.get(name, {})
    section = settings[name] | changes
    if "counts" in section:
        section["counts"] = section["counts"] | {"test": None}
    return settings | {name: section}


def paints_masks(settings):
    """Whether the format makes its masks from something else while it is indexed."""
    return settings.get("format") == "coco"


def _check_training(index):
    held = {label for record in index.split("train") for label in record.labels}
    if not held:
        raise InputError(f"{index.root}: no training image holds a class of dataset.classes")
    absent = [name for name in index.classes if name not in held]
    if absent:
        log.warning("no training image holds %s: it cannot be learnt", listed(absent))


def listed_files(settings):
    """Paths of the label and list files of an index: a change of one makes the index again."""
    name, root = settings["format"], expanded_path(settings["root"] or "", "dataset.root")
    if name == "voc":
        return voc.listed_files(root, settings["voc"])
    if name == "folder":
        paths = [settings["folder"][key] for key in ("labels", "val_list", "test_list")]
        return [root / path for path in paths if path]
    if name == "coco":
        section = settings["coco"]
        lists = [section[f"{split}_list"] for split in ("train", "val", "test")]
        return [root / path for path in (*coco.annotation_files(section), *lists) if path]
    return []


def digest_of_listed(settings, file):
    """SHA-256 of one of the `listed_files`, or "missing".

    By content and not by path or time, so that a data set may move. COCO's annotations are too
    large to be hashed at every call: what is known of them is remembered beside the masks.
    """
    path = Path(file)
    if not path.is_file():
        return "missing"
    if settings["format"] == "coco":
        root = expanded_path(settings["root"], "dataset.root")
        return digest_of_annotations(path, root / settings["coco"]["masks_folder"])
    return sha256_of(path)

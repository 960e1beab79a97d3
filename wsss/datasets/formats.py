"""Data sets by format: from a configuration's `dataset` section to an index of images."""

import logging
from pathlib import Path

from wsss.datasets import folder, voc
from wsss.datasets.index import resolve_root
from wsss.errors import InputError, listed

log = logging.getLogger(__name__)


def _build_demo(settings, root):
    # Its drawing packages are of no use to the other formats.
    from wsss.datasets import demo

    return demo.build(settings, root)


FORMATS = {"voc": voc.build, "folder": folder.build, "demo": _build_demo}


def build_index(settings, root=None):
    """Build the DatasetIndex that the `dataset` section describes.

    `root` stands in for `dataset.root`. Raises InputError with the key or file to mend.
    """
    name = settings.get("format")
    if name not in FORMATS:
        raise InputError(f"dataset.format is {name!r}: choose one of {', '.join(FORMATS)}")
    made_here = name == "demo"
    folder_of_images = resolve_root(root or settings.get("root"), must_exist=not made_here)
    index = FORMATS[name](settings, folder_of_images)
    _check_training(index)
    return index


def _check_training(index):
    held = {label for record in index.split("train") for label in record.labels}
    if not held:
        raise InputError(f"{index.root}: no training image holds a class of dataset.classes")
    absent = [name for name in index.classes if name not in held]
    if absent:
        log.warning("no training image holds %s: it cannot be learnt", listed(absent))


def listed_files(settings):
    """Paths of the label and list files of an index: a change of one makes the index again."""
    name, root = settings["format"], Path(settings["root"] or "")
    if name == "voc":
        return voc.listed_files(root, settings["voc"])
    if name == "folder":
        paths = [settings["folder"][key] for key in ("labels", "val_list", "test_list")]
        return [root / path for path in paths if path]
    return []

"""Photographs that a person names on the command line: files, and the images in folders."""

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from wsss.datasets.index import check_id
from wsss.errors import InputError, listed
from wsss.images import images_in


def find_photographs(paths):
    """Id (the name without its suffix) -> path, in the order of the paths.

    Args:
        paths: files, taken whatever their suffix is, and folders: the images directly in them,
            by name, without hidden files. A file that does not exist is for its reader to refuse.

    Raises:
        InputError: a folder without images, two photographs of one name, or a name that cannot
            be that of a result.
    """
    found = defaultdict(list)
    for path in map(Path, paths):
        for file in images_in(path) if path.is_dir() else [path]:
            found[check_id(file.stem, str(file))].append(file)
    twice = [files for files in found.values() if len(files) > 1]
    if twice:
        raise InputError(
            f"{listed(twice[0])}: the same name for their results; rename one, or give it in a "
            f"call of its own with another --out ({len(twice)} name(s) that occur twice)"
        )
    return {image_id: files[0] for image_id, files in found.items()}


def refuse_overwriting(outputs, inputs):
    """Refuse outputs that are one of the inputs, whatever it is called: links count too.

    Raises:
        InputError: naming the input.
    """
    known = {key: path for path in inputs for key in _identities(path)}
    for output in outputs:
        hit = next((known[key] for key in _identities(output) if key in known), None)
        if hit is not None:
            raise InputError(
                f"{output} would be written over the input {hit}; choose another folder for --out"
            )


def _identities(path):
    """What a path is on disk: the entry itself, and what it leads to."""
    found = set()
    for stat in (os.stat, os.lstat):
        with suppress(OSError):
            status = stat(path)
            found.add((status.st_dev, status.st_ino))
    return found

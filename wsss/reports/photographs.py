"""Photographs that a person names on the command line: files, and the images in folders."""

import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wsss.datasets.index import check_id
from wsss.errors import InputError, listed, printable
from wsss.reports.mask_files import mask_names, remove_earlier
from wsss.storage.image_folders import list_images, refuse_none

DEEPER = "name these folders, too"
SHOWN = 3  # refusals in the error line when there is nothing else


@dataclass(frozen=True)
class Refusal:
    """A path that cannot be segmented, and a line on why; with its id where its name is one."""

    path: Path
    line: str
    image_id: str | None = None


def find_photographs(
    paths: Iterable[str | Path], out: Path | None = None
) -> tuple[dict[str, Path], list[Refusal], list[str]]:
    """Find the photographs, and refuse those whose results could not have a name of their own.

    A file that comes up twice under its name, as by a folder and by itself, is one photograph.

    Args:
        paths: files, taken whatever their suffix is, and folders: the images directly in them,
            by name, without hidden files. A file that does not exist is for its reader to refuse.
        out: the folder of the results, which may lie in one of these.

    Returns:
        Id (the name without its suffix) -> path, in the order of the paths; and refused are
        folders without images, names that cannot be those of results, and all photographs of a
        name that several have. The lines tell what of the folders is left out.

    Raises:
        InputError: nothing is left.
    """
    files, refused, left_out = _distinct_files(paths, out)
    named = defaultdict(list)
    for file in files:
        try:
            named[check_id(file.stem, str(file))].append(file)
        except InputError as error:
            refused.append(Refusal(file, printable(f"{error}: rename it")))
    for image_id, same in named.items():
        refused += _clashes(image_id, same)
    photographs = {image_id: same[0] for image_id, same in named.items() if len(same) == 1}
    if not photographs:
        raise InputError(listed([refusal.line for refusal in refused], SHOWN, "; "))
    return photographs, refused, left_out


def _distinct_files(paths, out):
    found, refused, left_out = {}, [], []
    for path in map(Path, paths):
        try:
            files = _files_of(path, out, left_out) if os.path.isdir(path) else [path]
        except InputError as error:
            refused.append(Refusal(path, printable(error)))
            continue
        for file in files:
            found.setdefault((file.stem, _target(file)), file)
    return list(found.values()), refused, left_out


def _files_of(folder, out, left_out):
    found = list_images(folder, [out])
    refuse_none(folder, found, DEEPER)
    left_out += found.left_out(folder, DEEPER)
    return found.images


def _target(path):
    """What tells whether two paths lead to the same file."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    return status.st_dev, status.st_ino


def _clashes(image_id, files):
    """A refusal for each of several photographs of one name."""
    for file in files if len(files) > 1 else ():
        others = listed(other for other in files if other is not file)
        line = (
            f"{file}: its results would have the same name as those of {others}; rename one, or"
            " give it in a call of its own with another --out"
        )
        yield Refusal(file, printable(line), image_id)


class Inputs:
    """Files that are neither written over nor removed, whatever they are called: links count."""

    def __init__(self, paths: Iterable[str | Path]):
        self._known = {key: path for path in paths for key in _identities(path)}

    def met_by(self, path: str | Path) -> str | Path | None:
        """The input that a path is or leads to, or None."""
        return next((self._known[key] for key in _identities(path) if key in self._known), None)

    def refuse_overwriting(self, outputs: Iterable[Path]) -> None:
        """Raise InputError if one of the outputs is an input, naming both."""
        for output in outputs:
            hit = self.met_by(output)
            if hit is not None:
                raise InputError(
                    f"{output} would be written over the input {hit}; choose another folder for"
                    " --out"
                )

    def remove_results(self, folder: str | Path, image_id: str) -> None:
        """Remove mask and overlay of an image that an earlier run left, unless they are inputs.

        Raises:
            InputError: such a file cannot be removed.
        """
        for path in (Path(folder) / name for name in mask_names(image_id)):
            if not path.is_dir() and self.met_by(path) is None:
                remove_earlier(path)


def _identities(path):
    """What a path is on disk: the entry itself, and what it leads to."""
    found = set()
    for stat in (os.stat, os.lstat):
        with suppress(OSError):
            status = stat(path)
            found.add((status.st_dev, status.st_ino))
    return found

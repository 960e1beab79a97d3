"""Files for names that are nearly theirs: typed by hand, or changed by a spreadsheet."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import NamedTuple

from wsss.errors import listed
from wsss.storage.image_folders import SUFFIXES

ALIKE = 0.75  # of difflib's ratio, where 1 is the same name
SHOWN = 5


class Matches(NamedTuple):
    """Ids of the files by name; of those names the near ones; and the names without a file."""

    ids: dict[str, str]
    near: list[str]
    missing: list[str]


def near_key(name: str) -> str:
    """What near names have in common: not case, Unicode form, extension, nor leading zeros.

    Excel takes 000032 for a number and writes 32, pandas 32.0 where a cell of the column is empty.
    """
    name = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()
    path = PurePosixPath(name)
    name = path.stem.strip() if path.suffix in SUFFIXES else name
    name = re.sub(r"^(\d+)\.0$", r"\1", name)
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)


def match_names(names: Iterable[str], files: Mapping[str, str]) -> Matches:
    """Find the file of each name: its id, the file's name, or else the only one that is near.

    Args:
        names: of rows or lines.
        files: name or path of the file by id.
    """
    names = list(names)
    by_file = {PurePosixPath(file).name: image_id for image_id, file in files.items()}
    exact = {name: name if name in files else by_file.get(name) for name in names}
    taken = set(exact.values())
    free = defaultdict(list)
    for image_id in files:
        free[near_key(image_id)].append(image_id)
    wanted = Counter(near_key(name) for name, image_id in exact.items() if image_id is None)
    ids, near, missing = {}, [], []
    for name, image_id in exact.items():
        key = near_key(name)
        if image_id is not None:
            ids[name] = image_id
        elif len(free[key]) == 1 and wanted[key] == 1 and free[key][0] not in taken:
            ids[name] = free[key][0]
            near.append(name)
        else:
            missing.append(name)
    return Matches(ids, near, missing)


def told_near(matches: Matches, files: Mapping[str, str]) -> str:
    """The near names with their files, for a note."""
    return listed([f"{name} is {files[matches.ids[name]]}" for name in matches.near], SHOWN)


def told_missing(
    missing: Iterable[str],
    files: Mapping[str, str],
    others: Mapping[str, str],
    places: Mapping[str, str],
) -> str:
    """Names without a file, each with its place and the files that are called most alike.

    Args:
        missing: the names.
        files: name or path of the file by id.
        others: files that are left out, with the reason.
        places: such as "line 3", by name, as far as they are known.
    """
    reasons = dict.fromkeys(files.values(), "") | others
    by_key = defaultdict(list)
    for file in reasons:
        by_key[near_key(PurePosixPath(file).name)].append(file)
    missing, told = list(missing), []
    for name in missing[:SHOWN]:
        key = near_key(name)
        keys = [key] if key in by_key else get_close_matches(key, by_key, 1, ALIKE)
        alike = [
            f"{file}, which {reasons[file]}" if reasons[file] else file
            for close in keys
            for file in by_key[close]
        ]
        remarks = [places.get(name), f"there is {listed(alike, 3)}" if alike else None]
        remark = "; ".join(filter(None, remarks))
        told.append(f"{name} ({remark})" if remark else name)
    return listed([*told, *missing[SHOWN:]], SHOWN)

"""Image-level labels from CSV files, `cls_labels.npy` and VOC's annotation XML."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from defusedxml import ElementTree

from wsss.datasets.class_names import check_class_names, check_single_labels
from wsss.datasets.index import SPLITS, check_id
from wsss.errors import InputError, listed
from wsss.storage.pickles import read_npy_dict

ZERO_OR_ONE = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}  # as pandas writes them
NAMED = ("labels", "label")  # the column that names classes, the first of these
# What to do with other classes in VOC's layout.
OWN_CLASSES = (
    "for classes of your own set dataset.format: folder, with folder.images for JPEGImages and"
    " folder.labels for a CSV (docs/photographs.md)"
)


@dataclass(frozen=True)
class LabelTable:
    """Labels by image id, or by whatever name the file has for an image.

    `splits` holds the ids whose row names a split; `class_columns` tells that the file had a
    column per class, whose order then is the order of the classes. `places` says where in the
    file an id stands; `notes` are lines on what was passed over or joined.
    """

    classes: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    splits: dict[str, str] = field(default_factory=dict)
    class_columns: bool = False
    places: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def configured_file(path: Path, key: str, remedy: str) -> Path:
    """`path` if it is there; else InputError with the configuration key that names it."""
    if not path.exists():
        raise InputError(f"{key}: {path} does not exist: {remedy}")
    return path


def read_label_csv(path: Path) -> LabelTable:
    """Read a label CSV: `image_id`, a 0/1 column per class or `labels` (a;b), maybe `split`.

    Beside `labels`, or `label`, other columns are passed over, and several rows of an image add up.
    Rows and columns without any content are no rows and columns. An id may be written as a path.
    Classes come in column order, or sorted where `labels` names them.

    Raises:
        InputError: file and line of a repeated column, id or label, ragged rows, values other
            than 0 and 1, and names that are no classes, or several in one.
    """
    columns, rows = _csv_rows(path)
    pick = _labels_of_list if columns.named else _labels_of_columns
    labels, splits, first, named, joined = {}, {}, {}, {}, {}
    for line, row in rows:
        where = f"{path}, line {line}"
        image_id = check_id(_without_folder(row["image_id"]), where)
        if image_id in labels:
            _check_repeated(columns, row, first[image_id][1], where)
            joined[image_id] = None
        found = pick(row, columns, where)
        labels[image_id] = tuple(dict.fromkeys((*labels.get(image_id, ()), *found)))
        first.setdefault(image_id, (f"line {line}", row))
        named |= {name: f"line {line}" for name in found if name not in named}
        if row.get("split"):
            splits[image_id] = _checked_split(row["split"], splits.get(image_id), where)
    if columns.named:
        _check_named(path, named)
    return LabelTable(
        classes=tuple(columns.classes or sorted(named)),
        labels=labels,
        splits=splits,
        class_columns=not columns.named,
        places={image_id: place for image_id, (place, _) in first.items()},
        notes=_notes(path, columns, joined),
    )


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Pairs of line number and text, blanks stripped, of the lines of a list that hold any."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [(number, line.strip()) for number, line in enumerate(file, 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"image list {path} cannot be read ({error}): save it as a UTF-8 text file"
        ) from error
    return [(number, line) for number, line in lines if line]


def read_cls_labels(path: Path, class_names: tuple[str, ...]) -> LabelTable:
    """Read `cls_labels.npy`, a pickled dict of id -> vector of zeros and ones, in class order.

    Integer ids such as 2007000032 become 2007_000032. Raises InputError for a damaged file, one
    that would run something, which it does not, and labels of other classes.
    """
    labels = {}
    for key, vector in _pickled_dict(path).items():
        image_id = check_id(_id_of_key(key, path), str(path))
        values = np.asarray(vector)
        if values.shape != (len(class_names),) or not np.isin(values, (0, 1)).all():
            raise InputError(
                f"{path}: the labels of {image_id} are not {len(class_names)} zeros and ones: use a"
                " file that was made for these classes"
            )
        labels[image_id] = tuple(n for n, v in zip(class_names, values, strict=True) if v)
    return LabelTable(class_names, labels)


def read_annotation(path: Path, class_names: tuple[str, ...]) -> tuple[str, ...]:
    """Classes named by object/name in a VOC annotation, difficult ones included, in class order.

    Raises InputError for unknown names and what is no readable XML.
    """
    names = set(_object_names(path))
    unknown = names.difference(class_names)
    if unknown:
        raise InputError(
            f"{path}: {listed(sorted(unknown))} is not a class of VOC: correct the name;"
            f" {OWN_CLASSES}"
        )
    return tuple(name for name in class_names if name in names)


class _Columns(NamedTuple):
    """What the columns of a CSV are: the one that `named` the labels, or one for each class."""

    named: str | None
    classes: list[str]
    passed_over: list[str]


def _csv_rows(path):
    """Columns and (line number, dict) per row, cells stripped of blanks."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"label file {path} cannot be read ({error}): save it as a UTF-8 CSV file"
        ) from error
    (_, header), *lines = [(line, row) for line, row in lines if any(row)] or [(0, [])]
    while header and not header[-1] and not any(any(row[len(header) - 1 :]) for _, row in lines):
        header.pop()
    header = [_column_name(name) for name in header]
    columns = _columns_of(header, path)
    for line, row in lines:
        if len(row) < len(header) or any(row[len(header) :]):
            remedy = "join several labels with ;" if columns.named else "write one cell a column"
            raise InputError(
                f"{path}, line {line}: {len(row)} cells under {len(header)} columns: {remedy}"
            )
    return columns, [(line, dict(zip(header, row, strict=False))) for line, row in lines]


def _column_name(name):
    """The columns that mean something are known in capitals, too."""
    known = name.casefold()
    return known if known in ("image_id", "split", *NAMED) else name


def _columns_of(header, path):
    if "image_id" not in header or not set(header) - {"image_id", "split"}:
        raise InputError(
            f"{path}: the first line must name the column image_id and either one column per"
            " class or the column labels, separated by commas"
        )
    named = next((name for name in NAMED if name in header), None)
    others = [name for name in header if name not in ("image_id", "split", named)]
    used = [name for name in header if not named or name not in others]
    repeated = sorted({name for name in used if used.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: the column {listed(repeated)} is there twice: keep one")
    if named:
        return _Columns(named, [], others)
    if "" in others:
        raise InputError(f"{path}: a column has no name: name or remove it")
    check_class_names(str(path), dict.fromkeys(others, "line 1"))
    return _Columns(None, others, [])


def _without_folder(name):
    """The file of a path, be it one of Windows; one that leads upwards stays, to be refused."""
    return name if ".." in name else re.split(r"[/\\]", name)[-1]


def _check_repeated(columns, row, first, where):
    """One row a label is a table, too; two rows of zeros and ones contradict each other."""
    if row["image_id"] != first["image_id"]:
        raise InputError(
            f"{where}: {row['image_id']} and {first['image_id']} would be one image: give the"
            " photographs names of their own"
        )
    if not columns.named:
        raise InputError(f"{where}: image {row['image_id']} has a row already: keep one")


def _check_named(path, places):
    """The names of classes in the column of labels, with their lines."""
    check_class_names(str(path), places)
    check_single_labels(str(path), places)
    if places and set(places) <= {"0", "1"}:
        raise InputError(
            f"{path}: the labels are 0 and 1: write the name of the class, and nothing where a"
            " photograph shows none"
        )


def _notes(path, columns, joined):
    passed = [name or "one without a name" for name in columns.passed_over]
    return (
        *([f"{path}: columns passed over: {listed(passed)}"] if passed else []),
        *([f"{path}: labels of several rows joined: {listed(joined)}"] if joined else []),
    )


def _labels_of_columns(row, columns, where):
    values = {name: ZERO_OR_ONE.get(row[name].casefold()) for name in columns.classes}
    for name, value in values.items():
        if value is None:
            raise InputError(
                f"{where}: {name} is {row[name]!r}: write 0 or 1, or remove the column {name} if"
                " it is no class"
            )
    return tuple(name for name, value in values.items() if value)


def _labels_of_list(row, columns, where):
    cell = row[columns.named].replace("；", ";")
    names = [name.strip() for name in cell.split(";") if name.strip()]
    if len(set(names)) != len(names):
        raise InputError(f"{where}: a class is named twice in {cell!r}: keep one")
    return tuple(names)


def _checked_split(text, other, where):
    split = text.casefold()
    if split not in SPLITS:
        raise InputError(f"{where}: split {text!r} is unknown: write one of {', '.join(SPLITS)}")
    if other not in (None, split):
        raise InputError(f"{where}: the image is of the split {other} already: keep one")
    return split


def _pickled_dict(path):
    try:
        return read_npy_dict(path)
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(
            f"label file {path} cannot be read as cls_labels.npy ({error}): use another file"
        ) from error


def _id_of_key(key, path):
    if isinstance(key, int | np.integer):
        return f"{key // 10**6:04d}_{key % 10**6:06d}"
    if isinstance(key, str):
        return str(key)
    raise InputError(f"{path}: {key!r} is not an image id: use texts such as 2007_000032")


def _object_names(path):
    """Texts of annotation/object/name; parts of objects have names of their own, deeper down."""
    try:
        found = ElementTree.parse(path).findall("object/name")
    # The last two: encodings, and what could expand without end, which defusedxml refuses.
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(
            f"annotation {path} is not readable XML ({error}): replace the file"
        ) from error
    return [(name.text or "").strip() for name in found]

"""Image-level labels from CSV files, `cls_labels.npy` and VOC's annotation XML."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from defusedxml import ElementTree

from wsss.datasets.index import SPLITS, check_id
from wsss.errors import InputError, listed
from wsss.storage.pickles import read_npy_dict

# What to do with other classes in VOC's layout.
OWN_CLASSES = (
    "for classes of your own set dataset.format: folder, with folder.images for JPEGImages and"
    " folder.labels for a CSV (docs/photographs.md)"
)


@dataclass(frozen=True)
class LabelTable:
    """Labels by image id.

    `splits` holds the ids whose row names a split; `class_columns` tells that the file had a
    column per class, whose order then is the order of the classes.
    """

    classes: tuple[str, ...]
    labels: dict[str, tuple[str, ...]]
    splits: dict[str, str] = field(default_factory=dict)
    class_columns: bool = False


def configured_file(path: Path, key: str, remedy: str) -> Path:
    """`path` if it is there; else InputError with the configuration key that names it."""
    if not path.exists():
        raise InputError(f"{key}: {path} does not exist: {remedy}")
    return path


def read_label_csv(path: Path) -> LabelTable:
    """Read a label CSV: `image_id`, a 0/1 column per class or `labels` (a;b), maybe `split`.

    Classes come in column order, or sorted where `labels` names them. Raises InputError with
    file and line for a repeated column, id or label, ragged rows and values other than 0 and 1.
    """
    header, rows = _csv_rows(path)
    columns = [name for name in header if name not in ("image_id", "split")]
    class_columns = columns != ["labels"]
    labels, splits = {}, {}
    for line, row in rows:
        where = f"{path}, line {line}"
        image_id = check_id(row["image_id"], where)
        if image_id in labels:
            raise InputError(f"{where}: image {image_id} has a row already: keep one")
        pick = _labels_of_columns if class_columns else _labels_of_list
        labels[image_id] = pick(row, columns, where)
        if row.get("split"):
            splits[image_id] = _checked_split(row["split"], where)
    named = {name for names in labels.values() for name in names}
    classes = tuple(columns if class_columns else sorted(named))
    return LabelTable(classes, labels, splits, class_columns)


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


def _csv_rows(path):
    """Header and (line number, dict) per row, cells stripped of blanks."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"label file {path} cannot be read ({error}): save it as a UTF-8 CSV file"
        ) from error
    header = lines[0][1] if lines else []
    _check_header(header, path)
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(
                f"{path}, line {line}: {len(row)} cells under {len(header)} columns: write one cell"
                " a column"
            )
    return header, [(line, dict(zip(header, row, strict=True))) for line, row in lines[1:]]


def _check_header(header, path):
    if "image_id" not in header or not set(header) - {"image_id", "split"}:
        raise InputError(
            f"{path}: the first line must name the column image_id and either one column per"
            " class or the column labels, separated by commas"
        )
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path}: the column {listed(repeated)} is there twice: keep one")
    if "" in header:
        raise InputError(f"{path}: a column has no name: name or remove it")


def _labels_of_columns(row, columns, where):
    for name in columns:
        if row[name] not in ("0", "1"):
            raise InputError(f"{where}: {name} is {row[name]!r}: write 0 or 1")
    return tuple(name for name in columns if row[name] == "1")


def _labels_of_list(row, _columns, where):
    names = [name.strip() for name in row["labels"].split(";") if name.strip()]
    if len(set(names)) != len(names):
        raise InputError(f"{where}: a class is named twice in {row['labels']!r}: keep one")
    return tuple(names)


def _checked_split(split, where):
    if split not in SPLITS:
        raise InputError(f"{where}: split {split!r} is unknown: write one of {', '.join(SPLITS)}")
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

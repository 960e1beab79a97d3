"""The index of a data set: which images there are, what is in them, where their masks lie."""

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from model.labels import IGNORE
from wsss.compute.progress import progress
from wsss.configuration.paths import expanded_path
from wsss.datasets.class_names import check_class_names
from wsss.errors import InputError, listed
from wsss.storage.files import atomic_path, write_csv
from wsss.storage.images import image_size, mask_size, read_image, read_mask, read_shrunk

SPLITS = ("train", "val", "test")
TEST = "test"  # the split of images that are only predicted, which have a file of their own
MINIMUM_SIDE = 8  # the stride of the networks: a smaller image has no feature of its own
# Bytes of UTF-8. File names have 255: `atomic_path` puts up to 82 around a stem and its suffix, the
# name of the machine among them, and what is written for people ends in _overlay.jpg.
LONGEST_ID = 160
INDEX_COLUMNS = ("image_id", "split", "scored", "image", "mask", "width", "height", "labels")
CLASS_COLUMNS = ("class_id", "name", "mask_value")


def values_beside(values: Iterable[int], count: int) -> tuple[int, ...]:
    """Of the mask values 1 to `count` those that are not among `values`."""
    return tuple(sorted(set(range(1, count + 1)) - set(values)))


@dataclass(frozen=True)
class ImageRecord:
    """One image. `image` and `mask` are relative to the root; width and height are in pixels.

    `scored` tells whether its pseudo label or prediction counts in the evaluation.
    """

    image_id: str
    split: str
    scored: bool
    image: str
    mask: str | None
    width: int
    height: int
    labels: tuple[str, ...]

    @property
    def is_negative(self) -> bool:
        """Whether it is known to show no class: what an image to predict shows nobody knows."""
        return self.split != TEST and not self.labels


@dataclass(frozen=True)
class DatasetIndex:
    """All images of a data set.

    `classes` names the object classes, without background; class id = position + 1.
    `mask_values[i]` is the value that stands for `classes[i]` in the mask files; 0 is background.
    `other_values` stand for classes that are not learnt, and are read as 255.
    """

    root: Path
    classes: tuple[str, ...]
    mask_values: tuple[int, ...]
    records: tuple[ImageRecord, ...]
    other_values: tuple[int, ...] = ()
    # Lines on what whoever indexed it may not know; they are told and forgotten.
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self):
        _check_classes(self.classes, self.mask_values, self.other_values)
        _check_records(self.records, self.classes)

    def split(self, name: str) -> list[ImageRecord]:
        """The records of one split, in the order of the index."""
        if name not in SPLITS:
            raise InputError(f"split {name!r} is none of {', '.join(SPLITS)}")
        return [record for record in self.records if record.split == name]

    def shard(self, split: str, shard: int, shards: int) -> list[ImageRecord]:
        """The records of shard number `shard` of `shards`: contiguous, sizes differ by one.

        The first has images if there are any, since pictures are drawn from it.
        """
        if not 0 <= shard < shards:
            raise InputError(f"shard {shard} is outside of 0..{shards - 1}")
        records = self.split(split)
        start, end = (-(-len(records) * number // shards) for number in (shard, shard + 1))
        return records[start:end]

    def label_vector(self, record: ImageRecord) -> np.ndarray:
        """Image-level labels of a record as float32 (C,) of zeros and ones."""
        return np.array([name in record.labels for name in self.classes], np.float32)

    def record(self, image_id: str) -> ImageRecord:
        """The record of an id; InputError if there is none."""
        try:
            return self._by_id[image_id]
        except KeyError:
            raise InputError(f"image {image_id!r} is not in the index of {self.root}") from None

    def read_image(self, record: ImageRecord, long_side: int | None = None) -> np.ndarray:
        """The photograph as uint8 RGB (height, width, 3), or shrunk by `read_shrunk`."""
        path = self.root / record.image
        if long_side is None:
            image = read_image(path)
            size = image.shape[:2]
        else:
            image, size = read_shrunk(path, long_side)
        self._check_size(record, size, "image", path)
        return image

    def read_mask(self, record: ImageRecord) -> np.ndarray:
        """The ground truth as uint8 (height, width): class ids 0..C, and 255 for all else."""
        if record.mask is None:
            raise InputError(f"image {record.image_id} has no mask in the index of {self.root}")
        return self.read_label_map(record, self.root / record.mask)

    def read_label_map(self, record: ImageRecord, path: Path) -> np.ndarray:
        """A file in the values of the masks as `read_mask` would return it.

        Raises InputError for values that stand for nothing: a palette PNG saved as grey has some.
        """
        mask = read_mask(path)
        self._check_size(record, mask.shape, "mask", path)
        strange = mask[~self._is_value[mask]]
        if strange.size:
            raise InputError(
                f"mask {path} has the value {strange[0]}, which stands for no class here"
                f" ({listed((0, *self.mask_values, *self.other_values), 300)} do, 255 is ignored):"
                " give the masks of this class list, as palette PNGs or grey ones of these values"
            )
        return self._class_of_value[mask]

    def mask_of(self, label_map: np.ndarray) -> np.ndarray:
        """Class ids 0..C and 255 as the values that stand for them in the mask files."""
        table = np.full(256, IGNORE, np.uint8)
        table[: len(self.classes) + 1] = (0, *self.mask_values)
        return table[label_map]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of records, classes and mask values; the same wherever the root lies.

        Images that are only predicted do not count: nothing is learnt from them or scored on them,
        so that some may come later and what has been trained still fits.
        """
        records = [astuple(record) for record in self.records if record.split != TEST]
        content = [records, self.classes, self.mask_values, self.other_values]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @cached_property
    def _by_id(self):
        return {record.image_id: record for record in self.records}

    @cached_property
    def _class_of_value(self):
        table = np.full(256, IGNORE, np.uint8)
        table[0] = 0
        table[list(self.mask_values)] = np.arange(1, len(self.classes) + 1)
        return table

    @cached_property
    def _is_value(self):
        table = np.zeros(256, bool)
        table[[0, IGNORE, *self.mask_values, *self.other_values]] = True
        return table

    def _check_size(self, record, size, what, path):
        height, width = size
        if (width, height) != (record.width, record.height):
            raise InputError(
                f"{what} {path} is {width}x{height}, but the index has"
                f" {record.width}x{record.height}: replace the file or make the index again"
            )


def measured(index: DatasetIndex) -> DatasetIndex:
    """Fill in width and height from the files' headers, checking that every file is there.

    Raises InputError listing the first few images or masks that are missing or damaged, images
    with a side below 8 pixels, and masks of another size than their image.
    """
    records, problems = [], []
    for record in progress(index.records, desc="measuring images"):
        try:
            records.append(_measured_record(index.root, record))
        except InputError as error:
            problems.append(error)
    if problems:
        raise InputError(listed(problems, 3, "; "))
    return replace(index, records=tuple(records))


def _measured_record(root, record):
    width, height = image_size(root / record.image)
    if min(width, height) < MINIMUM_SIDE:
        raise InputError(
            f"image {root / record.image} is {width}x{height}: sides below {MINIMUM_SIDE} pixels"
            " hold nothing to learn, remove it"
        )
    if record.mask is not None:
        size = mask_size(root / record.mask)
        if size != (width, height):
            raise InputError(
                f"mask {root / record.mask} is {size[0]}x{size[1]}, its image (turned upright)"
                f" {width}x{height}: make them the same size"
            )
    return replace(record, width=width, height=height)


def resolve_root(text: str | Path | None, must_exist: bool = True) -> Path:
    """Expand ~ and environment variables in `dataset.root`; InputError names that key."""
    if not text:
        raise InputError("dataset.root is not set: name the folder of the data set")
    root = expanded_path(text, "dataset.root")
    if must_exist and not root.is_dir():
        raise InputError(f"dataset.root: the folder {root} does not exist")
    return root


def check_id(image_id: str, where: str) -> str:
    """Refuse ids that could not safely become file names; `where` names their source."""
    unsafe = (
        not image_id
        or image_id.startswith(".")
        or ".." in image_id
        or image_id != image_id.strip()
        or not image_id.isprintable()
        or any(separator in image_id for separator in "/\\")
        or len(image_id.encode()) > LONGEST_ID
    )
    if unsafe:
        raise InputError(
            f"{where}: {image_id[:LONGEST_ID]!r} cannot be an image id (1 to {LONGEST_ID}"
            " bytes of UTF-8, printable, no separators, no '..', no leading '.', no blanks at the"
            " ends)"
        )
    return image_id


def _write_records(path, records):
    rows = (
        (
            *(record.image_id, record.split, int(record.scored)),
            *(record.image, record.mask or "", record.width, record.height),
            ";".join(record.labels),
        )
        for record in records
    )
    write_csv(path, INDEX_COLUMNS, rows)


def _read_index(files, classes_csv, root):
    classes = _read_csv(classes_csv, CLASS_COLUMNS)
    if not classes or classes[0] != {"class_id": "0", "name": "background", "mask_value": "0"}:
        raise InputError(f"{classes_csv}: the first row is not 0,background,0: make it again")
    learnt = [row for row in classes[1:] if row["class_id"] != str(IGNORE)]
    others = [row for row in classes[1:] if row["class_id"] == str(IGNORE)]
    try:
        return DatasetIndex(
            root=resolve_root(root),
            classes=tuple(row["name"] for row in learnt),
            mask_values=tuple(int(row["mask_value"]) for row in learnt),
            other_values=tuple(int(row["mask_value"]) for row in others),
            records=tuple(
                _record_of_row(row) for f in files for row in _read_csv(f, INDEX_COLUMNS)
            ),
        )
    except InputError:
        raise
    except ValueError as error:
        among = ", ".join(map(str, (*files, classes_csv)))
        raise InputError(f"{among}: {error}: make the index again") from error


def _record_of_row(row):
    return ImageRecord(
        image_id=row["image_id"],
        split=row["split"],
        scored=bool(int(row["scored"])),
        image=row["image"],
        mask=row["mask"] or None,
        width=int(row["width"]),
        height=int(row["height"]),
        labels=tuple(filter(None, row["labels"].split(";"))),
    )


def _read_csv(path, columns):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if tuple(reader.fieldnames or ()) != columns:
        raise InputError(f"{path} has other columns than {','.join(columns)}: make it again")
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} has rows of different lengths: make it again")
    return rows


def _check_classes(classes, mask_values, other_values):
    if not classes:
        raise InputError("the data set has no classes")
    for name in classes:
        if not name or name != name.strip() or not name.isprintable() or ";" in name:
            raise InputError(f"class name {name!r}: write it without ';' and control characters")
    repeated = _repeated(classes)
    if repeated:
        raise InputError(f"class named twice: {listed(repeated)}")
    check_class_names("classes of the data set", dict.fromkeys(classes, ""))
    if len(mask_values) != len(classes) or len(set(mask_values)) != len(mask_values):
        raise InputError("every class needs a mask value of its own")
    if not all(0 < value < IGNORE for value in (*mask_values, *other_values)):
        raise InputError("mask values of classes lie in 1..254 (0 is background, 255 is ignore)")
    if set(mask_values) & set(other_values):
        raise InputError("a mask value stands for a class and for one that is not learnt")


def _check_records(records, classes):
    known = set(classes)
    for record in records:
        check_id(record.image_id, "index")
        if record.split not in SPLITS:
            raise InputError(f"image {record.image_id}: split {record.split!r} is unknown")
        for path in filter(None, (record.image, record.mask)):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise InputError(f"image {record.image_id}: {path} leads out of the data set")
        if not known.issuperset(record.labels):
            unknown = sorted(set(record.labels) - known)
            raise InputError(f"image {record.image_id}: unknown class {listed(unknown)}")
    repeated = _repeated(record.image_id for record in records)
    if repeated:
        raise InputError(f"image listed twice, in one split or in two: {listed(repeated)}")


def _repeated(items):
    seen, repeated = set(), {}
    for item in items:
        if item in seen:
            repeated[item] = None
        seen.add(item)
    return list(repeated)


INDEX_FILE = "index.csv"
CLASSES_FILE = "classes.csv"
TEST_FILE = "test_images.csv"
ROOT_FILE = "root.txt"


def write_dataset(index: DatasetIndex, folder: str | Path) -> None:
    """Write index.csv, classes.csv and root.txt of a data set into its folder of results.

    Images that are only predicted are left to `write_test_images`. The root has a file of its
    own, since it may change without the data set changing.
    """
    folder = Path(folder)
    _write_records(folder / INDEX_FILE, [r for r in index.records if r.split != TEST])
    names, values = ("background", *index.classes), (0, *index.mask_values)
    learnt = zip(range(len(names)), names, values, strict=True)
    others = ((IGNORE, "(not learnt)", value) for value in index.other_values)
    write_csv(folder / CLASSES_FILE, CLASS_COLUMNS, (*learnt, *others))
    with atomic_path(folder / ROOT_FILE) as temporary:
        temporary.write_text(f"{index.root}\n", encoding="utf-8")


def write_test_images(index: DatasetIndex, folder: str | Path) -> None:
    """Write test_images.csv, the images that are only predicted, beside index.csv."""
    _write_records(Path(folder) / TEST_FILE, index.split(TEST))


def read_dataset(
    folder: str | Path, root: str | Path | None = None, test: bool = False
) -> DatasetIndex:
    """Read what `write_dataset` wrote; InputError if a file is missing or damaged.

    Args:
        folder: the data set's folder of results.
        root: where the images lie now; None: where they were indexed.
        test: read what `write_test_images` wrote, too.
    """
    folder = Path(folder)
    files = [folder / INDEX_FILE, *([folder / TEST_FILE] if test else [])]
    return _read_index(files, folder / CLASSES_FILE, root or _read_root(folder / ROOT_FILE))


def data_above(path: str | Path) -> Path | None:
    """The nearest folder above a file that holds the index of a data set, or None."""
    return next((f for f in Path(path).resolve().parents if (f / INDEX_FILE).is_file()), None)


def _read_root(path):
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: make the index again") from error

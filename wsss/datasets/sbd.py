"""Masks of SBD (Hariharan et al., ICCV 2011) beside VOC's own, as palette PNGs.

SBD marks 11,355 photographs of VOC in MATLAB files `cls/<id>.mat`: a struct GTcls whose field
Segmentation holds class ids 0..20, without an ignored seam. Together with VOC's 2,913 masks they
make the 12,031 that are known as SegmentationClassAug.
"""

import io
import shutil
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from wsss.datasets.index import check_id
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError
from wsss.files import atomic_path
from wsss.images import image_size, read_mask
from wsss.palette import write_palette_png

MAT_START = b"MATLAB 5.0 MAT-file"
MAT_HEADER = 128  # bytes before the first element
COMPRESSED, MATRIX = 15, 14  # element types
LARGEST = 16_000_000  # bytes, packed or not; SBD's files have some tens of thousands
MOST_MATRICES = 2000  # SBD's have 24; scipy crashes where some thousands are nested
IGNORE = 255


def read_segmentation(path):
    """Class ids 0..20 of an SBD file as uint8 (H, W).

    Raises InputError, naming the file, if it is damaged, larger than SBD's ever are, holds another
    struct, or values that are no class of VOC.
    """
    content = _read_bounded(path)
    _check_elements(content, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            variables = loadmat(
                io.BytesIO(content),
                variable_names=["GTcls"],
                struct_as_record=True,
                verify_compressed_data_integrity=True,
            )
    # A damaged file can raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}): take SBD's own file") from error
    return _class_ids(_field(variables, path), path)


def _read_bounded(path):
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): replace it") from error
    if len(content) > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST // 10**6} MB: it is no file of SBD")
    if len(content) < MAT_HEADER or not content.startswith(MAT_START):
        raise InputError(f"{path} is no MATLAB 5 file, as SBD's are: take SBD's own file")
    return content


def _check_elements(content, path):
    """Refuse what unpacks to more than SBD's files ever hold, or nests without end."""
    order = "<" if content[126:128] == b"IM" else ">"
    place, unpacked, matrices = MAT_HEADER, 0, 0
    while place + 8 <= len(content):
        kind, size = (int(n) for n in np.frombuffer(content, f"{order}u4", 2, place))
        element = content[place : place + 8 + size]
        place += 8 + size
        if kind == COMPRESSED:
            element = _unpacked(element[8:], path)
        unpacked += len(element)
        words = np.frombuffer(element, f"{order}u4", len(element) // 4)
        matrices += int((words[::2] == MATRIX).sum())  # a tag begins at a multiple of 8 bytes
        if unpacked > LARGEST or matrices > MOST_MATRICES:
            raise InputError(f"{path} holds more than any file of SBD: take SBD's own file")


def _unpacked(data, path):
    try:
        return zlib.decompressobj().decompress(data, LARGEST + 1)
    except zlib.error as error:
        raise InputError(f"{path} is damaged ({error}): take SBD's own file") from error


def _field(variables, path):
    struct = variables.get("GTcls")
    names = getattr(struct, "dtype", np.dtype(float)).names or ()
    if "Segmentation" not in names or struct.size != 1:
        raise InputError(
            f"{path} holds no struct GTcls with a field Segmentation: take the files of SBD's"
            " folder cls"
        )
    return struct["Segmentation"].flat[0]


def _class_ids(values, path):
    is_map = isinstance(values, np.ndarray) and values.ndim == 2 and values.size
    if not is_map or values.dtype.kind not in "uif":
        raise InputError(f"{path}: Segmentation is no map of numbers: take SBD's own file")
    wrong = values[~np.isin(values, np.arange(len(CLASSES) + 1))]
    if wrong.size:
        raise InputError(
            f"{path}: Segmentation holds {wrong.flat[0]}, but VOC's classes are 0..{len(CLASSES)}:"
            " take SBD's own file"
        )
    return values.astype(np.uint8)


def sbd_files(folder):
    """Image id -> .mat file, sorted, of SBD's folder: `dataset` or the one that holds it."""
    folder = Path(folder)
    for classes in (folder / "cls", folder / "dataset/cls"):
        if classes.is_dir():
            files = sorted(path for path in classes.glob("*.mat") if path.name[0] != ".")
            if files:
                return {check_id(path.stem, str(classes)): path for path in files}
    raise InputError(f"{folder} holds no cls/<id>.mat: name SBD's folder dataset")


def voc_masks(devkit):
    """Image id -> VOC's own mask, sorted."""
    folder = Path(devkit) / "SegmentationClass"
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: name the folder VOCdevkit/VOC2012")
    files = sorted(path for path in folder.glob("*.png") if path.name[0] != ".")
    return {check_id(path.stem, str(folder)): path for path in files}


@dataclass(frozen=True)
class MaskMaker:
    """Writes the mask of an image; picklable, so that processes can share the work.

    `own` and `sbd` are VOC's masks and SBD's files by image id; where both are, VOC's is taken.
    """

    devkit: Path
    own: dict
    sbd: dict
    out: Path

    def __call__(self, image_id):
        """Write `<id>.png` into `out`; returns None, or a line on what is wrong with the image."""
        try:
            size = image_size(self.devkit / f"JPEGImages/{image_id}.jpg")
            if image_id in self.own:
                self._copy(image_id, size)
            else:
                self._convert(image_id, size)
        except InputError as error:
            return str(error)
        return None

    def _copy(self, image_id, size):
        path = self.own[image_id]
        mask = read_mask(path)
        _check_size(path, mask, size)
        if not np.isin(mask, [*range(len(CLASSES) + 1), IGNORE]).all():
            raise InputError(f"{path} holds values other than 0..20 and 255: take VOC's own file")
        with atomic_path(self.out / f"{image_id}.png") as temporary:
            shutil.copyfile(path, temporary)

    def _convert(self, image_id, size):
        mask = read_segmentation(self.sbd[image_id])
        _check_size(self.sbd[image_id], mask, size)
        write_palette_png(self.out / f"{image_id}.png", mask)


def _check_size(path, mask, size):
    height, width = mask.shape
    if (width, height) != size:
        raise InputError(
            f"{path} is {width}x{height}, its photograph {size[0]}x{size[1]}: do they belong"
            " together?"
        )

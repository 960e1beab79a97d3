"""Masks of SBD (Hariharan et al., ICCV 2011) beside VOC's own, as palette PNGs.

SBD marks 11,355 photographs of VOC in MATLAB files `cls/<id>.mat`: a struct GTcls whose field
Segmentation holds class ids 0..20, without an ignored seam. Together with VOC's 2,913 masks they
make the 12,031 that are known as SegmentationClassAug.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from model.labels import IGNORE
from wsss.datasets.index import check_id
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError, reason_of
from wsss.storage.files import atomic_path
from wsss.storage.images import image_size, read_mask
from wsss.storage.palette import write_palette_png


def read_segmentation(path: Path) -> np.ndarray:
    """Class ids 0..20 of an SBD file as uint8 (H, W).

    Raises InputError, naming the file, if it is damaged, holds another struct, or values that are
    no class of VOC.
    """
    try:
        values = loadmat(path, variable_names=["GTcls"])["GTcls"]["Segmentation"].item()
    # A damaged file can raise nearly anything, and so can another struct.
    except Exception as error:
        raise InputError(
            f"{path} is damaged, or holds no struct GTcls with a field Segmentation"
            f" ({reason_of(error)}): take the files of SBD's folder cls"
        ) from error
    return _class_ids(values, path)


def _class_ids(values, path):
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InputError(f"{path}: Segmentation is no map of numbers: take SBD's own file")
    wrong = values[~np.isin(values, np.arange(len(CLASSES) + 1))]
    if wrong.size:
        raise InputError(
            f"{path}: Segmentation holds {wrong.flat[0]}, but VOC's classes are 0..{len(CLASSES)}:"
            " take SBD's own file"
        )
    return values.astype(np.uint8)


def sbd_files(folder: Path) -> dict[str, Path]:
    """Image id -> .mat file, sorted, of SBD's folder: `dataset` or the one that holds it."""
    for classes in (folder / "cls", folder / "dataset/cls"):
        if classes.is_dir():
            files = sorted(path for path in classes.glob("*.mat") if path.name[0] != ".")
            if files:
                return {check_id(path.stem, str(classes)): path for path in files}
    raise InputError(f"{folder} holds no cls/<id>.mat: name SBD's folder dataset")


def voc_masks(devkit: Path) -> dict[str, Path]:
    """Image id -> VOC's own mask, sorted."""
    folder = devkit / "SegmentationClass"
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
    own: dict[str, Path]
    sbd: dict[str, Path]
    out: Path

    def __call__(self, image_id: str) -> str | None:
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

"""CAMs in the files of other tools: `<image id>.npy`, a dict that `np.save` has written.

PSA's (Ahn and Kwak, CVPR 2018; SEAM's and many others' too): class -> float32 (H, W), the size of
the image. IRN's (Ahn et al., CVPR 2019): `keys` (K), `cam` (K, ceil(H/4), ceil(W/4)) and
`high_res` (K, H, W), the first two being tensors of PyTorch. Which it is shows in the dict itself.

Their classes count from 0 in the order of the masks of the data set: what is c in a file is c + 1
in a mask. Of a data set that learns some of its classes only, these are not the ids here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsss.configuration.sections import CamFiles
from wsss.datasets.files_per_image import FilesPerImage
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError, listed, reason_of
from wsss.storage.files import atomic_path
from wsss.storage.pickles import read_npy_dict
from wsss.storage.pixels import resize_maps

IRN_STRIDE = 4
GRID_STRIDE = 8  # image pixels per cell of an imported CAM
LARGEST_CAM = 65504  # of float16


def file_classes(index: DatasetIndex) -> list[int]:
    """For each class of an index, in its order, what stands for it in files of CAMs."""
    return [value - 1 for value in index.mask_values]


def strided_size(size: tuple[int, int], stride: int) -> tuple[int, int]:
    """(ceil(H / stride), ceil(W / stride))."""
    return tuple(-(-side // stride) for side in size)


# --- writing -----------------------------------------------------------------------------------


def write_psa(path: Path, classes: Sequence[int], full: np.ndarray, _strided: np.ndarray) -> None:
    """Write PSA's dict: class -> map, of float32 `full` (K, H, W)."""
    _save(path, dict(zip(classes, full, strict=True)))


def write_irn(path: Path, classes: Sequence[int], full: np.ndarray, strided: np.ndarray) -> None:
    """Write IRN's dict of float32 `full` (K, H, W) and `strided` (K, ceil(H/4), ceil(W/4))."""
    import torch  # takes seconds, and only this format needs it

    keys = torch.tensor(classes, dtype=torch.int64)
    _save(path, {"keys": keys, "cam": torch.from_numpy(strided), "high_res": full})


WRITERS = {"psa": write_psa, "irn": write_irn}


def _save(path, content):
    with atomic_path(path) as temporary:
        np.save(temporary, content, allow_pickle=True)


# --- reading -----------------------------------------------------------------------------------


def read_cam_file(path: Path, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Read the CAMs of an image from a file of PSA's or IRN's kind.

    Args:
        path: the file; nothing in it is run.
        size: height and width of the image.

    Returns:
        class -> float32 (h, w); (h, w) is `size`, or its quarter where IRN's `high_res` is missing.

    Raises:
        InputError: a file that is missing, damaged or would run something, and maps of other
            shapes, or with values that are no finite numbers.
    """
    try:
        return _maps_of(read_npy_dict(path, tensors=True), size)
    # A damaged pickle can raise nearly anything.
    except Exception as error:
        raise InputError(
            f"CAM file {path} cannot be used ({reason_of(error)}): replace it"
        ) from error


def _maps_of(content, size):
    if "keys" in content:
        return _maps_of_irn(content, size)
    others = [key for key in content if not isinstance(key, int | np.integer)]
    if others:
        raise ValueError(f"its dict has {listed(others, 3)}: neither classes 0, 1, .. nor keys")
    return {int(key): _checked(value, size, f"class {key}") for key, value in content.items()}


def _maps_of_irn(content, size):
    keys = np.asarray(content["keys"])
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise ValueError("keys are not the ids of classes, from 0 on")
    sizes = {"high_res": size, "cam": strided_size(size, IRN_STRIDE)}  # the finest first
    found = {
        name: _checked(content[name], (len(keys), *sizes[name]), name)
        for name in sizes
        if content.get(name) is not None
    }
    if not found:
        raise ValueError("it has keys, but neither high_res nor cam")
    return dict(zip(keys.tolist(), next(iter(found.values())), strict=True))


def _checked(values, shape, name):
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise ValueError(f"{name} is no array of floating-point numbers")
    if values.shape != tuple(shape):
        raise ValueError(f"{name} has the shape {values.shape}, its image needs {tuple(shape)}")
    with np.errstate(over="ignore"):
        values = np.asarray(values, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has values that are not finite")
    return values


# --- as CAMs of stage 0 ------------------------------------------------------------------------


def as_initial_cams(
    maps: Sequence[np.ndarray], size: tuple[int, int], normalise: str
) -> tuple[np.ndarray, bool]:
    """CAMs of a file as those of stage 0 are kept: float16 (K, ceil(H/8), ceil(W/8)).

    Negative values become 0. `normalise` tells whether the maps of the image are then divided by
    their spatial maximum + 1e-5 each, as the CAMs of the classifier are (paper, section 3.1):
    `always`, `never`, or `auto`: where one of them exceeds 1. Refined CAMs exceed 1 too, and what
    they are worth beside each other lies in their maxima: they want `never`.

    The grid is that of the paper's network, and not of the one that is configured, so that another
    network imports nothing again. Other tools' maps are coarse ones, interpolated to the size of
    the image: taking their values bilinearly at the centres of the cells undoes that, where
    averaging over cells would smooth them once more and lower their peaks.

    Args:
        maps: K maps of float32 (h, w).
        size: height and width of the image.
        normalise: auto, always or never.

    Returns:
        The CAMs, and whether they were divided.

    Raises:
        InputError: values that are not divided and too large for float16.
    """
    grid = strided_size(size, GRID_STRIDE)
    maps = [np.maximum(m, 0) for m in maps]
    highest = max((m.max() for m in maps), default=0)
    divided = normalise == "always" or (normalise == "auto" and highest > 1)
    if highest > LARGEST_CAM and not divided:
        raise InputError(
            f"the value {highest:.3g} is above {LARGEST_CAM}: set cam.files.normalise to auto"
        )
    cams = resize_maps(maps, grid)
    if divided:
        cams /= cams.max(axis=(1, 2), keepdims=True) + np.float32(1e-5)
    return cams.astype(np.float16), divided


@dataclass(frozen=True)
class ImportedCams:
    """The CAMs of an image's labels as keys (K ids 0..C-1) and float16 (K, ceil(H/8), ceil(W/8)).

    Called with a record it also tells how many maps of other classes the file has, and whether the
    maps were divided by their maxima; see `as_initial_cams` for that and for `normalise`.
    Picklable, so that processes can share the work. An image without labels needs no file.
    """

    index: DatasetIndex
    files: FilesPerImage
    normalise: str

    @classmethod
    def of_settings(cls, index: DatasetIndex, settings: CamFiles) -> "ImportedCams":
        """From the index and the section `cam.files`; InputError if there is no such folder."""
        files = FilesPerImage.of_settings(settings, "CAM files", "cam.files")
        return cls(index, files, settings.normalise)

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Look whether all files are there; InputError names the first few that are not."""
        self.files.check([record for record in records if record.labels])

    def __call__(self, record: ImageRecord) -> tuple[list[int], np.ndarray, bool, int]:
        size = (record.height, record.width)
        keys = [c for c, name in enumerate(self.index.classes) if name in record.labels]
        if not keys:
            return keys, *as_initial_cams([], size, self.normalise), 0
        path = self.files.path(record)
        numbers = file_classes(self.index)
        maps = read_cam_file(path, size)
        absent = [self.index.classes[key] for key in keys if numbers[key] not in maps]
        if absent:
            raise InputError(
                f"CAM file {path} has maps of the classes {listed(sorted(maps)) or 'none'}, and"
                f" none of {listed(absent)}, a label of image {record.image_id}"
                f" ({listed([numbers[self.index.classes.index(name)] for name in absent])} there):"
                " make the CAMs of these labels, or correct the labels"
            )
        wanted = [maps[numbers[key]] for key in keys]
        try:
            cams, divided = as_initial_cams(wanted, size, self.normalise)
        except InputError as error:
            raise InputError(f"CAM file {path}: {error}") from error
        return keys, cams, divided, len(maps) - len(keys)

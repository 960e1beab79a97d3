"""CAMs in the files of other tools: `<image id>.npy`, a dict that `np.save` has written.

PSA's (Ahn and Kwak, CVPR 2018; SEAM's and many others' too): class -> float32 (H, W), the size of
the image. IRN's (Ahn et al., CVPR 2019): `keys` (K), `cam` (K, ceil(H/4), ceil(W/4)) and
`high_res` (K, H, W), the first two being tensors of PyTorch. Others have IRN's with another name
for the maps at the size of the image: PuzzleCAM `hr_cam`, CLIP-ES `attn_highres`. Which it is shows
in the dict itself.

Their classes count from 0 in the order of the masks of the data set: what is c in a file is c + 1
in a mask. Of a data set that learns some of its classes only, these are not the ids here.
Some count the background as 0, and what is c in a file is c in a mask: PSA's after its CRF, a map
of the background among them, and PuzzleCAM's `keys`, which are then one more than the maps. They
are read so, by what shows it in the files (`counts_background`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsss.configuration.method_sections import CamFiles
from wsss.datasets.files_per_image import FilesPerImage
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError, listed, reason_of
from wsss.storage.files import atomic_path
from wsss.storage.pickles import read_npy_dict
from wsss.storage.pixels import resize_maps

IRN_STRIDE = 4
# Of dicts with `keys`, the maps at the size of the image: IRN, PuzzleCAM, CLIP-ES.
FULL_SIZE = ("high_res", "hr_cam", "attn_highres")
LOOKED_AT = 16  # files that tell whether those of a folder count the background
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
        raise ValueError(f"its dict has {listed(others, 5)}: neither classes 0, 1, .. nor keys")
    return {int(key): _checked(value, size, f"class {key}") for key, value in content.items()}


def _maps_of_irn(content, size):
    keys = np.asarray(content["keys"])
    if keys.ndim != 1 or keys.dtype.kind not in "iu":
        raise ValueError("keys are not the ids of classes, from 0 on")
    sizes = {**dict.fromkeys(FULL_SIZE, size), "cam": strided_size(size, IRN_STRIDE)}
    name = next((name for name in sizes if content.get(name) is not None), None)
    if name is None:
        raise ValueError(f"it has {listed(content, 8)}, but none of {', '.join(sizes)}")
    keys = keys.tolist()
    if keys[:1] == [0] and len(keys) == len(content[name]) + 1:  # PuzzleCAM
        keys = [key - 1 for key in keys[1:]]
    elif len(keys) != len(content[name]):
        raise ValueError(f"it has keys {listed(keys, 8)}, but {len(content[name])} maps {name}")
    for other in sizes:  # whichever is read, all are what they should be
        if content.get(other) is not None:
            _checked(content[other], (len(keys), *sizes[other]), other)
    return dict(zip(keys, _checked(content[name], (len(keys), *sizes[name]), name), strict=True))


def counts_background(
    maps: Mapping[int, np.ndarray], labels: Collection[int], classes: int
) -> bool | None:
    """Whether 0 is the background in a file's maps, and class c is c + 1 there.

    Probabilities of background and classes sum to 1 in each pixel, which CAMs never do. Else the
    keys tell: they are the labels of the image, or all classes, with a background or without.

    Args:
        maps: as `read_cam_file` returns them.
        labels: the numbers of the image's labels, counted without the background.
        classes: how many classes the masks of the data set have.

    Returns:
        None where the file fits both.
    """
    keys, with_background = set(maps), {0, *(label + 1 for label in labels)}
    if not with_background <= keys:
        return False if keys.issuperset(labels) else None
    if np.allclose(sum(maps.values()), 1, atol=0.01):
        return True
    if keys not in (with_background, set(range(classes + 1))):
        return False if keys.issuperset(labels) else None
    return True if classes in keys or not keys.issuperset(labels) else None


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
    With `background` the files count it as 0; one that shows the opposite is refused.
    """

    index: DatasetIndex
    files: FilesPerImage
    normalise: str
    background: bool = False

    @classmethod
    def of_settings(cls, index: DatasetIndex, settings: CamFiles) -> "ImportedCams":
        """From the index and the section `cam.files`; InputError if there is no such folder."""
        files = FilesPerImage.of_settings(settings, "CAM files", "cam.files")
        cams = cls(index, files, settings.normalise)
        labelled = [record for record in index.split("train") if record.labels]
        some = labelled[:: -(-len(labelled) // LOOKED_AT) or 1]
        return replace(cams, background=any(cams._shows_background(record) for record in some))

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Look whether all files are there; InputError names the first few that are not."""
        self.files.check([record for record in records if record.labels])

    def __call__(self, record: ImageRecord) -> tuple[list[int], np.ndarray, bool, int]:
        size = (record.height, record.width)
        keys = [c for c, name in enumerate(self.index.classes) if name in record.labels]
        if not keys:
            return keys, *as_initial_cams([], size, self.normalise), 0
        path = self.files.path(record)
        maps = self._maps(path, record)
        numbers = self._numbers(record)
        absent = [number for number in numbers if number not in maps]
        if absent:
            names = [self.index.classes[key] for key in keys if numbers[keys.index(key)] in absent]
            raise InputError(
                f"CAM file {path} has maps of the classes {listed(sorted(maps)) or 'none'}, and"
                f" none of {listed(names)}, a label of image {record.image_id}"
                f" ({listed(absent)} there): make the CAMs of these labels, or correct the labels"
            )
        try:
            cams, divided = as_initial_cams([maps[n] for n in numbers], size, self.normalise)
        except InputError as error:
            raise InputError(f"CAM file {path}: {error}") from error
        return keys, cams, divided, len(maps) - len(keys)

    def _numbers(self, record):
        """What stands for the labels of a record in files that do not count the background."""
        numbers = zip(self.index.classes, file_classes(self.index), strict=True)
        return [number for name, number in numbers if name in record.labels]

    def _evidence(self, maps, record):
        classes = len(self.index.mask_values) + len(self.index.other_values)
        return counts_background(maps, self._numbers(record), classes)

    def _shows_background(self, record):
        """Whether the file of a record counts the background; one that is damaged says nothing."""
        try:
            maps = read_cam_file(self.files.path(record), (record.height, record.width))
        except InputError:
            return False
        return self._evidence(maps, record) is True

    def _maps(self, path, record):
        """The maps of a file by class, counted without the background, of which there is none."""
        maps = read_cam_file(path, (record.height, record.width))
        shown = self._evidence(maps, record)
        if shown is not None and shown != self.background:
            one, other = ("background", "class") if shown else ("class", "background")
            raise InputError(
                f"CAM file {path} has the keys {listed(sorted(maps), 8)}, where 0 is a {one}; in"
                f" other files of its folder 0 is a {other}: make all of them with one tool"
            )
        return {key - 1: m for key, m in maps.items() if key} if self.background else maps

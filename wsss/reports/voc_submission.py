"""Archives for VOC's evaluation server: writing one, and finding what the server would refuse.

The server takes a tar.gz of `results/VOC2012/Segmentation/comp6_test_cls/<id>.png`, an indexed PNG
with VOC's palette and the values 0..20 for each test image (comp6: trained on other data too).
"""

import gzip
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from wsss.compute.progress import progress
from wsss.errors import InputError, listed, printable, reason_of
from wsss.storage.files import atomic_path
from wsss.storage.images import image_size
from wsss.storage.palette import palette_png, voc_palette

FOLDER = PurePosixPath("results/VOC2012/Segmentation/comp6_test_cls")
TEST_IMAGES = 1456  # of VOC 2012's segmentation task
CLASSES = 20  # without background
SHOWN = 3  # offenders named per kind of problem


def write_submission(
    path: Path,
    label_maps: Iterable[tuple[str, np.ndarray]],
    sizes: dict[str, tuple[int, int]],
) -> None:
    """Write an archive; equal label maps give equal bytes. It appears only if it passes the check.

    Args:
        path: where the tar.gz will lie.
        label_maps: image id and uint8 (H, W) of 0..20.
        sizes: image id -> (width, height) of the photograph, for all that must be in it.

    Raises:
        InputError: what the server would refuse.
    """
    files = {str(FOLDER / f"{name}.png"): palette_png(label) for name, label in label_maps}
    with atomic_path(path) as temporary:
        with (
            open(temporary, "wb") as file,
            # No name and no time: the same masks are the same bytes.
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
        ):
            for name in sorted(files):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(files[name]), 0o644
                archive.addfile(member, io.BytesIO(files[name]))
        problems = check_submission(temporary, sizes)
        if problems:
            raise InputError(f"{path} would be refused: {'; '.join(problems)}")


def check_submission(path: Path, sizes: dict[str, tuple[int, int]]) -> list[str]:
    """What VOC's server would refuse in an archive; nothing is extracted.

    Args:
        path: the archive.
        sizes: image id -> (width, height) of the photograph, for all that must be in it.

    Returns:
        A line per kind of problem with the first few offenders; empty if all is well.
    """
    found, problems = set(), defaultdict(list)
    try:
        with gzip.open(path) as packed, tarfile.open(fileobj=packed, mode="r:") as archive:
            for member in progress(archive, desc="checking", unit="mask", total=len(sizes)):
                kind, offender = _problem_of_member(archive, member, sizes, found)
                if kind:
                    problems[kind].append(offender)
            while packed.read(2**20):  # to the end, where gzip's checksum is
                pass
    except Exception as error:  # a damaged archive can raise nearly anything
        return [printable(f"no tar.gz, or damaged ({reason_of(error)}): {path}")]
    missing = [image_id for image_id in sizes if image_id not in found]
    if missing:
        problems[f"of {len(sizes)} masks missing"] = missing
    return [
        printable(f"{len(names)} {kind}: {listed(names, SHOWN)}")
        for kind, names in problems.items()
    ]


def photograph_sizes(image_ids: list[str], folder: Path) -> dict[str, tuple[int, int]]:
    """Image id -> (width, height) of `<id>.jpg`; InputError for what is missing or damaged."""
    return {
        image_id: image_size(Path(folder) / f"{image_id}.jpg")
        for image_id in progress(image_ids, desc="photographs", unit="image")
    }


def _problem_of_member(archive, member, sizes, found):
    """The kind of problem of a member, or None, and which it is; its image is added to `found`."""
    if member.isdir():  # an empty one does no harm: VOC's kit has them for all its tasks
        return None, None
    name = member.name.removeprefix("./")  # as `tar czf x.tgz ./results` writes it
    image_id = PurePosixPath(name).stem
    if name != f"{FOLDER}/{image_id}.png":
        return f"files that are not {FOLDER}/<image id>.png", name
    if image_id not in sizes:
        return "masks of images that are not in the list", name
    if image_id in found:
        return "masks that are there already", name
    found.add(image_id)
    if not member.isreg():
        return "masks that are links, not files", name
    kind, detail = _problem_of_mask(archive.extractfile(member).read(), sizes[image_id])
    return kind, f"{image_id}.png{detail}"


def _problem_of_mask(content, size):
    """The kind of problem of a PNG, or None, and what to add to its name."""
    try:
        _opened(content).verify()  # a PNG that is cut off in its end can still be decoded
        with _opened(content) as image:
            if image.size != size:
                sides = "{}x{}, its photograph {}x{}".format(*image.size, *size)
                return "masks of another size than the photograph", f" ({sides})"
            if image.mode != "P":
                return "masks that are not indexed (mode P)", f" (mode {image.mode})"
            return _problem_of_values(np.asarray(image), image.getpalette())
    except Exception:  # a damaged file can raise nearly anything
        return "masks that are no PNG, or damaged", ""


def _opened(content):
    return Image.open(io.BytesIO(content), formats=["PNG"])


def _problem_of_values(values, colours):
    highest = int(values.max())
    if highest > CLASSES:
        return f"masks with values outside of 0..{CLASSES}", f" ({highest})"
    palette = np.array(colours, np.uint8).reshape(-1, 3)
    if len(palette) <= highest or not np.array_equal(palette, voc_palette()[: len(palette)]):
        return "masks with another palette than VOC's", ""
    return None, ""

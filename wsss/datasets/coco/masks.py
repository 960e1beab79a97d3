"""Ground truth painted from COCO's outlines, in two orders that give different masks.

`smallest_on_top`: first all crowd regions (iscrowd 1) as 255, so that an object outlined within a
crowd stays known; then the objects from the largest `area` of the file to the smallest. Of equal
areas the one that stands later in the file lies on top.
`annotation_order`: objects in the order of the file, each over those before it; crowds are left
out, so that what only a crowd covers is background.

Values are 0 for background and 1, 2, ... for the file's categories by ascending id. Polygons and
RLEs become pixels as `COCO.annToMask` makes them. A polygon of fewer than three points has no
area and paints nothing. A crowd's RLE of another size than its image, as COCO has some, is
stretched to the image; an object's is refused.

Masks lie in `<masks_folder>/<order>/<stem of the file>-<digits of its digest>/<image id>.png`,
one for every image of the file, whatever lists and classes choose from it. `manifest.json` beside
them says what they were made from. It is written last: masks without it are made again.
"""

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import cv2
import numpy as np

from model.labels import IGNORE
from wsss.compute.parallel import map_images
from wsss.configuration.data_sections import Coco
from wsss.datasets.coco.annotations import Annotations
from wsss.errors import InputError, listed, reason_of
from wsss.storage.files import atomic_path, sha256_of
from wsss.storage.palette import write_palette_png

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PAINTING = 1  # to be counted up when the same file would give other masks
DIGITS = 12  # of the digest, in the name of a folder
SECONDS_PER_MASK = 0.005  # on one core; COCO's images take 3.5 ms


class Region(NamedTuple):
    """An annotation to paint: `value` of its category, `area` and `segmentation` of the file.

    Without an `area` that of the outline counts.
    """

    number: int
    value: int
    crowd: bool
    area: float | None
    segmentation: list | dict


class ImageToPaint(NamedTuple):
    image_id: str
    width: int
    height: int
    regions: list[Region]


# --- painting ----------------------------------------------------------------------------------


def paint(regions: list[Region], height: int, width: int, order: str) -> np.ndarray:
    """Paint regions, which come as in the file, as a mask: uint8 (height, width), 255 for crowds.

    Raises:
        InputError: names the annotation whose outline is broken.
    """
    mask = np.zeros((height, width), np.uint8, order="F")  # RLEs run down the columns
    regions = [_with_area(region, height, width) for region in regions]
    for region in _in_order(regions, order):
        covered = _pixels(region, height, width)
        np.copyto(mask, IGNORE if region.crowd else region.value, where=covered)
    return np.ascontiguousarray(mask)


def check_outlines(annotations: Annotations) -> None:
    """Look whether all outlines can be painted, which takes a hundredth of painting them.

    Raises:
        InputError: names the first few that cannot.
    """
    problems = []
    for image in _ImagesToPaint(annotations):
        for region in image.regions:
            try:
                _checked(region, image.height, image.width)
            except InputError as error:
                problems.append(error)
    if problems:
        raise InputError(f"{annotations.path}, {listed(problems, 3, '; ')}")


def _with_area(region, height, width):
    if region.area is not None:
        return region
    return region._replace(area=int(_pixels(region, height, width).sum()))


def _in_order(regions, order):
    objects = [region for region in regions if not region.crowd]
    if order == "annotation_order":
        return objects
    crowds = [region for region in regions if region.crowd]
    return crowds + sorted(objects, key=lambda region: -region.area)  # stable: ties as in the file


def _pixels(region, height, width):
    """The pixels of a region as bool (height, width)."""
    from pycocotools import mask as rle_of  # here, so that other data sets do without it

    found = _checked(region, height, width)
    if isinstance(found, np.ndarray):
        return found
    if not found:
        return np.zeros((height, width), bool)
    return rle_of.decode(rle_of.merge(rle_of.frPyObjects(found, height, width))).astype(bool)


def _checked(region, height, width):
    """The pixels of an RLE, or the polygons of a region; InputError names what is broken."""
    from pycocotools import mask as rle_of  # as above

    try:
        if isinstance(region.segmentation, dict):
            return _pixels_of_rle(region, height, width, rle_of)
        return _checked_polygons(region.segmentation, height, width)
    except InputError as error:
        raise InputError(f"annotation {region.number}: {error}") from error


def _pixels_of_rle(region, height, width, rle_of):
    rle = region.segmentation
    try:
        size = rle["size"]
        if isinstance(rle["counts"], list):  # else they are a text, as pycocotools writes it
            rle = rle_of.frPyObjects(rle, *size)
        covered = rle_of.decode(rle)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"its RLE cannot be read ({reason_of(error)}): correct it") from error
    # What no run reaches, the decoder leaves as it was in memory.
    if covered.sum() != rle_of.area(rle):
        raise InputError("the run lengths of its RLE do not add up to its size: correct it")
    if size == [height, width]:
        return covered.astype(bool)
    if not region.crowd:
        raise InputError(f"its RLE is {size[1]}x{size[0]}, its image {width}x{height}: correct it")
    return cv2.resize(covered, (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def _checked_polygons(polygons, height, width):
    """Those of at least three points. Far coordinates would make the library ask for memory."""
    sides = np.array([width, height])
    try:
        outlines = [np.array(polygon, float).reshape(-1, 2) for polygon in polygons]
    except (TypeError, ValueError) as error:
        raise InputError("a polygon is no list x1, y1, x2, y2, ...: correct it") from error
    for points in outlines:
        # Comparisons with "not a number" are false.
        if not ((-sides <= points) & (points <= 2 * sides)).all():
            raise InputError(f"a polygon leads far out of its image, {width}x{height}: correct it")
    return [points.ravel() for points in outlines if len(points) >= 3]


# --- folders of masks --------------------------------------------------------------------------


def folder_of_masks(coco: Coco, path: Path, digest: str) -> PurePosixPath:
    """Where the masks of an annotation file lie, below the root; `digest` is its SHA-256.

    Raises:
        InputError: `dataset.coco.masks_folder` leads out of the root.
    """
    folder = PurePosixPath(coco.masks_folder)
    if folder.is_absolute() or ".." in folder.parts:
        raise InputError(
            f"dataset.coco.masks_folder: {folder} leads out of dataset.root: name a folder below it"
        )
    return folder / coco.masks / f"{path.stem}-{digest[:DIGITS]}"


def digest_of_annotations(path: Path, masks_folder: Path) -> str:
    """SHA-256 of an annotation file, hexadecimal.

    COCO's have 0.6 GB, and every call of the workflow asks: a manifest in `masks_folder` that was
    written for a file of this name, size and time is believed.
    """
    identity = _identity_of(path)
    for manifest in masks_folder.glob(f"*/{escape(path.stem)}-*/{MANIFEST}"):
        source = read_manifest(manifest.parent).get("annotations", {})
        if identity.items() <= source.items():
            return source["sha256"]
    return sha256_of(path)


def make_masks(
    annotations: Annotations, digest: str, folder: Path, order: str, processes: int
) -> None:
    """Paint the masks of an annotation file into `folder`, unless they are there already.

    `digest` is the file's SHA-256. Images are painted on `processes` processes; memory does not
    grow with their number.

    Raises:
        InputError: names the outline that is broken, or the folder that cannot be written.
    """
    wanted = {
        "painting": PAINTING,
        "variant": order,  # its name in the manifests that there are
        "images": len(annotations.images),
        "annotations": {"sha256": digest},
    }
    try:
        if _are_made(folder, wanted, annotations):
            log.info("masks: %s, made before", folder)
            _remember_time(folder, annotations.path)
        else:
            _make(annotations, folder, wanted, processes)
    except OSError as error:
        raise InputError(unwritable(folder, error.strerror or str(error))) from error


def unwritable(folder: Path, reason: str = "no permission") -> str:
    """The complaint about a folder that masks have to be written to."""
    return (
        f"dataset.coco.masks_folder: masks cannot be written to {folder} ({reason}): make that"
        " folder writable, or set dataset.root to a folder of your own with links to images and"
        " annotations"
    )


def _make(annotations, folder, wanted, processes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    content = hashlib.sha256()
    painter = _Painter(folder, wanted["variant"], annotations.path)
    images = _ImagesToPaint(annotations)
    desc = f"painting masks of {annotations.path.stem}"
    for digest in map_images(painter, images, processes, desc):
        content.update(digest)
    source = wanted["annotations"] | _identity_of(annotations.path)
    _write_manifest(folder, wanted | {"sha256": content.hexdigest(), "annotations": source})


def _are_made(folder, wanted, annotations):
    manifest = read_manifest(folder)
    sources = manifest.pop("annotations", {})
    rest = {key: value for key, value in wanted.items() if key != "annotations"}
    if not wanted["annotations"].items() <= sources.items() or not rest.items() <= manifest.items():
        return False
    there = {path.name for path in folder.iterdir()}
    return all(f"{image.image_id}.png" in there for image in annotations.images)


def _remember_time(folder, path):
    """The same file may have a new time, after a copy; it is then not hashed at every call."""
    manifest, identity = read_manifest(folder), _identity_of(path)
    if not identity.items() <= manifest["annotations"].items():
        manifest["annotations"] |= identity
        with suppress(OSError):
            _write_manifest(folder, manifest)


def _identity_of(path):
    stat = path.stat()
    return {"file": path.name, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _write_manifest(folder, manifest):
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder; an empty one where there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


class _ImagesToPaint:
    """The images of an annotation file, each put together when it is asked for."""

    def __init__(self, annotations):
        self.annotations = annotations

    def __len__(self):
        return len(self.annotations.images)

    def __iter__(self):
        for image in self.annotations.images:
            yield ImageToPaint(
                image.image_id, image.width, image.height, self._regions(image.number)
            )

    def _regions(self, number):
        return [
            Region(
                entry["id"],
                self.annotations.values[entry["category_id"]],
                entry["iscrowd"] == 1,
                entry["area"],
                entry["segmentation"],
            )
            for entry in self.annotations.of_image.get(number, ())
        ]


@dataclass(frozen=True)
class _Painter:
    """Paints an image into the folder and returns the SHA-256 of its pixels."""

    folder: Path
    order: str
    source: Path

    def __call__(self, image):
        try:
            mask = paint(image.regions, image.height, image.width, self.order)
        except InputError as error:
            raise InputError(f"{self.source}, {error}") from error
        write_palette_png(self.folder / f"{image.image_id}.png", mask)
        return hashlib.sha256(mask.tobytes()).digest()

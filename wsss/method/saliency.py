"""Class-agnostic saliency from off-the-shelf sources, by name.

A kind of source is a class with `files(settings, key)`, which names the files that its maps depend
on, `__init__(settings, key)`, where `key` is what the settings are called in the configuration,
`check(records)`, which refuses what cannot be had before anything is computed, and
`predict(record, image)`. A further kind is added in these places and no others:

- here: the class, and its entry in `KINDS`;
- `wsss/configuration/data_sections.py`: a section with its settings, in `Source` and in `Saliency`.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from wsss.configuration import data_sections
from wsss.configuration.paths import fetching, weights_path
from wsss.datasets.files_per_image import FilesPerImage
from wsss.datasets.index import ImageRecord
from wsss.errors import InputError, listed
from wsss.storage.images import read_grey
from wsss.storage.pixels import resize_map

INPUT_SIDE = 320  # pixels; the size U^2-Net was trained at
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
SALIENT = 15  # of 255: what is not above stays below the usual threshold, 0.06


class U2Net:
    """U^2-Net or U^2-Netp (Qin et al., Pattern Recognition 2020), run from its ONNX file."""

    @staticmethod
    def files(settings: data_sections.U2netp | data_sections.U2net, key: str) -> list[str]:
        """The ONNX file."""
        return [str(weights_path(settings.weights, f"{key}.weights"))]

    def __init__(self, settings: data_sections.U2netp | data_sections.U2net, key: str):
        """Raises InputError if the file is absent or is no network that OpenCV can read."""
        key = f"{key}.weights"
        path = weights_path(settings.weights, key)
        if not path.is_file():
            raise InputError(f"{key}: {path} does not exist: {fetching(path)}")
        try:
            self.network = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise InputError(
                f"{key}: {path} is not a readable ONNX network: delete it and {fetching(path)}"
            ) from error
        # Seven outputs, the fused map first, then the side outputs.
        self.output = self.network.getUnconnectedOutLayersNames()[0]

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Nothing to look for: the maps are computed."""

    def predict(self, record: ImageRecord, image: np.ndarray) -> np.ndarray:
        """Saliency of an RGB image uint8 (H, W, 3) as uint8 (H, W), stretched to 0..255.

        The processing is that of the rembg project: 320x320, values over the image's maximum,
        ImageNet mean and standard deviation, first output, minimum to maximum. An image on which
        the network says the same everywhere gives zeros.
        """
        # The network is sensitive to aliasing: Pillow's filter, OpenCV has none for shrinking.
        square = Image.fromarray(image).resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.LANCZOS)
        values = np.asarray(square, np.float32)
        values = (values / max(values.max(), 1.0) - IMAGENET_MEAN) / IMAGENET_STD
        self.network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32))
        response = self.network.forward(self.output)[0, 0]
        return np.rint(255 * resize_map(_stretched(response), image.shape[:2])).astype(np.uint8)


class ReadyMaps:
    """Maps that some other tool made: a folder of 8-bit grey PNGs, named by a pattern.

    Some tools write grey as three equal channels, which shows when the pixels are read.
    """

    @staticmethod
    def files(settings: data_sections.Maps, key: str) -> list[str]:
        """None: there may be thousands, and the artifact made of them holds their very values."""
        return []

    def __init__(self, settings: data_sections.Maps, key: str):
        """Raises InputError if there is no such folder."""
        self.maps = FilesPerImage.of_settings(settings, "saliency maps", key)

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Look at all files' headers; InputError lists the first few that cannot be used."""
        self.maps.check(records)
        complaints = [text for record in records if (text := self._complaint(record))]
        if complaints:
            raise InputError(
                f"unusable saliency maps in {self.maps.folder}: {listed(complaints)}; save them as"
                " 8-bit grey PNGs of the size of their images"
            )

    def predict(self, record: ImageRecord, image: np.ndarray | None) -> np.ndarray:
        """The ready map of `record` as uint8 (H, W); InputError as `check`, or if damaged."""
        self.check([record])
        return read_grey(self.maps.path(record))

    def _complaint(self, record):
        path = self.maps.path(record)
        name = path.relative_to(self.maps.folder)
        header = _png_header(path)
        if header is None:
            return f"{name} is not a PNG"
        width, height, bits, colour = header
        if bits != 8 or colour not in PNG_COLOUR_TYPES:
            kind = PNG_COLOUR_TYPES.get(colour, "unknown colour type")
            return f"{name} is {bits}-bit {kind}"
        if (width, height) != (record.width, record.height):
            return f"{name} is {width}x{height}, its image {record.width}x{record.height}"
        return None


class CentrePrior:
    """A Gaussian at the centre of every image, whatever it shows: the end of the range."""

    @staticmethod
    def files(settings: data_sections.CentrePrior, key: str) -> list[str]:
        """None."""
        return []

    def __init__(self, settings: data_sections.CentrePrior, key: str):
        self.spread = settings.spread

    def check(self, records: Sequence[ImageRecord]) -> None:
        """Nothing to look for: the maps are computed."""

    def predict(self, record: ImageRecord, image: np.ndarray) -> np.ndarray:
        """The prior for an image (H, W, 3) as uint8 (H, W), 255 at its centre."""
        rows, columns = (
            np.exp(-(((np.arange(side) + 0.5) / side - 0.5) ** 2) / (2 * self.spread**2))
            for side in image.shape[:2]
        )
        return np.rint(255 * np.outer(rows, columns)).astype(np.uint8)


KINDS = {"u2netp": U2Net, "u2net": U2Net, "maps": ReadyMaps, "centre_prior": CentrePrior}


def create_source(name: str, source: data_sections.Source) -> U2Net | ReadyMaps | CentrePrior:
    """A source by its name and settings. Raises InputError for what it refuses."""
    return KINDS[source.kind](source.settings, data_sections.source_key(name, source.kind))


def source_files(name: str, source: data_sections.Source) -> list[str]:
    """Files that a source's maps depend on, as its settings name them.

    Nothing is opened: the workflow asks before there is a job.
    """
    return KINDS[source.kind].files(source.settings, data_sections.source_key(name, source.kind))


class DarkMaps(NamedTuple):
    """What is wrong with many ready maps, and whether it is most of them."""

    most: bool
    message: str


def dark_maps(highest: Mapping[str, int]) -> DarkMaps | None:
    """Maps in which nothing is salient, from the highest value (0..255) of each, by image id.

    One photograph may show nothing that stands out. Most of them do not: then the maps are in
    other units, as those of 0 and 1.
    """
    dark = [image_id for image_id, value in highest.items() if value <= SALIENT]
    if not dark:
        return None
    most, top = len(dark) > max(1, len(highest) / 2), max(highest.values())
    message = (
        f"in {len(dark)} of {len(highest)} maps nothing is salient, no value being above {SALIENT}"
        f" of 255: {listed(dark, 3)}"
    )
    if most:
        message += f"; the highest value of all is {top}: save them with 0 to 255, 255 for salient"
    return DarkMaps(most, message)


def _stretched(response):
    lowest, highest = response.min(), response.max()
    if not highest > lowest:
        return np.zeros_like(response)
    return (response - lowest) / (highest - lowest)


def _png_header(path):
    """Width, height, bit depth and colour type from a PNG's first chunk; None if it is no PNG."""
    with open(path, "rb") as file:
        start = file.read(26)
    if len(start) < 26 or not start.startswith(PNG_SIGNATURE):
        return None
    return struct.unpack(">IIBB", start[16:26])

"""CVAT's format "segmentation mask 1.1": VOC's layout in the colours of the labels, zipped.

`labelmap.txt` gives each label its colour. `SegmentationClass/<name>.png` has the labels of an
image in these colours, `SegmentationObject/<name>.png` its objects in colours of their own, and
`ImageSets/Segmentation/default.txt` lists the names, which are those of the images without their
extension.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from wsss.errors import InputError, listed, printable, reason_of
from wsss.storage.images import read_colours

LABELMAP = "labelmap.txt"
NAMES = "ImageSets/Segmentation/default.txt"
CLASS_MASKS = "SegmentationClass"
OBJECT_MASKS = "SegmentationObject"
# label:red,green,blue:parts:actions. A label may hold a colon.
LINE = re.compile(r"(.+?):(\d+),(\d+),(\d+)(:[^:]*){0,2}")


class CvatMasks:
    """The masks of such a zip, or of a folder that one was unpacked to.

    `members` are the class masks by name, as paths within. Picklable, so that processes can share
    the work.

    Raises:
        InputError: there is no such zip, or it has not what the format says.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            root = _root(path)
            text = (root / LABELMAP).read_text(encoding="utf-8")
            members = sorted(_pngs_in(root, CLASS_MASKS))
        except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} cannot be read as CVAT's segmentation mask 1.1 ({reason_of(error)}):"
                f" export the task in that format; it has {LABELMAP} and {CLASS_MASKS}"
            ) from error
        self.members = {PurePosixPath(member).stem: member for member in members}
        if len(self.members) < len(members):
            raise InputError(f"{path}: two masks have the same name in different folders")
        self.labels, self.colours = _read_labelmap(text, f"{path}, {LABELMAP}")

    def read(self, name: str, class_ids: dict[str, int]) -> np.ndarray:
        """The mask of a name as uint8 class ids (H, W), by the ids of the labels.

        Raises:
            InputError: it is no image, or has a colour or label that stands for nothing.
        """
        file = _root(self.path) / self.members[name]
        rgb = read_colours(file).astype(np.int64)
        packed = rgb @ (1 << 16, 1 << 8, 1)
        places = np.searchsorted(self.colours, packed).clip(max=len(self.colours) - 1)
        found = np.unique(places)
        if (self.colours[places] != packed).any():
            colour = rgb[self.colours[places] != packed][0]
            raise InputError(
                f"mask {file} has the colour {','.join(map(str, colour))}, which"
                f" {LABELMAP} does not name: export the task again"
            )
        unknown = [self.labels[place] for place in found if self.labels[place] not in class_ids]
        if unknown:
            raise InputError(
                f"mask {file}: {listed(map(repr, unknown))} is no class of the data set"
                f" ({listed(class_ids)}): rename the label, or remove it from the image"
            )
        return np.array([class_ids.get(label, 0) for label in self.labels], np.uint8)[places]


def _root(path: Path) -> Path | zipfile.Path:
    """What paths within start from. An open zip cannot be pickled."""
    return path if path.is_dir() else zipfile.Path(path)


def _pngs_in(root, folder) -> Iterator[str]:
    """Paths of the PNGs in a folder and those in it: CVAT keeps the folders of its images."""
    for path in (root / folder).iterdir():
        member = f"{folder}/{path.name}"
        if path.is_dir():
            yield from _pngs_in(root, member)
        elif path.name.lower().endswith(".png") and not path.name.startswith("."):
            yield member


def _read_labelmap(text, where):
    """Labels, and their colours as red << 16 | green << 8 | blue, by ascending colour."""
    colours = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = LINE.fullmatch(line.strip())
        if not parts or max(map(int, parts.group(2, 3, 4))) > 255:
            raise InputError(
                f"{where}, line {number}: {printable(line)!r} is no label:red,green,blue::"
            )
        colour = int(np.dot([int(value) for value in parts.group(2, 3, 4)], (1 << 16, 1 << 8, 1)))
        if colour in colours:
            raise InputError(
                f"{where}, line {number}: {colours[colour]!r} and {parts[1]!r} have the same"
                " colour: give the labels different ones"
            )
        colours[colour] = parts[1]
    if not colours:
        raise InputError(f"{where} names no label: export the task again")
    return [colours[colour] for colour in sorted(colours)], np.array(sorted(colours))


def labelmap(labels: list[str], palette: np.ndarray) -> str:
    """The text of `labelmap.txt`: the colour of a label is that of its place in a palette."""
    lines = ["# label:color_rgb:parts:actions"]
    for label, colour in zip(labels, palette, strict=False):
        lines.append(f"{label}:{','.join(map(str, colour))}::")
    return "\n".join(lines) + "\n"

"""Pictures for people: label maps in colour, heat maps, panels of captioned tiles.

Everything takes and returns numpy arrays; a picture is uint8 RGB (H, W, 3). Maps are brought to
the size at which they are shown before they are coloured, so that hatching and outlines stay
sharp. No training or inference module imports this one: a prettier picture retrains nothing.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model.labels import IGNORE
from wsss.errors import InputError, reason_of
from wsss.storage.files import atomic_path
from wsss.storage.palette import voc_palette
from wsss.storage.pixels import Size, scaled_size

IGNORED_COLOURS = ((238, 238, 238), (176, 176, 176))  # ground and lines of the hatching
HATCH_PERIOD = 8  # pixels
VOC_VALUES = 21  # background and classes
DARK = 30  # lightness, of 100, below which a colour is hard to see beside background's black
INK, FAINT, PAPER = (25, 25, 25), (120, 120, 120), (255, 255, 255)
FONT_SIZE, SMALLEST_FONT = 13, 10
CAPTION_HEIGHT = 20
GAP = 6
MARGIN = 10
SWATCH = 13
HEAT_OPACITY = 0.55
CROSS, CROSS_SIZE = (0, 200, 0), 17

# --- maps in colour ------------------------------------------------------------------------------


@cache
def class_palette() -> np.ndarray:
    """The colours of class ids as uint8 (256, 3): VOC's own, then as different ones as there are.

    VOC's palette would go on in nearly the same colours: of COCO's 80 classes bus and oven would
    look alike, and a laptop like background. So each further colour is the one of a grid, without
    its dark ones, that is farthest from all before it, and from paper and hatching.
    """
    palette = voc_palette()
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    grid = grid[_lab(grid)[:, 0] > DARK]
    places = _lab(grid)
    taken = _lab(np.uint8([*palette[:VOC_VALUES], PAPER, *IGNORED_COLOURS]))
    nearest = np.linalg.norm(places[:, None] - taken, axis=-1).min(axis=1)
    for value in range(VOC_VALUES, IGNORE):
        chosen = nearest.argmax()
        palette[value] = grid[chosen]
        nearest = np.minimum(nearest, np.linalg.norm(places - places[chosen], axis=-1))
    palette.flags.writeable = False
    return palette


def _lab(colours):
    """Colours (N, 3) in CIELAB, where distance is how different they look."""
    # Of bytes OpenCV makes the same bytes on every machine; L is 0..255 there instead of 0..100.
    return cv2.cvtColor(colours[None], cv2.COLOR_RGB2LAB)[0] * (100 / 255, 1, 1)


def colourise(labels: np.ndarray) -> np.ndarray:
    """Class ids (H, W) as a picture in `class_palette`; 255 is hatched grey, not VOC's cream."""
    picture = class_palette()[labels]
    ignored = labels == IGNORE
    picture[ignored] = _hatching(labels.shape)[ignored]
    return picture


def overlay(image: np.ndarray, labels: np.ndarray, alpha: float) -> np.ndarray:
    """A photograph with objects tinted in their class colour and outlined; background as it is.

    Args:
        image: uint8 RGB (H, W, 3).
        labels: class ids (H, W).
        alpha: opacity of the tint, 0..1; outlines are opaque.
    """
    colours = colourise(labels)
    weight = np.where(labels == 0, 0.0, alpha)
    kernel = np.ones((3, 3), np.uint8)
    weight[(cv2.erode(labels, kernel) != cv2.dilate(labels, kernel)) & (labels != 0)] = 1.0
    return _blend(image, colours, weight[..., None])


def heat(values: np.ndarray) -> np.ndarray:
    """Values 0..1 (H, W) from dark blue over green to red; values outside are clipped."""
    return _byte(matplotlib.colormaps["turbo"](np.clip(values, 0.0, 1.0))[..., :3])


def heat_overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A heat map (values 0..1, (H, W)) laid over a greyed photograph of the same size."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, heat(values), HEAT_OPACITY)


def with_cross(picture: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """A picture with a green cross, edged in white, at (x, y) in widths and heights of it."""
    height, width = picture.shape[:2]
    place = (int(point[0] * (width - 1)), int(point[1] * (height - 1)))
    marked = picture.copy()
    for colour, thickness in ((PAPER, 5), (CROSS, 2)):
        cv2.drawMarker(marked, place, colour, cv2.MARKER_CROSS, CROSS_SIZE, thickness)
    return marked


def grey(values: np.ndarray) -> np.ndarray:
    """Values 0..1 (H, W) as a grey picture, 1 being white."""
    return np.repeat(_byte(np.clip(values, 0.0, 1.0))[..., None], 3, axis=2)


def _hatching(size):
    rows, columns = np.indices(size)
    lines = (rows + columns) % HATCH_PERIOD < 2
    return np.uint8(IGNORED_COLOURS)[lines.astype(int)]


def _blend(below, above, weight):
    mixed = below * (1.0 - weight) + above * np.float64(weight)
    return np.rint(mixed).astype(np.uint8)


def _byte(values):
    return np.rint(np.asarray(values, np.float64) * 255).astype(np.uint8)


# --- legends and panels --------------------------------------------------------------------------


def fitted_size(size: Size, box: Size) -> Size:
    """The size that fills `box` with the shape of `size`."""
    scale = min(box[0] / size[0], box[1] / size[1])
    return scaled_size(size, scale)


def legend_entries(ids: Iterable[int], classes: Sequence[str]) -> list[tuple[int, str]]:
    """What a legend says: (id, name) of each class id that occurs, in ascending order.

    Args:
        ids: ids as in label maps: 0 background, 1..C, 255 ignored.
        classes: names of the C object classes.
    """
    return [(i, class_name(i, classes)) for i in sorted({int(i) for i in ids})]


def class_name(label: int, classes: Sequence[str]) -> str:
    """The name of an id in a label map."""
    if label == 0:
        return "background"
    if label == IGNORE:
        return "ignored"
    return classes[label - 1] if label <= len(classes) else f"unknown class {label}"


def legend(entries: Iterable[tuple[int, str]], width: int) -> np.ndarray:
    """A strip (h, width, 3) of colour swatches with names, on as many lines as they need."""
    places, x, line = [], MARGIN, 0
    for label, name in entries:
        needed = SWATCH + 6 + math.ceil(_font().getlength(name)) + 16
        if x > MARGIN and x + needed > width - MARGIN:
            x, line = MARGIN, line + 1
        places.append((x, line * (SWATCH + 9) + 4, label, name))
        x += needed
    canvas = Image.new("RGB", (width, (line + 1) * (SWATCH + 9) + 4), PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, y, label, name in places:
        swatch = colourise(np.full((SWATCH, SWATCH), label, np.uint8))
        canvas.paste(Image.fromarray(swatch), (x, y))
        draw.rectangle((x, y, x + SWATCH - 1, y + SWATCH - 1), outline=FAINT)
        room = width - MARGIN - x - SWATCH - 6
        draw.text((x + SWATCH + 6, y + SWATCH // 2), _cut(name, room), INK, _font(), anchor="lm")
    return np.array(canvas)


@dataclass(frozen=True)
class Tile:
    """A picture with a caption above it; a picture of None leaves the place empty."""

    picture: np.ndarray | None
    caption: str = ""


def panels(rows: Sequence[Sequence[Tile]], tile_width: int) -> np.ndarray:
    """Rows of tiles as one picture: columns aligned, pictures centred in their places.

    Args:
        rows: may be of different length. One without any caption takes no room for captions.
        tile_width: width of a column in pixels; no picture is wider.
    """
    columns = max(len(row) for row in rows)
    width = 2 * MARGIN + columns * tile_width + (columns - 1) * GAP
    return np.vstack([_row(row, tile_width, width) for row in rows])


def panel_tile_width(columns: int, width: int) -> int:
    """The tile width at which `columns` columns make a panel at most `width` wide."""
    return (width - 2 * MARGIN - (columns - 1) * GAP) // columns


def _row(tiles, tile_width, width):
    top = CAPTION_HEIGHT if any(tile.caption for tile in tiles) else 0
    height = max((t.picture.shape[0] for t in tiles if t.picture is not None), default=0)
    canvas = Image.new("RGB", (width, top + height + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = _caption_font([tile.caption for tile in tiles], tile_width)
    for number, tile in enumerate(tiles):
        x = MARGIN + number * (tile_width + GAP)
        caption = _cut(tile.caption, tile_width, font)
        draw.text((x + tile_width // 2, top // 2), caption, INK, font, anchor="mm")
        if tile.picture is not None:
            free = (tile_width - tile.picture.shape[1], height - tile.picture.shape[0])
            place = (x + free[0] // 2, top + free[1] // 2)
            canvas.paste(Image.fromarray(tile.picture), place)
    return np.array(canvas)


def _caption_font(captions, width):
    """The largest font in which every caption fits; the smallest if none does."""
    fonts = [_font(size) for size in range(FONT_SIZE, SMALLEST_FONT - 1, -1)]
    fitting = (f for f in fonts if all(f.getlength(caption) <= width for caption in captions))
    return next(fitting, fonts[-1])


def title(text: str, width: int) -> np.ndarray:
    """A headline as a strip (h, width, 3); text that is too long is cut."""
    canvas = Image.new("RGB", (width, 32), PAPER)
    font = _font(FONT_SIZE + 3, bold=True)
    text = _cut(text, width - 2 * MARGIN, font)
    ImageDraw.Draw(canvas).text((MARGIN, 18), text, INK, font, anchor="lm")
    return np.array(canvas)


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, filled up with white to the widest."""
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack([_widened(picture, width) for picture in pictures])


def _widened(picture, width):
    missing = width - picture.shape[1]
    return np.pad(picture, ((0, 0), (0, missing), (0, 0)), constant_values=255)


@cache
def _font(size=FONT_SIZE, bold=False):
    # matplotlib brings this font along, so that pictures look the same on every machine.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _cut(text, width, font=None):
    font = font or _font()
    text = "".join(c if c.isprintable() else "?" for c in text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def save_picture(
    path: str | Path, picture: np.ndarray, max_bytes: int | None = None, quality: int = 92
) -> None:
    """Write a picture as PNG or JPEG (of this quality), by the name of the file, or not at all.

    With `max_bytes`, a PNG that is larger gets a palette of 256 colours of its own.

    Raises:
        InputError: the name is of neither kind, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{path}: a picture ends in .png or .jpg; choose such a name")
    image = Image.fromarray(picture)
    try:
        with atomic_path(path) as temporary:
            image.save(temporary, optimize=True, quality=quality)
            if max_bytes and path.suffix == ".png" and temporary.stat().st_size > max_bytes:
                image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(
                    temporary, optimize=True
                )
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason_of(error)})") from error

"""A picture of what an artifact holds on an image."""

import numpy as np

from wsss.errors import InputError
from wsss.reports import drawing
from wsss.reports.drawing import Tile
from wsss.reports.inspection import Artifact
from wsss.storage.pixels import resize_image, resize_labels, resize_map

COLUMNS = 4
TILE_WIDTH = 320


def draw_image(
    artifact: Artifact, image_id: str, image: np.ndarray | None, truth: np.ndarray | None
) -> np.ndarray:
    """A grid of the photograph, the maps of one image and its ground truth, with a legend; RGB.

    Args:
        image: uint8 RGB (H, W, 3), or None: then the maps stand alone.
        truth: class ids, uint8 (H, W), or None.

    Raises:
        InputError: the artifact lacks the image, or holds nothing of it that can be drawn.
    """
    arrays, attributes = artifact.read(image_id)
    box = (TILE_WIDTH, TILE_WIDTH)
    size = drawing.fitted_size(_image_size(arrays, attributes, image), box)
    shown = None if image is None else resize_image(image, size)
    tiles = [] if shown is None else [Tile(shown, "image")]
    seen = set()
    for name, array in arrays.items():
        tiles += _tiles(artifact, name, array, attributes, size, shown)
        seen.update(np.unique(array).tolist() if artifact.is_label_map(name) else ())
    if truth is not None:
        tiles.append(Tile(drawing.colourise(resize_labels(truth, size)), "ground truth"))
        seen.update(np.unique(truth).tolist())
    return _page(f"{image_id} · {_origin(artifact)}", tiles, seen, artifact.classes)


def _image_size(arrays, attributes, image):
    if image is not None:
        return image.shape[:2]
    return tuple(attributes.get("size") or next(iter(arrays.values())).shape[-2:])


def _tiles(artifact, name, array, attributes, size, shown):
    """The tiles of one array: label map, a heat map per class, or a grey map."""
    if artifact.is_label_map(name):
        return [Tile(drawing.colourise(resize_labels(array, size)), name)]
    names = artifact.map_names(name, array, attributes)
    if names is not None:
        return [_heat_tile(n, part, size, shown) for n, part in zip(names, array, strict=True)]
    if array.ndim != 2:
        raise InputError(f"{name}: an array of {array.ndim} dimensions cannot be drawn")
    scale = 255 if array.dtype == np.uint8 else 1
    return [Tile(drawing.grey(resize_map(array, size) / scale), name)]


def _heat_tile(name, values, size, shown):
    values = resize_map(values, size)
    picture = drawing.heat(values) if shown is None else drawing.heat_overlay(shown, values)
    return Tile(picture, f"{name}, max {values.max():.2f}")


def _origin(artifact):
    header = artifact.header
    words = [artifact.kind.replace("_", " "), *(header.get(key) for key in ("dataset", "variant"))]
    words += [f"{key} {header[key]}" for key in ("seed", "stage") if key in header]
    return ", ".join(word for word in words if word)


def _page(headline, tiles, seen, classes):
    if not tiles:
        raise InputError("nothing to draw: no photograph, and no map in this image's record")
    columns = min(COLUMNS, len(tiles))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    panel = drawing.panels(rows, TILE_WIDTH)
    parts = [drawing.title(headline, panel.shape[1]), panel]
    if seen:
        parts.append(drawing.legend(drawing.legend_entries(seen, classes), panel.shape[1]))
    return drawing.stack(parts)

"""Look into an artifact (.h5) or a checkpoint (.pt) of this workflow.

Without ID: what the file is, what it was made with and from, and what its arrays hold.
With ID: the arrays of that image; with --png, a picture of the image and its maps.

  python -m workflow_scripts.inspect_artifact results/demo/classifier/seed0/cams/shard0.h5
  python -m workflow_scripts.inspect_artifact FILE train_0007 --png train_0007.png
"""

import argparse
import difflib
import json
import os
import sys
from pathlib import Path

import numpy as np

from workflow_scripts.command import run
from wsss import drawing
from wsss.artifacts import IDENTITY_KEYS, ArtifactReader, open_artifact, read_header
from wsss.datasets.index import read_dataset, read_index
from wsss.drawing import Tile
from wsss.errors import InputError, listed

SAMPLE = 200  # images whose values are read for the ranges
LABEL_MAPS = {
    "pseudo_labels": ("segmentation",),
    "predictions": ("unrefined", "refined"),
    "predictions_crf": ("predictions_crf",),
}
# Arrays of a map per class, and whether their keys count background as 0.
CLASS_MAPS = {"cams": ("cams", False), "predictions": ("probabilities", True)}
COLUMNS = 4
TILE_WIDTH = 320


class Artifact:
    """An opened artifact: its header, and records with a name for every array."""

    def __init__(self, path):
        with open_artifact(path) as file:
            self.header = read_header(file)
        self.kind = self.header["kind"]
        self.classes = self.header.get("classes", [])
        self.reader = ArtifactReader(path, self.kind)
        self.ids = self.reader.ids

    def read(self, image_id):
        """Name -> array, and the attributes. An array without a name of its own gets the kind's."""
        if image_id not in self.reader:
            where = self.reader.paths[0]
            raise InputError(f"{where}: no image {image_id!r} in it; {self._hint(image_id)}")
        record = self.reader.read(image_id)
        arrays = record.array if isinstance(record.array, dict) else {self.kind: record.array}
        return arrays, record.attributes

    def _hint(self, image_id):
        close = difflib.get_close_matches(image_id, self.ids, n=3, cutoff=0.5)
        close = close or [i for i in self.ids if image_id and image_id in i]
        return f"close to it: {listed(close, 3)}" if close else f"it holds {listed(self.ids, 3)}"

    def is_label_map(self, name):
        return name in LABEL_MAPS.get(self.kind, ())

    def map_names(self, name, array, attributes):
        """The class names of the maps of an array, or None if it is not a map per class."""
        wanted, with_background = CLASS_MAPS.get(self.kind, (None, False))
        if name != wanted or array.ndim != 3:
            return None
        shift = 0 if with_background else 1
        return [drawing.class_name(key + shift, self.classes) for key in attributes["keys"]]


# --- text ----------------------------------------------------------------------------------------


def describe_artifact(artifact, path):
    """Lines on a whole file."""
    header, ids = artifact.header, artifact.ids
    lines = [
        f"{path}  ({_size(path)})",
        _line("kind", f"{artifact.kind}, schema {header['schema_version']}"),
        _line("content digest", header["content_digest"]),
        *_identity_lines(header),
        *_mapping_lines("parameters", header["parameters"]),
        *_mapping_lines("made from", header["sources"]),
        _line("versions", ", ".join(f"{k} {v}" for k, v in header["versions"].items())),
        _line("images", f"{len(ids)}: {listed(ids, 6)}" if ids else "none"),
    ]
    return [*lines, *_array_lines(artifact)] if ids else lines


def _identity_lines(header):
    lines = []
    for key in IDENTITY_KEYS:
        value = header.get(key)
        if key == "classes" and value is not None:
            lines.append(_line("classes", f"{len(value)}: {', '.join(value)}"))
        elif value is not None:
            lines.append(_line(key.replace("_", " "), value))
    return lines


def _array_lines(artifact):
    """A table of the arrays: type, range of shapes, range of values."""
    step = -(-len(artifact.ids) // SAMPLE)
    sample = artifact.ids[::step]
    found = {}
    for image_id in sample:
        for name, array in artifact.read(image_id)[0].items():
            found.setdefault(name, []).append(_summary(array))
    rows = [("array", "type", "shape", "values")]
    for name, parts in found.items():
        dtypes, shapes, lows, highs = zip(*parts, strict=True)
        low, high = min(lows), max(highs)
        values = f"{_number(low)} .. {_number(high)}" if low <= high else "-"
        rows.append((name, "/".join(sorted(set(dtypes))), _shapes(shapes), values))
    of = "all images" if step == 1 else f"{len(sample)} images, evenly spaced"
    return ["", *_table(rows), f"(shapes and values of {of})"]


def _summary(array):
    if array.size == 0:  # no CAM, for an image without labels
        return str(array.dtype), array.shape, np.inf, -np.inf
    return str(array.dtype), array.shape, float(array.min()), float(array.max())


def _shapes(shapes):
    """`1..3 x 24..32 x 32` for many shapes of as many dimensions."""
    if len({len(shape) for shape in shapes}) > 1:
        return "of different dimensions"
    ranges = [(min(side), max(side)) for side in zip(*shapes, strict=True)]
    return " x ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in ranges)


def describe_image(artifact, image_id):
    """Lines on the arrays of one image."""
    arrays, attributes = artifact.read(image_id)
    lines = [f"{image_id}  ({artifact.kind})"]
    lines += [_line(name, value) for name, value in attributes.items()]
    rows = [("array", "type", "shape", "min", "mean", "max")]
    for name, array in arrays.items():
        rows.append((name, str(array.dtype), _shapes([array.shape]), *_statistics(array)))
        names = artifact.map_names(name, array, attributes) or []
        for class_name, part in zip(names, array, strict=False):
            rows.append((f"  {class_name}", "", "", *_statistics(part)))
    lines += ["", *_table(rows)]
    for name, array in arrays.items():
        if artifact.is_label_map(name):
            lines += ["", *_table(_label_rows(name, array, artifact.classes))]
    return lines


def _statistics(array):
    if array.size == 0:
        return ("-", "-", "-")
    values = array.astype(np.float64)
    return tuple(_number(v) for v in (values.min(), values.mean(), values.max()))


def _label_rows(name, labels, classes):
    ids, counts = np.unique(labels, return_counts=True)
    rows = [(f"classes in {name}", "id", "pixels")]
    for i, count in zip(ids.tolist(), counts.tolist(), strict=True):
        share = f"{100 * count / labels.size:.1f} %"
        rows.append((f"  {drawing.class_name(i, classes)}", str(i), share))
    return rows


def describe_checkpoint(path):
    """Lines on a checkpoint."""
    from wsss.checkpoint import read_checkpoint  # torch takes seconds, and only these need it

    checkpoint = read_checkpoint(path)
    state = checkpoint["model"]
    return [
        f"{path}  ({_size(path)})",
        _line("kind", f"checkpoint, {checkpoint['format']}"),
        _line("digest", checkpoint["digest"]),
        *_identity_lines(checkpoint["identity"]),
        *_mapping_lines("network", checkpoint["arguments"]),
        *_mapping_lines("settings", checkpoint["parameters"]),
        _line("weights", f"{sum(t.numel() for t in state.values()):,} in {len(state)} tensors"),
    ]


def _line(name, value):
    return f"{name:<15} {value}"


def _mapping_lines(name, mapping):
    """A line per entry; nested sections stay JSON."""
    if not mapping:
        return [_line(name, "none")]
    width = max(map(len, mapping))
    texts = [
        f"{key:<{width}}  {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in mapping.items()
    ]
    return [_line(name if number == 0 else "", text) for number, text in enumerate(texts)]


def _table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _number(value):
    return f"{value:.4g}"


def _size(path):
    size = Path(path).stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


# --- picture -------------------------------------------------------------------------------------


def draw_image(artifact, image_id, image, truth):
    """A grid of the photograph, the maps of one image and its ground truth, with a legend.

    Args:
        image: uint8 RGB (H, W, 3), or None: then the maps stand alone.
        truth: class ids (H, W), or None.
    """
    arrays, attributes = artifact.read(image_id)
    box = (TILE_WIDTH, TILE_WIDTH)
    size = drawing.fitted_size(_image_size(arrays, attributes, image), box)
    shown = None if image is None else drawing.resized_image(image, size)
    tiles = [] if shown is None else [Tile(shown, "image")]
    seen = set()
    for name, array in arrays.items():
        tiles += _tiles(artifact, name, array, attributes, size, shown)
        seen.update(np.unique(array).tolist() if artifact.is_label_map(name) else ())
    if truth is not None:
        tiles.append(Tile(drawing.colourise(drawing.resized_labels(truth, size)), "ground truth"))
        seen.update(np.unique(truth).tolist())
    return _page(f"{image_id} · {_origin(artifact)}", tiles, seen, artifact.classes)


def _image_size(arrays, attributes, image):
    if image is not None:
        return image.shape[:2]
    return tuple(attributes.get("size") or next(iter(arrays.values())).shape[-2:])


def _tiles(artifact, name, array, attributes, size, shown):
    """The tiles of one array: label map, a heat map per class, or a grey map."""
    if artifact.is_label_map(name):
        return [Tile(drawing.colourise(drawing.resized_labels(array, size)), name)]
    names = artifact.map_names(name, array, attributes)
    if names is not None:
        return [_heat_tile(n, part, size, shown) for n, part in zip(names, array, strict=True)]
    if array.ndim != 2:
        raise InputError(f"{name}: an array of {array.ndim} dimensions cannot be drawn")
    scale = 255 if array.dtype == np.uint8 else 1
    return [Tile(drawing.grey(drawing.resized_map(array, size) / scale), name)]


def _heat_tile(name, values, size, shown):
    values = drawing.resized_map(values, size)
    picture = drawing.heat(values) if shown is None else drawing.heat_overlay(shown, values)
    return Tile(picture, f"{name}, max {values.max():.2f}")


def _origin(artifact):
    words = [artifact.kind.replace("_", " ")]
    for key in ("dataset", "variant", "seed", "stage"):
        if key in artifact.header:
            value = artifact.header[key]
            words.append(value if isinstance(value, str) else f"{key} {value}")
    return ", ".join(words)


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


def find_photograph(args, artifact, image_id):
    """The photograph and the ground truth of an image, as far as they can be found.

    Returns:
        image or None, mask or None, and a line to tell if something is amiss, or None.
    """
    folder = args.data or _data_above(args.file)
    if folder is None:
        return None, None, "no index.csv above the file (give --data): drawing the maps alone"
    try:
        index = _index(Path(folder), args.root)
        record = index.record(image_id)
        image = index.read_image(record)
        mask = index.read_mask(record) if record.mask else None
    except InputError as error:
        return None, None, f"{error}: drawing the maps alone"
    changed = index.digest != artifact.header.get("index_digest", index.digest)
    note = f"{folder}/index.csv is not the index that the file was made with" if changed else None
    return image, mask, note


def _index(folder, root):
    if root is None:
        return read_dataset(folder)
    return read_index(folder / "index.csv", folder / "classes.csv", root)


def _data_above(path):
    return next((f for f in Path(path).resolve().parents if (f / "index.csv").is_file()), None)


# --- command -------------------------------------------------------------------------------------


def main(argv=None):
    args = _parse(argv)
    _check_arguments(args)
    try:
        text, picture = look(args)
    except InputError:
        raise
    # What a file from elsewhere lacks or holds in another form shows up as one of these.
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OSError) as error:
        raise InputError(
            f"{args.file}: damaged, or not written by this workflow "
            f"({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        ) from error
    if picture is not None:
        drawing.save_picture(args.png, picture)
        text.append(f"\n{args.png} written")
    return print_quietly(text)


def _parse(argv):
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("file", help="an artifact (.h5) or a checkpoint (model.pt)")
    made.add_argument("id", nargs="?", help="an image id")
    made.add_argument("--png", help="draw the image with its maps to this file")
    made.add_argument("--data", help="folder with index.csv; default: the nearest above the file")
    made.add_argument("--root", help="folder of the photographs, if they have moved")
    return made.parse_args(argv)


def _check_arguments(args):
    if Path(args.file).is_dir():
        raise InputError(f"{args.file}: a folder; name a file in it, e.g. shard0.h5")
    if args.id and _is_checkpoint(args.file):
        raise InputError(f"{args.file}: a checkpoint holds no images; leave the id out")
    if args.png and not args.id:
        raise InputError("--png draws one image: give its id after the file")
    if args.png and not Path(args.png).absolute().parent.is_dir():
        raise InputError(f"--png {args.png}: the folder does not exist; make it first")


def _is_checkpoint(path):
    return Path(path).suffix in (".pt", ".pth")


def look(args):
    """Lines of text, and the picture or None."""
    if _is_checkpoint(args.file):
        return describe_checkpoint(args.file), None
    artifact = Artifact(args.file)
    if args.id is None:
        return describe_artifact(artifact, args.file), None
    text = describe_image(artifact, args.id)
    if not args.png:
        return text, None
    image, mask, note = find_photograph(args, artifact, args.id)
    text += [f"\n{note}"] if note else []
    return text, draw_image(artifact, args.id, image, mask)


def print_quietly(lines):
    """Print lines without control characters; a reader that stops early (head) is no error."""
    text = "\n".join(lines)
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run(main)

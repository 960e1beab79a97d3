"""What the stages do to a few images, side by side.

Training images: CAMs and pseudo labels of every stage. Validation images: the prediction of
stage 0 unrefined, the refined ones of every stage, and the last one after the CRF.
"""

from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError
from wsss.reports import drawing
from wsss.reports.chosen_images import check_ids, choose, listing
from wsss.reports.drawing import Tile
from wsss.reports.figure_files import save_page
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.pixels import resize_image, resize_labels, resize_maps

WIDTH = 1600
TRUTH = "ground truth"
HIGHEST_TILE = 1.0  # height of a tile over its width, at most

Readers = dict[int, ArtifactReader]  # by stage
Records = Sequence[ImageRecord]


@dataclass(frozen=True)
class Column:
    """A title, and what stands below it: `read(record)` gives a label map, CAMs, or None."""

    title: str
    read: Callable[[ImageRecord], np.ndarray | None]
    is_cams: bool = False


def by_stage(values: Sequence[str], option: str, kind: str, identity: dict[str, Any]) -> Readers:
    """`STAGE=FILE ...` -> stage -> reader over the stage's shards, stages ascending.

    Stages without images are left out: a data set may have nothing to validate on.
    """
    paths = {}
    for value in values:
        stage, separator, path = value.partition("=")
        if not (stage.isdecimal() and separator and path):
            raise InputError(f"{option} {value}: write STAGE=FILE, e.g. 0=shard0.h5")
        paths.setdefault(int(stage), []).append(path)
    readers = {s: ArtifactReader(paths[s], kind, **identity, stage=s) for s in sorted(paths)}
    return {stage: reader for stage, reader in readers.items() if reader.ids}


def training_columns(index: DatasetIndex, cams: Readers, labels: Readers) -> list[Column]:
    """CAMs, then pseudo labels, a column a stage, then the ground truth."""
    return [
        *(Column(f"CAM, stage {s}", _array(r), is_cams=True) for s, r in cams.items()),
        *(Column(f"pseudo label, stage {s}", _array(r, "segmentation")) for s, r in labels.items()),
        Column(TRUTH, _truth(index)),
    ]


def prediction_columns(index: DatasetIndex, plain: Readers, crf: Readers) -> list[Column]:
    """Unrefined at the first stage, refined at every stage, CRF at the last, ground truth."""
    # A network without affinity refines nothing.
    refined = {s: r for s, r in plain.items() if "refined" in r.names(r.ids[0])}
    return [
        *(Column(f"unrefined, stage {s}", _array(plain[s], "unrefined")) for s in [*plain][:1]),
        *(Column(f"refined, stage {s}", _array(r, "refined")) for s, r in refined.items()),
        *(Column(f"CRF, stage {s}", _array(crf[s])) for s in [*crf][-1:]),
        Column(TRUTH, _truth(index)),
    ]


def _array(reader, name=None):
    if name is None:
        return lambda record: reader.read(record.image_id).array
    return lambda record: reader.read(record.image_id, [name]).array[name]


def _truth(index):
    return lambda record: index.read_mask(record) if record.mask else None


def worth_showing(columns: list[Column], records: Records) -> list[Column]:
    """The columns without the ground truth, where none of the records has any."""
    if any(record.mask for record in records):
        return columns
    return [column for column in columns if column.title != TRUTH]


def block(
    index: DatasetIndex, headline: str, records: Records, columns: list[Column], tile_width: int
) -> tuple[np.ndarray, set[int]]:
    """A row of tiles per record below a headline; returns the picture and the class ids in it."""
    rows, seen = [], set()
    for number, record in enumerate(records):
        image = index.read_image(record)
        box = (round(HIGHEST_TILE * tile_width), tile_width)
        image = resize_image(image, drawing.fitted_size(image.shape[:2], box))
        tiles = [Tile(image, "" if number else "input")]
        for column in columns:
            picture, ids = picture_of(column, record, image)
            tiles.append(Tile(picture, "" if number else column.title))
            seen.update(ids)
        rows.append(tiles)
    panel = drawing.panels(rows, tile_width)
    return drawing.stack([drawing.title(headline, panel.shape[1]), panel]), seen


def picture_of(
    column: Column, record: ImageRecord, image: np.ndarray
) -> tuple[np.ndarray | None, Collection[int]]:
    """The picture of a column for a record at the size of `image`, and the class ids in it."""
    array, size = column.read(record), image.shape[:2]
    if array is None:
        return None, ()
    if column.is_cams:
        return drawing.heat_overlay(image, resize_maps(array, size).max(axis=0, initial=0)), ()
    labels = resize_labels(array, size)
    return drawing.colourise(labels), np.unique(labels).tolist()


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__)
    for name in ("cams", "pseudo-labels", "predictions", "predictions-crf"):
        parser.add_argument(
            f"--{name}", nargs="+", action="extend", default=[], metavar="STAGE=FILE"
        )
    parser.add_argument("--images", type=int, default=4, help="number of images per block")
    parser.add_argument("--ids", nargs="+", default=[], help="show these instead")
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    check_ids(index, args.ids)
    pictures, seen, shown = draw_blocks(args, index)
    entries = drawing.legend_entries(seen, index.classes)
    picture = drawing.stack([*pictures, drawing.legend(entries, WIDTH)])
    save_page(args.output, picture, listing(shown))


def draw_blocks(
    args: Namespace, index: DatasetIndex
) -> tuple[list[np.ndarray], set[int], list[ImageRecord]]:
    """The blocks for which there are files and images, the class ids in them, and the images."""
    identity = arguments.identity(args, index)
    cams = by_stage(args.cams, "--cams", "cams", identity)
    labels = by_stage(args.pseudo_labels, "--pseudo-labels", "pseudo_labels", identity)
    plain = by_stage(args.predictions, "--predictions", "predictions", identity)
    crf = by_stage(args.predictions_crf, "--predictions-crf", "predictions_crf", identity)
    blocks = [
        (
            "Training images: class activation maps and pseudo labels, stage by stage",
            choose(index.split("train"), [*cams.values(), *labels.values()], args.images, args.ids),
            training_columns(index, cams, labels) if cams or labels else [],
        ),
        (
            "Validation images: predictions, made without their labels",
            choose(index.split("val"), [*plain.values(), *crf.values()], args.images, args.ids),
            prediction_columns(index, plain, crf) if plain or crf else [],
        ),
    ]
    blocks = [
        (headline, rows, worth_showing(columns, rows))
        for headline, rows, columns in blocks
        if rows and columns
    ]
    if not blocks:
        raise InputError("nothing to draw: no image is in all of the files given")
    tile_width = drawing.panel_tile_width(max(len(b[2]) for b in blocks) + 1, WIDTH)
    drawn = [block(index, *parts, tile_width) for parts in blocks]
    seen = set().union(*(ids for _, ids in drawn))
    return [picture for picture, _ in drawn], seen, [record for b in blocks for record in b[1]]


if __name__ == "__main__":
    run(main)

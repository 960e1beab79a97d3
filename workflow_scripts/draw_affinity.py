"""The affinity of two points of a few training images to all others (the paper's Figure 5).

Points are given, or lie in the middle of the largest regions of the ground truth, or without it of
the network's own segmentation. A map is the row of the affinity that belongs to its point, divided
by its maximum; its square root is shown, since most of a row is small beside its peak.
"""

from argparse import Namespace
from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.network import Views, load_viewer
from wsss.configuration.output_sections import Figures
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.inference import Viewer
from wsss.reports import drawing
from wsss.reports.affinity_maps import look
from wsss.reports.chosen_images import check_ids, listing, named_or_chosen, points_of
from wsss.reports.drawing import Tile
from wsss.reports.figure_files import save_page
from wsss.storage.pixels import resize_image, resize_labels, resize_map

IMAGES = 5
TILE_WIDTH = 300


class Pictures(Views):
    """How photographs are seen, and which points are drawn."""

    figures: Figures


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    figures = args.settings.figures
    check_ids(index, [*figures.images, *figures.points])
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    viewer, _ = load_viewer(args, **identity)
    wanted = [*figures.images, *figures.points]
    records = named_or_chosen(index.split("train"), [], IMAGES, wanted)
    rows, listed, seen = [], [], set()
    for record in records:
        tiles, points, ids = row_of(index, viewer, record, figures.points.get(record.image_id))
        rows.append(tiles)
        listed += [(record, *point) for point in points]
        seen.update(ids)
    panel = drawing.panels(rows, TILE_WIDTH)
    headline = f"{args.variant}, stage {args.stage}: affinity of the points (square root)"
    legend = drawing.legend(drawing.legend_entries(seen, index.classes), panel.shape[1])
    page = drawing.stack([drawing.title(headline, panel.shape[1]), panel, legend])
    save_page(args.output, page, table_of(listed))


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__, Pictures)
    arguments.add_run(parser, "variant", "seed", "stage")
    arguments.add_hardware(parser)
    parser.add_argument("--model", required=True, help="the model of the stage")
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    return parser.parse_args(argv)


def row_of(index: DatasetIndex, viewer: Viewer, record: ImageRecord, points: Any) -> tuple:
    """Tiles of an image, its points, and the class ids in its ground truth."""
    photograph = index.read_image(record)
    size = drawing.fitted_size(photograph.shape[:2], (TILE_WIDTH, TILE_WIDTH))
    image = resize_image(photograph, size)
    truth = resize_labels(index.read_mask(record), size) if record.mask else None
    seen = look(viewer, photograph)
    if points is None:
        points = points_of(resize_labels(seen.labels, size) if truth is None else truth)
    crosses = image
    tiles = []
    for number, point in enumerate(points, 1):
        crosses = drawing.with_cross(crosses, point)
        strength = np.sqrt(resize_map(seen.affinity_of(point), size))
        shown = drawing.heat_overlay(image, strength)
        tiles.append(Tile(drawing.with_cross(shown, point), f"point {number}"))
    tiles = [Tile(crosses, record.image_id), *tiles]
    if truth is not None:
        tiles.append(Tile(drawing.colourise(truth), "ground truth"))
    return tiles, points, set() if truth is None else set(np.unique(truth).tolist())


def table_of(listed: list[tuple[ImageRecord, float, float]]) -> pd.DataFrame:
    """image_id, split, labels, x, y of each point."""
    records, *places = zip(*listed, strict=True) if listed else ((), (), ())
    return listing(records, x=places[0], y=places[1])


if __name__ == "__main__":
    run(main)

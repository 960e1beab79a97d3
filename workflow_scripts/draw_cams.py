"""CAM of the dominant class and pseudo labels by stage (the paper's Figure 7).

The dominant class of a training image is the one with most pixels in the pseudo label of the last
stage. Without CAMs, where they are not kept, the pseudo labels stand alone.
"""

from argparse import Namespace

import numpy as np

from workflow_scripts.draw_strip import Readers, by_stage
from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.reports import drawing
from wsss.reports.chosen_images import check_ids, dominant_class, listing, named_or_chosen
from wsss.reports.drawing import Tile
from wsss.reports.figure_files import save_page
from wsss.storage.pixels import resize_image, resize_labels, resize_maps

IMAGES = 6
WIDTH = 1800
WIDEST_TILE = 220


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    check_ids(index, args.ids)
    identity = arguments.identity(args, index)
    cams = by_stage(args.cams, "--cams", "cams", identity)
    labels = by_stage(args.pseudo_labels, "--pseudo-labels", "pseudo_labels", identity)
    train = [record for record in index.split("train") if record.labels]
    records = named_or_chosen(train, [*cams.values(), *labels.values()], IMAGES, args.ids)
    keys = [dominant(index, labels, record) for record in records]
    rows, seen = [], set()
    width = min(WIDEST_TILE, drawing.panel_tile_width(2 + len(cams) + len(labels), WIDTH))
    for record, key in zip(records, keys, strict=True):
        tiles, ids = row_of(index, cams, labels, record, key, width)
        rows.append(tiles if not rows else [tiles[0], *(Tile(each.picture) for each in tiles[1:])])
        seen.update(ids)
    panel = drawing.panels(rows, width)
    headline = f"{args.variant}: CAM of the dominant class, and pseudo labels, by stage"
    legend = drawing.legend(drawing.legend_entries(seen, index.classes), panel.shape[1])
    page = drawing.stack([drawing.title(headline, panel.shape[1]), panel, legend])
    shown = [index.classes[key] for key in keys]
    save_page(args.output, page, listing(records, dominant_class=shown))


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__)
    arguments.add_run(parser, "variant")
    for name in ("cams", "pseudo-labels"):
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar="STAGE=FILE")
    parser.add_argument("--ids", nargs="*", default=[], help="show these images")
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    return parser.parse_args(argv)


def dominant(index: DatasetIndex, labels: Readers, record: ImageRecord) -> int:
    """Class id 0..C-1 of the dominant class of an image."""
    label = labels[max(labels)].read(record.image_id, ["segmentation"]).array["segmentation"]
    return dominant_class(label, arguments.class_keys(index, record))


def row_of(
    index: DatasetIndex,
    cams: Readers,
    labels: Readers,
    record: ImageRecord,
    key: int,
    width: int,
) -> tuple[list[Tile], set[int]]:
    """The tiles of an image with captions, and the class ids in them."""
    image = index.read_image(record)
    image = resize_image(image, drawing.fitted_size(image.shape[:2], (width, width)))
    size, seen = image.shape[:2], set()

    def label_tile(label_map, caption):
        seen.update(np.unique(label_map).tolist())
        return Tile(drawing.colourise(resize_labels(label_map, size)), caption)

    tiles = [Tile(image, index.classes[key])]
    for stage, reader in cams.items():
        found = reader.read(record.image_id)
        cam = resize_maps(found.array, size)[list(found.attributes["keys"]).index(key)]
        tiles.append(Tile(drawing.heat_overlay(image, cam), f"CAM, stage {stage}"))
    for stage, reader in labels.items():
        label_map = reader.read(record.image_id, ["segmentation"]).array["segmentation"]
        tiles.append(label_tile(label_map, f"label, stage {stage}"))
    if record.mask:
        tiles.append(label_tile(index.read_mask(record), "ground truth"))
    return tiles, seen


if __name__ == "__main__":
    run(main)

"""Photograph, ground truth and result of a few validation images (the paper's Figure 4)."""

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.evaluation import read_rows
from wsss.reports import drawing
from wsss.reports.chosen_images import check_ids, listing, named_or_chosen
from wsss.reports.drawing import Tile
from wsss.reports.figure_files import save_page
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.pixels import resize_image, resize_labels

IMAGES, BLOCKS = 8, 2  # images, and how many of them stand beside each other
WIDTH = 1500
KIND = "crf"


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--labels", nargs="+", required=True, help="label maps after the CRF")
    parser.add_argument("--scores", required=True, help="CSV: IoU of each image")
    parser.add_argument("--ids", nargs="*", default=[], help="show these images")
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    check_ids(index, args.ids)
    identity = arguments.identity(args, index, "variant", "seed", "stage") | {"split": "val"}
    labels = ArtifactReader(args.labels, "predictions_crf", **identity)
    records = named_or_chosen(index.split("val"), [labels], IMAGES, args.ids)
    scores = read_rows(args.scores, KIND, ["image_id", "iou"]).set_index("image_id")["iou"]
    ious = [scores.get(record.image_id, np.nan) for record in records]
    picture = draw(index, labels, records, ious) if records else drawing.title(NOTHING, WIDTH)
    headline = f"{args.variant}, stage {args.stage}, with the CRF: validation images"
    page = drawing.stack([drawing.title(headline, WIDTH), picture])
    save_page(args.output, page, listing(records, iou=ious))


NOTHING = "There are no such images."


def draw(
    index: DatasetIndex, labels: ArtifactReader, records: list[ImageRecord], ious: list[float]
) -> np.ndarray:
    """Rows of tiles, three an image, and a legend."""
    width = drawing.panel_tile_width(3 * BLOCKS, WIDTH)
    tiles, seen = [], set()
    for record, iou in zip(records, ious, strict=True):
        image = index.read_image(record)
        image = resize_image(image, drawing.fitted_size(image.shape[:2], (width, width)))
        maps = [
            index.read_mask(record) if record.mask else None,
            labels.read(record.image_id).array,
        ]
        maps = [None if each is None else resize_labels(each, image.shape[:2]) for each in maps]
        truth, result = (None if each is None else drawing.colourise(each) for each in maps)
        seen.update(*(np.unique(each).tolist() for each in maps if each is not None))
        caption = "result" if np.isnan(iou) else f"result, IoU {iou:.0f}"
        tiles += [Tile(image, record.image_id), Tile(truth, "ground truth"), Tile(result, caption)]
    columns = 3 * BLOCKS
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    panel = drawing.panels(rows, width)
    entries = drawing.legend_entries(seen, index.classes)
    return drawing.stack([panel, drawing.legend(entries, panel.shape[1])])


if __name__ == "__main__":
    run(main)

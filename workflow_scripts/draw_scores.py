"""IoU by class, what is taken for what, and IoU by size of a variant; means over its seeds.

Classes and confusions are those of the last stage, sizes those of every stage, all with the CRF.
"""

import json
from argparse import Namespace
from collections.abc import Sequence

import pandas as pd

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.errors import InputError
from wsss.method.evaluation import MEAN, read_rows
from wsss.reports.figure_files import save_figure
from wsss.reports.score_figures import draw_classes, draw_confusion, draw_sizes

KIND = "crf"
# The columns that are drawn.
CLASSES = ("class_id", "class", "iou")
CONFUSION = ("truth", "predicted", "pixels")
SIZES = ("class_id", "class", "size", "instances", "iou")


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    index = arguments.dataset_index(args)
    names = ["background", *index.classes]
    classes = class_rows(args.segmentation, args.paper)
    save_figure(args.output_classes, draw_classes(classes, f"{args.headline}: classes"), classes)
    pixels = pd.concat([read_rows(path, KIND, CONFUSION) for path in args.confusion])
    pixels = pixels.groupby(["truth", "predicted"], as_index=False)["pixels"].sum()
    figure = draw_confusion(pixels, names, f"{args.headline}: what is taken for what")
    save_figure(args.output_confusion, figure, pixels)
    sizes = size_rows(args.sizes)
    save_figure(args.output_sizes, draw_sizes(sizes, f"{args.headline}: sizes of objects"), sizes)


def parse(argv: list[str] | None) -> Namespace:
    parser = arguments.command_parser(__doc__)
    parser.add_argument("--segmentation", nargs="+", required=True, help="a table a seed")
    parser.add_argument("--confusion", nargs="+", required=True, help="a table a seed")
    parser.add_argument("--sizes", nargs="+", required=True, metavar="STAGE=FILE")
    parser.add_argument("--headline", required=True)
    parser.add_argument("--paper", type=json.loads, default={}, help="IoU by class, as JSON")
    for name in ("classes", "confusion", "sizes"):
        parser.add_argument(f"--output-{name}", required=True, help="PNG; PDF and CSV beside it")
    return parser.parse_args(argv)


def class_rows(paths: Sequence[str], paper: dict[str, float]) -> pd.DataFrame:
    """class_id, class, iou, iou_std, runs, and the paper's IoU where it has one."""
    table = pd.concat([read_rows(path, KIND, CLASSES) for path in paths])
    rows = over_seeds(table, ["class_id", "class"])
    if paper:
        own = rows["class"].where(rows["class_id"].notna(), "mIoU")
        rows["paper"] = own.map(paper).astype(float)
    return rows


def size_rows(values: Sequence[str]) -> pd.DataFrame:
    """stage, size, instances, iou, iou_std, runs: means over classes."""
    tables = []
    for value in values:
        stage, separator, path = value.partition("=")
        if not (stage.isdecimal() and separator and path):
            raise InputError(f"--sizes {value}: write STAGE=FILE, e.g. 0=sizes.csv")
        tables.append(read_rows(path, KIND, SIZES).assign(stage=int(stage)))
    table = pd.concat(tables)
    means = table[table["class_id"].isna() & (table["class"] == MEAN)]
    return over_seeds(means, ["stage", "size", "instances"])


def over_seeds(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean and standard deviation (ddof 1) of `iou` over the rows that have the same keys."""
    grouped = table.groupby(keys, sort=False, dropna=False)["iou"]
    return grouped.agg(iou="mean", iou_std="std", runs="count").reset_index()


if __name__ == "__main__":
    run(main)

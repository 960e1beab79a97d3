"""What the commands share that score label maps."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wsss.compute.parallel import map_images
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.evaluation import write_table
from wsss.method.scores import ImageScores, Scores, score_image

LabelMaps = Callable[[ImageRecord], dict[str, np.ndarray]]  # by kind


@dataclass
class Scoring:
    """The scores of a record by kind of label map; picklable, so that processes can share the work.

    Its mask and its artifacts are decoded once for all kinds.
    """

    index: DatasetIndex
    label_maps: LabelMaps
    ignore_prediction: str

    def __call__(self, record: ImageRecord) -> dict[str, ImageScores]:
        truth = self.index.read_mask(record)
        return {
            kind: score_image(label_map, truth, len(self.index.classes), self.ignore_prediction)
            for kind, label_map in self.label_maps(record).items()
        }


def scores_by_kind(
    work: Scoring, scored: Sequence[ImageRecord], kinds: Sequence[str], processes: int
) -> dict[str, Scores]:
    """Scores of all records for each kind; a kind without any record is there, too."""
    classes = len(work.index.classes)
    totals = {kind: Scores(classes, work.ignore_prediction) for kind in kinds}
    found = map_images(work, scored, processes, "scoring")
    for record, by_kind in zip(scored, found, strict=True):
        for kind, image in by_kind.items():
            totals[kind].add(record.image_id, image)
    return totals


def add_score_tables(parser: ArgumentParser) -> None:
    """Arguments on the work and on the tables that come out."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", required=True, help="CSV: scores of each class")
    parser.add_argument("--images", required=True, help="CSV: IoU of each image")
    parser.add_argument("--sizes", required=True, help="CSV: IoU of objects by size")
    parser.add_argument("--overlaps", required=True, help="CSV: what each image adds to the IoU")
    parser.add_argument("--confusion", required=True, help="CSV: what is taken for what")


def write_score_tables(args: Namespace, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write what `tables_of` gives to where the arguments say."""
    for name, table in tables.items():
        write_table(args.output if name == "classes" else getattr(args, name), table)

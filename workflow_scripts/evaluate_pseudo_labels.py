"""Scores of a stage's segmentation pseudo labels against the masks of the scored images.

By class, by image, and of objects by size. Labels that are corrected masks are no pseudo labels,
and are left out.
"""

from functools import partial

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from workflow_scripts.jobs.scoring import (
    Scoring,
    add_score_tables,
    scores_by_kind,
    write_score_tables,
)
from wsss.configuration.method_sections import Evaluation
from wsss.datasets.index import ImageRecord
from wsss.method.evaluation import tables_of
from wsss.storage.artifacts import CORRECTED, ArtifactReader

KIND = "segmentation"


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Evaluation)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--pseudo-labels", nargs="+", required=True)
    add_score_tables(parser)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage")
    labels = ArtifactReader(args.pseudo_labels, "pseudo_labels", **identity)
    train = index.split("train")
    scored = [r for r in train if r.scored and r.mask and not is_corrected(labels, r)]
    work = Scoring(index, partial(label_map, labels), args.settings.ignore_prediction)
    scores = scores_by_kind(work, scored, [KIND], args.threads)[KIND]
    write_score_tables(args, tables_of(scores, index.classes, scored, len(train)))


def is_corrected(labels: ArtifactReader, record: ImageRecord) -> bool:
    """Whether the label of a record is a mask that people corrected."""
    return labels.read(record.image_id, []).attributes.get(CORRECTED, False)


def label_map(labels: ArtifactReader, record: ImageRecord) -> dict[str, np.ndarray]:
    """The pseudo label of a record."""
    return labels.read(record.image_id, [KIND]).array


if __name__ == "__main__":
    run(main)

"""Scores of a stage's predictions on the val split: unrefined, refined, and after the CRF."""

from collections.abc import Sequence

import pandas as pd

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.compute.progress import progress
from wsss.configuration.sections import Evaluation
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.method.evaluation import score_table, with_ground_truth, write_table
from wsss.method.metrics import ConfusionMatrix
from wsss.storage.artifacts import ArtifactReader


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Evaluation)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--predictions", nargs="+", required=True)
    parser.add_argument("--predictions-crf", nargs="+", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage") | {"split": "val"}
    plain = ArtifactReader(args.predictions, "predictions", **identity)
    crf = ArtifactReader(args.predictions_crf, "predictions_crf", **identity)
    val = index.split("val")
    scored = [record for record in val if record.scored and record.mask]
    matrices = score(index, scored, plain, crf, args.settings.ignore_prediction)
    tables = []
    for kind, matrix in matrices.items():
        table = score_table(matrix, index.classes)
        table.insert(0, "prediction", kind)
        tables.append(with_ground_truth(table, scored, len(val)))
    write_table(args.output, pd.concat(tables))


def score(
    index: DatasetIndex,
    scored: Sequence[ImageRecord],
    plain: ArtifactReader,
    crf: ArtifactReader,
    ignore_prediction: str,
) -> dict[str, ConfusionMatrix]:
    """A confusion matrix for each kind of prediction; masks and label maps are decoded once.

    A network without affinity has no refined predictions.
    """
    first = plain.names(plain.ids[0]) if plain.ids else ()
    kinds = [kind for kind in ("unrefined", "refined") if kind in first]
    matrices = {
        kind: ConfusionMatrix(len(index.classes), ignore_prediction) for kind in (*kinds, "crf")
    }
    for record in progress(scored, desc="scoring", unit="image"):
        truth = index.read_mask(record)
        predictions = plain.read(record.image_id, kinds).array
        predictions["crf"] = crf.read(record.image_id).array
        for kind, matrix in matrices.items():
            matrix.update(predictions[kind], truth)
    return matrices


if __name__ == "__main__":
    run(main)

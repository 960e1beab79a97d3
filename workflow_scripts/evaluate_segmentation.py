"""Scores of a stage's predictions on the val split: unrefined, refined, merged, after the CRF.

By class, by image, and of objects by size. The merged ones are those of all views, before the CRF.
And whether those images score low after the CRF that are said to need a look.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

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
from wsss.method.evaluation import order_table, tables_of, write_table
from wsss.method.label_maps import merged_label_map
from wsss.method.uncertainty import stored_uncertainty
from wsss.storage.artifacts import ArtifactReader


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, Evaluation)
    arguments.add_run(parser, "variant", "seed", "stage")
    parser.add_argument("--predictions", nargs="+", required=True)
    parser.add_argument("--predictions-crf", nargs="+", required=True)
    parser.add_argument("--uncertainty", required=True, help="CSV: what the order is worth")
    add_score_tables(parser)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    identity = arguments.identity(args, index, "variant", "seed", "stage") | {"split": "val"}
    plain = ArtifactReader(args.predictions, "predictions", **identity)
    crf = ArtifactReader(args.predictions_crf, "predictions_crf", **identity)
    val = index.split("val")
    scored = [record for record in val if record.scored and record.mask]
    single_scale = kinds_of(plain)
    maps = partial(label_maps, plain, crf, single_scale)
    work = Scoring(index, maps, args.settings.ignore_prediction)
    totals = scores_by_kind(work, scored, [*single_scale, "merged", "crf"], args.threads)
    tables = {
        kind: tables_of(scores, index.classes, scored, len(val)) for kind, scores in totals.items()
    }
    images = totals["crf"].images
    sure = {image_id: stored_uncertainty(crf, image_id) for image_id in images}
    write_score_tables(args, stacked(tables))
    write_table(args.uncertainty, order_table(images, sure))


def kinds_of(plain: ArtifactReader) -> list[str]:
    """The label maps of scale 1; a network without affinity has no refined ones."""
    first = plain.names(plain.ids[0]) if plain.ids else ()
    return [kind for kind in ("unrefined", "refined") if kind in first]


def label_maps(
    plain: ArtifactReader, crf: ArtifactReader, single_scale: Sequence[str], record: ImageRecord
) -> dict[str, np.ndarray]:
    """All label maps of a record by kind."""
    prediction = plain.read(record.image_id, [*single_scale, "probabilities"])
    probabilities = prediction.array.pop("probabilities")
    keys, size = (prediction.attributes[name] for name in ("keys", "size"))
    merged = merged_label_map(probabilities, keys, size)
    return prediction.array | {"merged": merged, "crf": crf.read(record.image_id).array}


def stacked(tables: dict[str, dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Tables by kind and name as one a name; their first column, `prediction`, has the kind."""
    return {
        name: pd.concat(
            {kind: of_kind[name] for kind, of_kind in tables.items()}, names=["prediction"]
        ).reset_index(level=0)
        for name in next(iter(tables.values()))
    }


if __name__ == "__main__":
    run(main)

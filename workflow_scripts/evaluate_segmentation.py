"""Scores of a stage's predictions on the val split: unrefined, refined, and after the CRF."""

import pandas as pd

from workflow_scripts import arguments
from workflow_scripts.command import run
from wsss.artifacts import ArtifactReader
from wsss.evaluation import score, with_ground_truth, write_table
from wsss.progress import progress


def main(argv=None):
    parser = arguments.command_parser(__doc__)
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
    # A network without affinity has no refined prediction: then there are no such rows.
    refined = bool(plain.ids) and "refined" in plain.read(plain.ids[0]).array
    kinds = {
        "unrefined": lambda image_id: plain.read(image_id).array["unrefined"],
        **({"refined": lambda image_id: plain.read(image_id).array["refined"]} if refined else {}),
        "crf": lambda image_id: crf.read(image_id).array,
    }
    tables = []
    for kind, labels_of in kinds.items():
        pairs = (
            (index.read_mask(record), labels_of(record.image_id))
            for record in progress(scored, desc=f"scoring {kind}", unit="image")
        )
        table = score(pairs, index.classes, args.settings["ignore_prediction"])
        table.insert(0, "prediction", kind)
        tables.append(with_ground_truth(table, scored, len(val)))
    write_table(args.output, pd.concat(tables))


if __name__ == "__main__":
    run(main)

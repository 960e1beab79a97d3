"""A table of the paper on the runs that are configured, as CSV and as Markdown.

Scores are those of the validation images, from the tables of overlaps that evaluate_segmentation
wrote. Nothing is trained or predicted.
"""

from argparse import Namespace
from itertools import product
from pathlib import Path

import numpy as np

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.configuration.experiments import ResultTable, Run
from wsss.method.evaluation import write_table
from wsss.method.overlaps import read_overlaps
from wsss.reports.result_tables import filled_rows, markdown, numbers, write_text


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__, ResultTable)
    parser.add_argument("--seeds", type=int, nargs="+", required=True, metavar="SEED")
    parser.add_argument("--csv", required=True)
    parser.add_argument("--markdown", required=True)
    args = parser.parse_args(argv)
    index = arguments.dataset_index(args)
    overlaps = overlaps_of(args, len(index.classes))
    rows = filled_rows(args.settings, overlaps.__getitem__, index.classes)
    scored = sum(record.scored and record.mask is not None for record in index.split("val"))
    about = [f"Data set {Path(args.data).name}: {scored} validation images are scored."]
    write_table(args.csv, numbers(args.settings, rows))
    write_text(args.markdown, markdown(args.settings, rows, about))


def overlaps_of(args: Namespace, num_classes: int) -> dict[Run, dict[int, np.ndarray]]:
    """Run -> seed -> overlaps, for all runs of the table."""
    wanted = list(product(args.settings.runs(), args.seeds))
    files = [(file_of(args.data, which, seed), which.kind) for which, seed in wanted]
    found: dict[Run, dict[int, np.ndarray]] = {}
    for (which, seed), overlaps in zip(wanted, read_overlaps(files, num_classes), strict=True):
        found.setdefault(which, {})[seed] = overlaps
    return found


def file_of(data: str, which: Run, seed: int) -> Path:
    """The table of overlaps of a run."""
    place = f"{which.variant}/seed{seed}/stage{which.stage}/evaluation/overlaps.csv"
    return Path(data, place)


if __name__ == "__main__":
    run(main)

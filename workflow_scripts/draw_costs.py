"""mIoU of all variants and stages against the CPU minutes or GPU hours that led to it."""

import argparse
import json

from workflow_scripts.jobs.command import run
from wsss.method.evaluation import SUMMARY_COLUMNS, read_columns
from wsss.reports.cost import costs, draw_costs
from wsss.reports.figure_files import save_figure

OF_STEPS = ("part", "stage", "cpu_seconds", "gpu_hours")  # of the footprint


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footprint", required=True)
    parser.add_argument("--summaries", nargs="+", required=True, metavar="VARIANT=FILE")
    parser.add_argument("--shared", type=json.loads, required=True, help="as JSON: variant, parts")
    parser.add_argument("--headline", required=True)
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    args = parser.parse_args(argv)
    footprint = read_columns(args.footprint, OF_STEPS).fillna({"part": ""})
    files = dict(value.split("=", 1) for value in args.summaries)
    columns = ["stage", "runs", *SUMMARY_COLUMNS]
    summaries = {variant: read_columns(file, columns) for variant, file in files.items()}
    table = costs(footprint, summaries, args.shared)
    save_figure(args.output, draw_costs(table, args.headline), table)


if __name__ == "__main__":
    run(main)

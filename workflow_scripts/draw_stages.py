"""Pseudo labels and predictions by stage, from the summary of a variant (the paper's Figure 6)."""

import argparse
import json

from workflow_scripts.jobs.command import run
from wsss.method.evaluation import SUMMARY_COLUMNS, read_columns
from wsss.reports.figure_files import save_figure
from wsss.reports.score_figures import draw_stages


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", required=True)
    parser.add_argument("--headline", required=True)
    parser.add_argument("--paper", type=json.loads, default=[], help="its curve by stage, as JSON")
    parser.add_argument("--output", required=True, help="PNG; PDF and CSV come beside it")
    args = parser.parse_args(argv)
    summary = read_columns(args.summary, ["stage", *SUMMARY_COLUMNS])
    save_figure(args.output, draw_stages(summary, args.paper, args.headline), summary)


if __name__ == "__main__":
    run(main)

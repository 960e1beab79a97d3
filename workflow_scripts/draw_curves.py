"""Losses and learning rate of the classifier and of every stage, from their logs."""

import argparse

import pandas as pd

from workflow_scripts.jobs.command import run
from wsss.errors import InputError
from wsss.reports.curves import draw_curves, read_log
from wsss.reports.figure_files import save_figure


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--logs",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME=LOG.CSV",
        help="in the order of the runs",
    )
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    logs = {}
    for text in args.logs:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise InputError(f"--logs {text}: write NAME=LOG.CSV")
        if name in logs:
            raise InputError(f"--logs {name}: this name stands twice; give each run its own")
        logs[name] = read_log(path)
    data = pd.concat({name: pd.DataFrame(log) for name, log in logs.items()}, names=["run"])
    save_figure(args.output, draw_curves(logs), data.reset_index(level=0))


if __name__ == "__main__":
    run(main)

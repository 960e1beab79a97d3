"""summary.csv of a variant: a row a stage, mean and standard deviation over seeds."""

import argparse

from workflow_scripts.jobs.command import run
from wsss.errors import InputError
from wsss.method.evaluation import read_table, stage_scores, summarise, write_table


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, nargs="+", required=True, help="a stage per table")
    parser.add_argument("--pseudo-labels", nargs="+", required=True)
    parser.add_argument("--segmentation", nargs="+", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args(argv)
    if not len(args.stages) == len(args.pseudo_labels) == len(args.segmentation):
        raise InputError("give one stage, one pseudo-label table and one segmentation table a run")
    runs = {}
    for stage, pseudo, segmentation in zip(
        args.stages, args.pseudo_labels, args.segmentation, strict=True
    ):
        scores = stage_scores(read_table(pseudo), read_table(segmentation, of="segmentation"))
        runs.setdefault(stage, []).append(scores)
    table = summarise(runs)
    write_table(args.output, table)
    columns = [column for column in table.columns if not column.endswith("_std")]
    print(table[columns].to_string(index=False, float_format="%.1f", na_rep=""))


if __name__ == "__main__":
    run(main)

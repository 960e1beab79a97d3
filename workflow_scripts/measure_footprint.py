"""Time, memory and GPU hours of a run by step and stage, from what its jobs left behind."""

from pathlib import Path

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import run
from wsss.method.evaluation import write_table
from wsss.reports.footprint import footprint, footprint_markdown, jobs_of
from wsss.reports.result_tables import write_text


def main(argv: list[str] | None = None) -> None:
    parser = arguments.command_parser(__doc__)
    parser.add_argument("--benchmarks", required=True, help="folder of the data set's times")
    parser.add_argument("--logs", required=True, help="folder of the data set's logs")
    parser.add_argument("--csv", required=True)
    parser.add_argument("--markdown", required=True)
    args = parser.parse_args(argv)
    table = footprint(jobs_of(args.benchmarks, args.logs))
    write_table(args.csv, table)
    write_text(args.markdown, footprint_markdown(table, Path(args.data).name))


if __name__ == "__main__":
    run(main)

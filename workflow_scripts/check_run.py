"""Before hours of compute: are all files there and readable, which device, how much disk?

python -m workflow_scripts.check_run [--configfile OVERLAY ...]
"""

from collections.abc import Sequence
from pathlib import Path

from workflow_scripts.jobs.command import documented_parser, run
from wsss.configuration.data_sections import Dataset
from wsss.configuration.resolve import load
from wsss.configuration.sections import Configuration
from wsss.datasets.formats import build_index, with_test_images
from wsss.datasets.index import DatasetIndex, ImageRecord, read_dataset
from wsss.errors import InputError
from wsss.reports.check import check_besides_images, check_run, check_without_index
from wsss.reports.findings import Finding


def main(argv: list[str] | None = None) -> int:
    parser = documented_parser(__doc__)
    parser.add_argument(
        "--configfile", nargs="+", default=[], metavar="FILE", help="overlays over config.yaml"
    )
    parser.add_argument("--results", default="results", help="folder that the run will write to")
    args = parser.parse_args(argv)
    config = load(["config.yaml", *args.configfile])
    return report(findings(config, args.results))


def findings(config: Configuration, results: str) -> list[Finding]:
    """Everything that can be found out; a data set that cannot be indexed hides nothing else."""
    dataset, folder = config.dataset, Path(results, config.dataset.name)
    if dataset.format == "demo" and not (folder / "index.csv").is_file():
        note = Finding("note", "images", "not there yet: the run begins by drawing them")
        return [note, *check_besides_images(config, planned_demo(dataset), results)]
    try:
        index = (
            read_dataset(folder)
            if dataset.format == "demo"
            else with_test_images(build_index(dataset, paint=False), dataset)
        )
    except InputError as error:
        return [Finding("problem", "data set", str(error)), *check_without_index(config)]
    return check_run(config, index, results)


def planned_demo(dataset: Dataset) -> DatasetIndex:
    """An index of the images that the demo will consist of, to estimate with."""
    demo, classes = dataset.demo, dataset.classes or ("any",)
    width, height = demo.size
    records = [
        ImageRecord(f"{split}_{i}", split, True, "", None, width, height, classes[:1])
        for split, count in (("train", demo.train_images), ("val", demo.val_images))
        for i in range(count)
    ]
    return DatasetIndex(Path(), classes, tuple(range(1, len(classes) + 1)), tuple(records))


def report(found: Sequence[Finding]) -> int:
    """Print a table and return the exit code: 1 if there is a problem."""
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        print(f"{finding.level:8}{finding.subject:{width}}  {finding.message}")
    problems = sum(finding.level == "problem" for finding in found)
    print(f"{problems} problem(s)" if problems else "ready to run")
    return 1 if problems else 0


if __name__ == "__main__":
    run(main)

"""What the commands that write artifacts for other tools have in common."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from workflow_scripts.jobs import arguments
from workflow_scripts.jobs.command import documented_parser
from wsss.compute.parallel import map_images
from wsss.datasets.index import DatasetIndex, data_above, read_dataset
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader


def export_parser(doc: str) -> ArgumentParser:
    """A parser with the arguments of these commands."""
    parser = documented_parser(doc)
    parser.add_argument("artifacts", nargs="+", metavar="ARTIFACT", help="its shards, .h5")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the files")
    parser.add_argument("--data", help="folder with index.csv; default: the nearest above ARTIFACT")
    parser.add_argument("--threads", type=int, default=1, help="processes that share the work")
    return parser


def open_exported(args: Namespace, kind: str) -> tuple[DatasetIndex, ArtifactReader]:
    """The index and a reader of the artifacts; all of the run and stage of the first one.

    The photographs are not looked for: nothing of them is exported. InputError where no index is
    found, or an artifact is of another kind or run.
    """
    args.data = args.data or data_above(args.artifacts[0])
    if args.data is None:
        raise InputError(f"{args.artifacts[0]}: no index.csv above it; name its folder by --data")
    index = read_dataset(args.data, root=args.data)
    identity = arguments.identity(args, index) | run_of(args.artifacts[0])
    return index, ArtifactReader(args.artifacts, kind, **identity)


def export_images(
    work: Callable, index: DatasetIndex, reader: ArtifactReader, threads: int, desc: str
) -> None:
    """Call `work` with the record of each image of the artifacts."""
    for _ in map_images(work, [index.record(i) for i in reader.ids], threads, desc):
        pass


def run_of(path: str | Path) -> dict[str, str | int]:
    """Variant, seed and stage of an artifact, as far as it has them."""
    (header,) = ArtifactReader(path).headers.values()
    return {key: header[key] for key in ("variant", "seed", "stage") if key in header}

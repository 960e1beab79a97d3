"""Arguments that several commands share, and what is read by them."""

import argparse
import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from workflow_scripts.jobs.command import documented_parser
from wsss.configuration.key_types import Section
from wsss.datasets.index import TEST, DatasetIndex, ImageRecord, read_dataset


def command_parser(doc: str, settings: type[Section] | None = None) -> ArgumentParser:
    """A parser with the arguments of every command: its data set, and its settings if it has any.

    `args.settings` is then the section that they are.
    """
    parser = documented_parser(doc)
    if settings:
        add_settings(parser, settings)
    parser.add_argument("--data", required=True, help="folder with index.csv of the data set")
    parser.add_argument("--root", help="where its images lie now, if not where they were indexed")
    return parser


def add_settings(parser: ArgumentParser, settings: type[Section]) -> None:
    """The argument with the settings that a rule gives its command."""
    parser.add_argument("--settings", type=section_of(settings), required=True, help="as JSON")


def section_of(settings: type[Section]) -> Callable[[str], Section]:
    """A function that reads a section from JSON."""

    def read(text: str) -> Section:
        try:
            return settings.model_validate_json(text)
        except ValidationError as error:
            raise argparse.ArgumentTypeError(" ".join(str(error).split())) from error

    return read


def given(settings: Section) -> dict[str, Any]:
    """The settings as they were given, for the file that is made with them."""
    return settings.model_dump(mode="json", exclude_unset=True)


def add_run(parser: ArgumentParser, *names: str) -> None:
    """Arguments that tell artifacts apart: variant, seed, stage, split, shard."""
    kinds = {"variant": str, "seed": int, "stage": int, "split": str, "shard": int, "shards": int}
    for name in names:
        parser.add_argument(f"--{name}", type=kinds[name], required=True)


def add_hardware(parser: ArgumentParser) -> None:
    """Arguments on where and how a network runs."""
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that this job was given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    parser.add_argument("--channels-last", type=json.loads, default=False, help="true or false")


def add_crf(parser: ArgumentParser) -> None:
    """Arguments on how many photographs are in a CRF at once."""
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mem-mb", type=int, help="memory of the job; default: no limit")


def dataset_index(args: Namespace, test: bool = False) -> DatasetIndex:
    """The `DatasetIndex` of the arguments; if `test`, or for that split, with its images."""
    return read_dataset(args.data, args.root, test or getattr(args, "split", None) == TEST)


def identity(args: Namespace, index: DatasetIndex, *names: str) -> dict[str, Any]:
    """The identity of an artifact: data set and class list, and the named arguments."""
    return {
        "dataset": Path(args.data).name,
        "index_digest": index.digest,
        "classes": list(index.classes),
        **{name: getattr(args, name) for name in names},
    }


def class_keys(index: DatasetIndex, record: ImageRecord) -> list[int]:
    """Class ids 0..C-1 of a record's labels, ascending."""
    return [c for c, present in enumerate(index.label_vector(record)) if present]

"""Arguments that several commands share, and what is read by them."""

import argparse
import json
from pathlib import Path

from wsss.datasets.index import TEST, read_dataset
from wsss.errors import InputError


def parser(doc):
    """A parser with the arguments of every command: settings and data set."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--settings", type=as_json, default={}, help="section(s), as JSON")
    made.add_argument("--data", required=True, help="folder with index.csv of the data set")
    made.add_argument("--root", help="where its images lie now, if not where they were indexed")
    return made


def add_run(made, *names):
    """Arguments that tell artifacts apart: variant, seed, stage, split, shard."""
    kinds = {"variant": str, "seed": int, "stage": int, "split": str, "shard": int, "shards": int}
    for name in names:
        made.add_argument(f"--{name}", type=kinds[name], required=True)


def add_hardware(made):
    """Arguments on where and how a network runs."""
    made.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    made.add_argument("--gpus", type=int, default=1, help="GPUs that this job was given")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--workers", type=int, default=0, help="processes that load images")
    made.add_argument("--channels-last", type=as_json, default=False)


def as_json(text):
    """Parse a JSON argument."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"argument is not JSON ({error}): {text[:80]}") from error


def dataset_index(args, test=False):
    """The `DatasetIndex` of the arguments; if `test`, or for that split, with its images."""
    return read_dataset(args.data, args.root, test or getattr(args, "split", None) == TEST)


def identity(args, index, *names):
    """The identity of an artifact: data set and class list, and the named arguments."""
    return {
        "dataset": Path(args.data).name,
        "index_digest": index.digest,
        "classes": list(index.classes),
        **{name: getattr(args, name) for name in names},
    }


def class_keys(index, record):
    """Class ids 0..C-1 of a record's labels, ascending."""
    return [c for c, present in enumerate(index.label_vector(record)) if present]

"""A whole folder of results: whether its files are as they were written, and belong together."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wsss.compute.progress import progress
from wsss.datasets.index import TEST_FILE, DatasetIndex, data_above, read_dataset
from wsss.errors import InputError, listed
from wsss.reports.disk import readable_bytes
from wsss.reports.inspection import table_lines
from wsss.storage.artifacts import ArtifactReader

CHECKPOINT = "checkpoint"
REMEDY = "remake it with snakemake -f {}"


@dataclass(frozen=True)
class ResultFile:
    """An artifact or a checkpoint that could be read whole."""

    path: Path
    kind: str
    digest: str
    sources: dict[str, str]
    header: dict
    ids: tuple[str, ...] = ()


def check_tree(folder: str | Path) -> tuple[list[str], list[str]]:
    """Check all artifacts and checkpoints in a folder of results.

    Each is compared with its checksum, with the index of its data set, and with the digests of
    the files that it was made from, as far as these are there.

    Returns:
        Lines on what lies there by kind, and a line for each problem.

    Raises:
        InputError: there is nothing to check.
    """
    paths = result_paths(folder)
    if not paths:
        raise InputError(f"{folder}: no artifact (.h5) or checkpoint (.pt) in it; name another")
    files, problems = [], []
    for path in progress(paths, desc="checking", unit="file"):
        try:
            files.append(read_file(path))
        except InputError as error:
            problems.append(str(error))
    problems += [*index_problems(files), *source_problems(files)]
    return table_lines(_summary(files)), problems


def result_paths(folder: str | Path) -> list[Path]:
    """Artifacts and checkpoints in a folder; what is hidden belongs to jobs that are under way."""
    paths = (path for path in Path(folder).rglob("*") if path.suffix in (".h5", ".pt"))
    return sorted(
        path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def read_file(path: Path) -> ResultFile:
    """What a file is, once its checksums have been compared; InputError if they differ."""
    if path.suffix == ".h5":
        reader = ArtifactReader(path)
        header = reader.headers[path]
        digest, sources = header["content_digest"], header["sources"]
        return ResultFile(path, header["kind"], digest, sources, header, reader.ids)
    from wsss.storage.checkpoint import read_checkpoint  # torch takes seconds

    checkpoint = read_checkpoint(path)
    digest, sources = checkpoint["digest"], checkpoint.get("sources", {})
    return ResultFile(path, CHECKPOINT, digest, sources, checkpoint["identity"])


def index_problems(files: list[ResultFile]) -> Iterator[str]:
    """Files of another index than that above them, and folders of shards that lack images."""
    index_above = cache(_index_above)
    shards = defaultdict(list)
    for file in files:
        index = index_above(data_above(file.path))
        if index and file.header.get("index_digest", index.digest) != index.digest:
            yield f"{file.path}: made for another index.csv; {REMEDY.format(file.path)}"
        elif index and file.kind != CHECKPOINT:
            shards[file.path.parent].append((file, index))
    for folder, found in shards.items():
        (first, index), *_ = found
        expected = {record.image_id for record in index.split(first.header.get("split", "train"))}
        missing = expected.difference(*(file.ids for file, _ in found))
        if missing:
            yield f"{folder}: {len(missing)} image(s) of the index missing: {listed(missing, 3)}"


def _index_above(folder: Path | None) -> DatasetIndex | None:
    """The index in a folder; its photographs are not looked for."""
    return read_dataset(folder, folder, test=(folder / TEST_FILE).is_file()) if folder else None


def source_problems(files: list[ResultFile]) -> Iterator[str]:
    """Files that were made from another version of a file than the one that lies there now."""
    digests = {file.path.resolve(): file.digest for file in files}
    for file in files:
        for source, digest in file.sources.items():
            # A source is named from the folder of the run, which is one of those above.
            places = (folder / source for folder in file.path.resolve().parents)
            if any(digests.get(place, digest) != digest for place in places):
                yield f"{file.path}: made from another {source}; {REMEDY.format(file.path)}"


def _summary(files):
    """A row a kind."""
    by_kind = defaultdict(list)
    for file in files:
        by_kind[file.kind].append(file)
    rows = [("kind", "files", "images", "size")]
    for kind, same in sorted(by_kind.items()):
        size = readable_bytes(sum(file.path.stat().st_size for file in same))
        images = str(sum(len(file.ids) for file in same)) if kind != CHECKPOINT else "-"
        rows.append((kind, str(len(same)), images, size))
    return rows

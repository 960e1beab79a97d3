"""HDF5 artifacts: one file per artifact and shard, a record per image.

`/records/<image_id>` is a data set (one array) or a group of data sets (several arrays). The root
attributes say what the file is, what it was made with and from, and hold a digest of its content,
made while it is written. A file appears under its name only when it is whole and sealed, and is
then read-only; a reader looks at the seal once, before HDF5 sees the file.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from wsss.errors import InputError, listed, reason_of
from wsss.storage.files import QuietFile, atomic_path
from wsss.storage.seals import problem_of, seal

SCHEMA_VERSION = 1
CACHED_STRUCTURE = 1 << 18  # bytes, as HDF5 counts them; they take 13 times that
# Identity: what a reader compares. The rest of the root attributes is provenance.
IDENTITY_KEYS = ("dataset", "index_digest", "classes", "variant", "seed", "stage", "split")
CORRECTED = "corrected"  # attribute of a pseudo label that is a mask from people, and not scored
# What decides values, by the names of requirements.lock.
PACKAGES = ("h5py", "numpy", "opencv-python-headless", "pillow", "pydensecrf2", "torch")


@dataclass(frozen=True)
class Record:
    """An image's array (or dict of arrays) and its attributes."""

    array: np.ndarray | dict[str, np.ndarray]
    attributes: dict


class ArtifactWriter:
    """Write an artifact; use as a context manager.

    Args:
        path: where the file will lie; nothing is there before it is complete.
        kind: e.g. `cams`.
        identity: values for some of `IDENTITY_KEYS`.
        parameters: settings it was made with (JSON-able).
        sources: name -> content digest of what it was made from.
        expected: the image ids it must hold in the end.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        *,
        identity: dict[str, Any],
        parameters: dict[str, Any],
        sources: dict[str, str],
        expected: Iterable[str],
    ):
        unknown = set(identity) - set(IDENTITY_KEYS)
        if unknown:
            raise ValueError(f"not an identity key: {', '.join(sorted(unknown))}")
        self.path = Path(path)
        self.kind = kind
        self.header = {
            "kind": kind,
            "schema_version": SCHEMA_VERSION,
            **{key: _plain(value) for key, value in identity.items()},
            "parameters": _json(parameters),
            "sources": _json(sources),
            "versions": _json(installed_versions()),
        }
        self.expected = list(expected)
        self._digests = {}

    def __enter__(self):
        self._writing = self._write_all()
        return self._writing.__enter__()

    def __exit__(self, *error):
        return self._writing.__exit__(*error)

    @contextmanager
    def _write_all(self):
        with atomic_path(self.path, durable=True) as temporary:
            with (
                QuietFile(temporary, "w+") as self._disk,
                h5py.File(self._disk, "w", libver=("v110", "v110")) as file,
            ):
                _bound_cache(file)
                file.attrs.update(self.header)
                self._records = file.create_group("records")
                yield self
                self._refuse_gaps()
                file.attrs["content_digest"] = content_digest(self._digests)
            seal(temporary)
            os.chmod(temporary, 0o444)

    def write(
        self, image_id: str, array: np.ndarray | dict[str, np.ndarray], **attributes: Any
    ) -> None:
        """Add an image's array or dict of arrays; attributes are numbers, strings or lists."""
        if image_id in self._digests:
            raise ValueError(f"{self.path}: image {image_id} written twice")
        if isinstance(array, dict):
            node = self._records.create_group(image_id)
            for name, part in array.items():
                _create_dataset(node, name, part, image_id)
        else:
            node = _create_dataset(self._records, image_id, array, image_id)
        node.attrs.update(attributes)
        self._disk.raise_error()
        self._digests[image_id] = record_digest(array, attributes)

    def _refuse_gaps(self):
        missing = [i for i in self.expected if i not in self._digests]
        surplus = sorted(set(self._digests) - set(self.expected))
        if missing or surplus:
            raise ValueError(
                f"{self.path}: {len(missing)} image(s) missing, {len(surplus)} not expected: "
                f"{listed(missing + surplus)}"
            )


def _create_dataset(parent, name, array, image_id):
    array = np.asarray(array)
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"image {image_id}: {name} holds values that are not finite")
    if array.size == 0:  # no chunks in an empty data set, e.g. no CAM for an image without labels
        return parent.create_dataset(name, data=array)
    return parent.create_dataset(
        name, data=array, chunks=array.shape, compression="gzip", compression_opts=4, shuffle=True
    )


def record_digest(array: np.ndarray | dict[str, np.ndarray], attributes: dict[str, Any]) -> str:
    """SHA-256 over names, types, shapes, values and attributes of one record."""
    digest = hashlib.sha256()
    parts = array if isinstance(array, dict) else {"": array}
    for name in sorted(parts):
        part = np.ascontiguousarray(parts[name])
        digest.update(f"{name}|{part.dtype.str}|{part.shape}|".encode())
        digest.update(part.tobytes())
    plain = {key: np.asarray(value).tolist() for key, value in attributes.items()}
    digest.update(_json(plain).encode())
    return digest.hexdigest()


def content_digest(digests: dict[str, str]) -> str:
    """The content digest of an artifact: over its records, in the order of their ids."""
    joined = "".join(f"{image_id}={digests[image_id]};" for image_id in sorted(digests))
    return hashlib.sha256(joined.encode()).hexdigest()


class ArtifactReader:
    """Read one kind of artifact (or any, with None) from one or several shard files.

    Files are opened when first needed and once per process, so a reader may travel to workers.

    Raises:
        InputError: a file that is missing, damaged, of another kind, of a newer schema, or of
            another data set, variant, seed or stage than `identity` says; an image twice.
    """

    def __init__(
        self, paths: str | Path | Iterable[str | Path], kind: str | None = None, **identity: Any
    ):
        self.paths = [Path(p) for p in ([paths] if isinstance(paths, str | Path) else paths)]
        self.kind = kind
        self._open_files = {}
        self._where = {}
        self.headers = {}
        for path in self.paths:
            self._add(path, identity)
        self.ids = tuple(self._where)

    def _add(self, path, identity):
        with _complaints(path):
            _check_seal(path)
            with _open(path) as file:
                header = _header_of(file)
                _check_header(path, header, self.kind, identity)
                ids = list(file["records"])
        twice = [i for i in ids if i in self._where]
        if twice:
            raise InputError(
                f"{path}: image(s) also in {self._where[twice[0]]}: {listed(twice)}; "
                "give each shard once"
            )
        self._where.update(dict.fromkeys(ids, path))
        self.headers[path] = header

    def __contains__(self, image_id):
        return image_id in self._where

    def __getstate__(self):
        return {**self.__dict__, "_open_files": {}}

    def read(self, image_id: str, names: Sequence[str] | None = None) -> Record:
        """The `Record` of an image; of several arrays those of these names alone, if given."""
        with self._node(image_id) as node:
            attributes = _attributes_of(node)
            if isinstance(node, h5py.Dataset):
                return Record(node[()], attributes)
            chosen = node if names is None else names
            return Record({name: node[name][()] for name in chosen}, attributes)

    def attributes(self, image_id: str) -> dict[str, Any]:
        """The attributes of an image alone; no array is decoded."""
        with self._node(image_id) as node:
            return _attributes_of(node)

    def path_of(self, image_id: str) -> Path:
        """The file that holds an image."""
        return self._where[image_id]

    def names(self, image_id: str) -> tuple[str, ...]:
        """The names of the several arrays of an image."""
        with self._node(image_id) as node:
            return tuple(node)

    @contextmanager
    def _node(self, image_id):
        """The open group or data set of an image."""
        if image_id not in self._where:
            raise InputError(
                f"{listed(self.paths, 1)}: no image {image_id} among its {self.kind}; "
                "remake the file with snakemake -f FILE"
            )
        path = self._where[image_id]
        key = (os.getpid(), path)  # an open HDF5 file does not survive a fork
        with _complaints(f"{path}: image {image_id}", path):
            if key not in self._open_files:
                self._open_files[key] = _open(path)
            yield self._open_files[key]["records"][image_id]

    @property
    def sources(self) -> dict[str, str]:
        """Name -> content digest, for the `sources` of what is made from these files."""
        return {path.as_posix(): h["content_digest"] for path, h in self.headers.items()}


@contextmanager
def _complaints(what, path=None):
    """Turn what HDF5 says of a disk that fails, errors of nearly any kind, into one line."""
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{what}: may not be read; check its permissions") from error
    except Exception as error:
        raise InputError(
            f"{what} cannot be read ({reason_of(error)}); look at the disk, or remake it with "
            f"snakemake -f {path or what}"
        ) from error


def _check_seal(path):
    """InputError unless the file is there, and as it was written."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with snakemake {path}")
    problem = problem_of(path)
    if problem:
        raise InputError(f"{path}: {problem}; remake it with snakemake -f {path}")


def _open(path):
    """Without a lock: nobody writes to a file that has its name, and not all disks have locks."""
    file = h5py.File(path, "r", locking=False)
    _bound_cache(file)
    return file


def _bound_cache(file):
    """Keep less of the file's structure in memory.

    By itself HDF5 keeps what it has seen of each record, some 10 KB an image for each open file
    and process, in pieces so small that the C library cannot give back what lies between them:
    a training grew by 0.1 to 0.25 MB a step until it had read each image once.
    """
    config = file.id.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = CACHED_STRUCTURE
    config.incr_mode = config.flash_incr_mode = config.decr_mode = 0  # it does not adapt
    file.id.set_mdc_config(config)


def _header_of(file):
    """Root attributes of an open artifact, with JSON attributes parsed."""
    header = {key: _python(value) for key, value in file.attrs.items()}
    for key in ("parameters", "sources", "versions", "classes"):
        if key in header:
            header[key] = json.loads(header[key])
    return header


def _check_header(path, header, kind, identity):
    if kind is not None and header["kind"] != kind:
        raise InputError(f"{path}: holds {header['kind']}, not {kind}; give another file")
    if header["schema_version"] > SCHEMA_VERSION:
        raise InputError(
            f"{path}: written by a newer version (schema {header['schema_version']}, "
            f"known: {SCHEMA_VERSION}); update this checkout"
        )
    for key, value in identity.items():
        expected = list(value) if isinstance(value, tuple) else value
        if header.get(key) != expected:
            raise InputError(
                f"{path}: made for {key} {header.get(key)!r}, needed is {expected!r}; "
                f"remake it with snakemake -f {path}"
            )


def _attributes_of(node):
    return {key: _python(value) for key, value in node.attrs.items()}


def _python(value):
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _plain(value):
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _json(value):
    return json.dumps(value, sort_keys=True)


def installed_versions() -> dict[str, str]:
    """Versions of the installed `PACKAGES`; none is imported for it, torch takes seconds."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

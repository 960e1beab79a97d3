"""Files that are either whole or not there."""

import csv
import errno
import hashlib
import io
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsss.errors import InputError, reason_of

NO_ROOM = "free some space, or set keep: final, and run again"
NOT_ALLOWED = "make the folder writable, or run as its owner"
NO_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)
REMEDIES = {
    errno.ENOSPC: f"the disk is full; {NO_ROOM}",
    errno.EDQUOT: f"your disk quota is used up; {NO_ROOM}",
    errno.EFBIG: "the file is larger than the limit on files; raise the limit (ulimit -f)",
    errno.EACCES: f"permission denied; {NOT_ALLOWED}",
    errno.EPERM: f"permission denied; {NOT_ALLOWED}",
    errno.EROFS: f"the disk is mounted read-only; {NOT_ALLOWED}",
    errno.EISDIR: "a folder of that name is in the way; rename it, or choose another name",
    errno.ENAMETOOLONG: "the name or the path is too long for the file system; shorten it",
    errno.EIO: "the disk reports an error; look at it before running again",
}


@contextmanager
def atomic_path(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there on success, remove it on failure.

    The name keeps the suffix of `path`, since writers choose their format by it, and has that of
    the process, since two may write the same file: the last one to end wins. A process that is
    killed leaves its file behind; it is hidden, and nothing reads it.

    What is `durable` is on disk in the end and outlives a power cut, for files that took long to
    make: it costs 4 ms a file on a solid-state disk, writing a small one without it 0.3 ms.

    Raises:
        InputError: the disk is full, or may not be written, or the folder cannot be made.
    """
    path = Path(path)
    with _write_problems(path):
        make_folder(path.parent)
        writer = f"{socket.gethostname()}-{os.getpid()}"
        temporary = path.with_name(f".{path.stem}.{writer}.partial{path.suffix}")
        try:
            yield temporary
            if durable:
                flush(temporary)
            os.replace(temporary, path)
            if durable:
                flush(path.parent)
        finally:
            with suppress(PermissionError):
                temporary.unlink(missing_ok=True)


def write_csv(
    path: str | Path, columns: Iterable[str], rows: Iterable[Sequence], durable: bool = False
) -> None:
    """Write a table as UTF-8, with a line of column names; see `atomic_path`."""
    with (
        atomic_path(path, durable) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def make_folder(folder: str | Path, key: str | None = None) -> None:
    """Make a folder, and those around it, where they are not there.

    Raises:
        InputError: it cannot be made, as where a file is in the way; `key` is what named it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = f"{key} {folder}" if key else folder
        remedy = REMEDIES.get(error.errno, "name another folder")
        raise InputError(
            f"{place}: the folder cannot be made ({reason_of(error)}): {remedy}"
        ) from error


@contextmanager
def _write_problems(path):
    """A disk that is full or may not be written becomes one line with the path and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES or _is_elsewhere(error, path.parent):
            raise
        raise InputError(f"{path}: cannot be written: {REMEDIES[error.errno]}") from error


def _is_elsewhere(error, folder):
    """Whether an error is not of writing into a folder: what writes a file reads others, too."""
    if error.errno == errno.ENOSPC or error.filename is None:
        return False
    place = Path(os.fsdecode(error.filename))
    return folder not in (place, place.parent) and place not in folder.parents


class QuietFile(io.FileIO):
    """A file that keeps back what goes wrong in writing, to raise it when the `with` block ends.

    Told of a full disk, HDF5 crashes when it closes the file, and PyTorch complains of something
    else.
    """

    error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def raise_error(self) -> None:
        """Raise the first error that was kept back, before the block ends."""
        if self.error is not None:
            raise self.error

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.raise_error()  # it is the cause of any other one


def flush(path: str | Path) -> None:
    """Have a file, or the names in a folder, on disk, so that the power may go.

    Where a folder cannot be flushed, as on some network disks, that is all right.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in NO_FLUSH or not Path(path).is_dir():
            raise


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content as a hexadecimal string."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

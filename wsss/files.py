"""Files that are either whole or not there."""

import errno
import glob
import hashlib
import io
import os
import re
import shutil
import socket
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from wsss.errors import InputError

NO_ROOM = "free some space, or set keep: final, and run again"
NOT_ALLOWED = "make the folder writable, or run as its owner"
NO_FLUSH = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)
DAY = 24 * 60 * 60  # seconds
FULL_DISK = 1 << 16  # bytes left
REMEDIES = {
    errno.ENOSPC: f"the disk is full; {NO_ROOM}",
    errno.EDQUOT: f"your disk quota is used up; {NO_ROOM}",
    errno.EFBIG: "the file is larger than the limit on files; raise the limit (ulimit -f)",
    errno.EACCES: f"permission denied; {NOT_ALLOWED}",
    errno.EPERM: f"permission denied; {NOT_ALLOWED}",
    errno.EROFS: f"the disk is mounted read-only; {NOT_ALLOWED}",
    errno.ENAMETOOLONG: "the name or the path is too long for the file system; shorten it",
    errno.EIO: "the disk reports an error; look at it before running again",
}


@contextmanager
def atomic_path(path, tidy=True, durable=False):
    """Yield a temporary path beside `path`; move it there on success, remove it on failure.

    The name keeps the suffix of `path`, since writers choose their format by it. What killed
    processes left behind is removed, if `tidy`: that reads the folder, which for a file among very
    many takes longer than writing it. `remove_leftovers` does it for all at once.

    What is `durable` is on disk in the end and outlives a power cut, for files that took long to
    make: it costs 4 ms a file on a solid-state disk, writing a small one without it 0.3 ms.

    Raises:
        InputError: the disk is full, or may not be written, or the folder cannot be made.
    """
    path = Path(path)
    with _write_problems(path):
        make_folder(path.parent)
        if tidy:
            pattern = f".{glob.escape(path.stem)}.*-*.partial{glob.escape(path.suffix)}"
            _remove_abandoned(path.parent.glob(pattern))
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


def make_folder(folder, key=None):
    """Make a folder, and those around it, where they are not there.

    Raises:
        InputError: it cannot be made, as where a file is in the way; `key` is what named it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = f"{key} {folder}" if key else folder
        remedy = REMEDIES.get(error.errno, "name another folder")
        reason = error.strerror or error
        raise InputError(f"{place}: the folder cannot be made ({reason}): {remedy}") from error


@contextmanager
def _write_problems(path):
    """A disk that is full or may not be written becomes one line with the path and the remedy."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        remedy = REMEDIES.get(_number_of(error, path.parent))
        if remedy is None:
            raise
        raise InputError(f"{path}: cannot be written: {remedy}") from error


def _number_of(error, folder):
    """The system's number of an error while writing into a folder, or None if it is another one.

    HDF5 has it in its text. PyTorch says nothing of it, but leaves the disk as full as it is.
    """
    if isinstance(error, FileExistsError | FileNotFoundError | NotADirectoryError):
        return None
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = Path(os.fsdecode(error.filename or folder))
        elsewhere = folder not in (place, place.parent) and place not in folder.parents
        return None if elsewhere and error.errno != errno.ENOSPC else error.errno
    found = re.search(r"errno = (\d+)", str(error))
    if found:
        return int(found[1])
    full = isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < FULL_DISK
    return errno.ENOSPC if full else None


class QuietFile(io.FileIO):
    """A file that keeps back what goes wrong in writing, until it is asked by `raise_error`.

    Told of a full disk, HDF5 crashes when it closes the file, and PyTorch complains of something
    else.
    """

    error = None

    def write(self, data):
        rest = memoryview(data)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size=None):
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def raise_error(self):
        """Raise the first error that was kept back."""
        if self.error is not None:
            raise self.error


def flush(path):
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


def remove_leftovers(folder):
    """Remove unfinished files in a folder that killed processes left there."""
    _remove_abandoned(Path(folder).glob(".*.*-*.partial.*"))


def _remove_abandoned(paths):
    for left in paths:
        # Another job may be at it, too; and in a shared folder it may be somebody else's.
        with suppress(FileNotFoundError, PermissionError):
            if _is_abandoned(left):
                left.unlink()


def _is_abandoned(left):
    """Whether nobody writes an unfinished file any more.

    Which processes live on another machine cannot be asked: there a day without writing counts.
    """
    writer, _, process = left.name.rpartition(".partial")[0].rpartition("-")
    if not process.isdecimal():
        return False
    if writer.endswith(f".{socket.gethostname()}"):
        return not _alive(int(process))
    return time.time() - left.stat().st_mtime > DAY


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def expanded_path(text: str, key: str) -> Path:
    """A path of the configuration with ~ and $VARIABLES replaced.

    Raises:
        InputError: a variable is not set; `key` is what named the path.
    """
    expanded = os.path.expanduser(os.path.expandvars(text))
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise InputError(
            f"{key}: the environment variable {unset[1]} is not set; "
            f"export {unset[1]}=/path/to/folder, or write the path into the configuration"
        )
    return Path(expanded)


def sha256_of(path):
    """SHA-256 of a file's content as a hexadecimal string."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

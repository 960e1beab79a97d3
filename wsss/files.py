"""Files that are either whole or not there."""

import glob
import hashlib
import os
import socket
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path, tidy=True):
    """Yield a temporary path beside `path`; move it there on success, remove it on failure.

    The name keeps the suffix of `path`, since writers choose their format by it. What a killed
    process of this machine left behind is removed, if `tidy`: that reads the folder, which for a
    file among very many takes longer than writing it. `remove_leftovers` does it for all at once.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    if tidy:
        _remove_dead(path.parent.glob(f".{glob.escape(path.stem)}.{host}-*.partial{path.suffix}"))
    temporary = path.with_name(f".{path.stem}.{host}-{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder):
    """Remove unfinished files in a folder that killed processes of this machine left there."""
    _remove_dead(Path(folder).glob(f".*.{socket.gethostname()}-*.partial.*"))


def _remove_dead(paths):
    for left in paths:
        process = left.name.rpartition(".partial")[0].rpartition("-")[2]
        if process.isdecimal() and not _alive(int(process)):
            left.unlink(missing_ok=True)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def sha256_of(path):
    """SHA-256 of a file's content as a hexadecimal string."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A checksum at the end of a file, so that a damaged one is known before anything parses it.

HDF5 checks neither texts nor data that do not compress, and there are single flipped bits that it
never comes back from. It ignores what follows its own last byte; there lies the seal. A file
without one was cut off on its way, or is none of ours.
"""

import hashlib
import os
import zipfile
from pathlib import Path

MAGIC = b"\nAuxSegNet-seal\n"
LENGTH = len(MAGIC) + hashlib.sha256().digest_size
BLOCK = 1 << 20  # bytes that are read at once
FOLDER = 0x10  # among the attributes of a part of a ZIP file


def seal(path: str | Path) -> None:
    """Append the SHA-256 of a whole file to it."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        digest = _digest(file, size)
        file.seek(size)
        file.write(MAGIC + digest)


def problem_of(path: str | Path) -> str | None:
    """What is wrong with a file that should be sealed, or None if it is as it was sealed.

    Raises:
        OSError: it cannot be read.
    """
    size = os.path.getsize(path) - LENGTH
    with open(path, "rb") as file:
        file.seek(max(0, size))
        found = file.read()
        if not found.startswith(MAGIC):
            return "no artifact of this workflow, or a truncated one (no checksum at its end)"
        file.seek(0)
        if found[len(MAGIC) :] != _digest(file, size):
            return "damaged since it was written (its checksum differs)"
    return None


def check_parts(path: str | Path) -> None:
    """Compare a file of `torch.save` with its checksums, which PyTorch itself does not look at.

    Raises:
        OSError, zipfile.BadZipFile, ...: it cannot be read, is damaged, or is no such file.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        folders = [part.filename for part in archive.infolist() if part.external_attr & FOLDER]
    if damaged or folders:  # PyTorch reads nothing of a part that a flipped bit calls a folder
        raise zipfile.BadZipFile(f"{(damaged or folders[0])[:60]!r} is damaged")


def _digest(file, size):
    digest = hashlib.sha256()
    while size and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.digest()

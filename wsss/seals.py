"""A checksum at the end of a file, so that a damaged one is known before anything parses it.

HDF5 checks neither texts nor data that do not compress, and there are single flipped bits that it
never comes back from. It ignores what follows its own last byte; there lies the seal.
"""

import hashlib
import os

MAGIC = b"\nAuxSegNet-seal\n"
LENGTH = len(MAGIC) + hashlib.sha256().digest_size
BLOCK = 1 << 20  # bytes that are read at once


def seal(path):
    """Append the SHA-256 of a whole file to it."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        digest = _digest(file, size)
        file.seek(size)
        file.write(MAGIC + digest)
        file.flush()
        os.fsync(file.fileno())


def is_intact(path):
    """False if a file is not what was sealed; True for one without a seal, as older ones are.

    Raises:
        OSError: it cannot be read.
    """
    size = os.path.getsize(path) - LENGTH
    with open(path, "rb") as file:
        file.seek(max(0, size))
        found = file.read()
        if not found.startswith(MAGIC):
            return not any(part in found for part in (MAGIC, MAGIC.strip()))  # a seal cut off
        file.seek(0)
        return found[len(MAGIC) :] == _digest(file, size)


def _digest(file, size):
    digest = hashlib.sha256()
    while size and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.digest()

"""Reader of MXNet's `.params` files, without MXNet.

The format (little-endian) is that of `NDArray::Save` and `NDArray::Load` in apache/mxnet,
src/ndarray/ndarray.cc: a header, a list of arrays and a list of their names. Every length is
compared with what is left of the file before anything is allocated.
"""

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

LIST_MAGIC = 0x112
MAGIC_V1, MAGIC_V2, MAGIC_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_DIMENSIONS = 32
DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8"}


def is_mxnet_params(path: str | Path) -> bool:
    """Whether a file begins like a `.params` file."""
    with open(path, "rb") as file:
        return file.read(8) == struct.pack("<Q", LIST_MAGIC)


def read_mxnet_params(path: str | Path) -> dict[str, np.ndarray]:
    """Read a `.params` file as a dict of name (with its `arg:` or `aux:`) -> writable array.

    Raises `ValueError` with one line naming the file if it is truncated, damaged, holds sparse
    arrays or a data type that MXNet 1.x does not have.
    """
    with open(path, "rb") as file:
        reader = _Reader(file, Path(path))
        magic, reserved = reader.unpack("<QQ", "the header")
        if magic != LIST_MAGIC or reserved != 0:
            raise reader.error("not an MXNet .params file")
        count = reader.count("the number of arrays", bytes_each=4)
        arrays = [_read_array(reader, f"array {index}") for index in range(count)]
        if reader.count("the number of names", bytes_each=8) != count:
            raise reader.error("the number of names is not the number of arrays")
        names = [_read_name(reader, f"name {index}") for index in range(count)]
        if reader.left:
            raise reader.error(f"{reader.left} bytes follow the last name")
        if len(set(names)) != count:
            raise reader.error("a name occurs twice")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """A file that knows what is left of it."""

    def __init__(self, file: BinaryIO, path: Path):
        self.file, self.path = file, path
        self.left = os.fstat(file.fileno()).st_size

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {problem}; fetch the file again")

    def take(self, size: int, what: str) -> bytes:
        if size > self.left:
            raise self.error(f"truncated in {what} ({size} bytes needed, {self.left} left)")
        data = self.file.read(size)
        if len(data) != size:
            raise self.error(f"truncated in {what}")
        self.left -= size
        return data

    def unpack(self, layout: str, what: str) -> tuple:
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))

    def count(self, what: str, bytes_each: int) -> int:
        """A u64 that counts things of at least `bytes_each` bytes."""
        (count,) = self.unpack("<Q", what)
        if count > self.left // bytes_each:
            raise self.error(f"{what} ({count}) is more than the file can hold")
        return count


def _read_array(reader, what):
    shape = _read_shape(reader, what)
    _device_type, _device_id, code = reader.unpack("<iii", what)
    if code not in DTYPES:
        raise reader.error(f"{what} has the unknown data type {code}")
    dtype = np.dtype(DTYPES[code])
    # Python's integers do not overflow: a shape from a damaged file may multiply to anything.
    data = bytearray(reader.take(math.prod(shape) * dtype.itemsize, what))
    return np.frombuffer(data, dtype).reshape(shape)


def _read_shape(reader, what):
    (magic,) = reader.unpack("<I", what)
    if magic in (MAGIC_V2, MAGIC_V3):
        (storage,) = reader.unpack("<i", what)
        if storage != 0:
            raise reader.error(f"{what} is sparse (storage type {storage}), which is not supported")
    if magic in (MAGIC_V1, MAGIC_V2, MAGIC_V3):
        (dimensions,) = reader.unpack("<I", what)
        layout = "q"
    else:
        # Before version 1 the number of dimensions stood where the magic is now.
        dimensions, layout = magic, "I"
    # Only since version 3 is an array without dimensions a scalar; before, it had no data.
    least = 0 if magic == MAGIC_V3 else 1
    if not least <= dimensions <= MAX_DIMENSIONS:
        raise reader.error(f"{what} has {dimensions} dimensions")
    shape = reader.unpack(f"<{dimensions}{layout}", what)
    if any(size < 1 for size in shape):
        raise reader.error(f"{what} has the impossible shape {shape}")
    return shape


def _read_name(reader, what):
    (length,) = reader.unpack("<Q", what)
    try:
        return reader.take(length, what).decode("utf-8")
    except UnicodeDecodeError:
        raise reader.error(f"{what} is not text") from None

"""A writer of MXNet's `.params` files, made from the definition of the format."""

import struct

import numpy as np

V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DTYPES = [np.float32, np.float64, np.float16, np.uint8, np.int32, np.int8, np.int64]


def array_bytes(array, magic, storage=0):
    """One array; `magic` None writes the layout that had none."""
    data = b""
    if magic is None:
        data += struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
    else:
        data += struct.pack("<I", magic)
        if magic in (V2, V3):
            data += struct.pack("<i", storage)
        data += struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
    code = [np.dtype(dtype) for dtype in DTYPES].index(array.dtype)
    return data + struct.pack("<iii", 1, 0, code) + array.tobytes()


def file_bytes(arrays, names):
    """A whole file of arrays that are bytes already."""
    data = struct.pack("<QQQ", 0x112, 0, len(arrays)) + b"".join(arrays)
    data += struct.pack("<Q", len(names))
    for name in names:
        data += struct.pack("<Q", len(name)) + name.encode()
    return data


def write_params(path, arrays, magic=V2):
    """Write a dict of name -> array."""
    encoded = [array_bytes(array, magic) for array in arrays.values()]
    path.write_bytes(file_bytes(encoded, list(arrays)))
    return path

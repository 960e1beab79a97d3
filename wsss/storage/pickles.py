"""Pickles from elsewhere, read without running anything that is in them.

Numpy's files of objects (`np.save` of a dict) are pickles, and a pickle is a program. Here it may
build Python's plain values, numpy arrays and, where asked for, PyTorch's tensors, which become
arrays; whatever else it asks for is refused by name.
"""

import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def read_npy_dict(path: Path, tensors: bool = False) -> dict:
    """The dict that `np.save` was given.

    Arrays in it may be of a subclass of ndarray: `np.asarray` makes them plain.

    Args:
        path: the file.
        tensors: whether PyTorch's tensors are admitted; they come as numpy arrays.

    Raises:
        Exception: of nearly any kind, for a file that is missing, damaged, of something else, or
            asks for more than the above. Callers name the file and the remedy.
    """
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != () or dtype != np.dtype(object):
            raise pickle.UnpicklingError("it holds a plain array, not a dict")
        value = _Unpickler(file, NUMPY | TENSORS if tensors else NUMPY).load().item()
    if not isinstance(value, dict):
        raise pickle.UnpicklingError("it holds no dict")
    return value


class _Unpickler(pickle.Unpickler):
    """Knows the names that it is given, and refuses all others."""

    def __init__(self, stream: BinaryIO, admitted: dict[tuple[str, str], Any]):
        super().__init__(stream, encoding="latin1")  # bytes of Python 2 are texts
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._admitted:
            return self._admitted[module, name]
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which plain arrays do not need: it may be malicious"
        )


class _Dtype:
    """What a pickle says of a dtype: its name and, in its state, the order of its bytes.

    The state of numpy's own has flags besides, by which bytes of the file can pass for pointers.
    """

    def __init__(self, text: str, *_align_and_copy: Any):
        self._text, self._order = str(text), "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]

    def real(self) -> np.dtype:
        return np.dtype(self._text).newbyteorder(self._order)


class _Array(np.ndarray):
    """An array without content, until its state is set."""

    def __setstate__(self, state: tuple) -> None:
        *_, shape, dtype, fortran, data = state
        super().__setstate__((1, shape, dtype.real(), fortran, data))


def _array(shape, dtype, fortran, data):
    array = _Array(0)
    array.__setstate__((shape, dtype, fortran, data))
    return array


def _of_buffer(data, dtype, shape, order):
    """As protocol 5 writes arrays."""
    return _array(shape, dtype, order == "F", bytes(data))


def _tensor(*arguments):
    """Stands in for `torch._utils._rebuild_tensor_v2`."""
    import torch  # takes seconds, and few files need it

    return torch._utils._rebuild_tensor_v2(*arguments).detach().numpy()


def _storage(content):
    """Stands in for `torch.storage._load_from_bytes`, which runs the pickle that it is given."""
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Of nearly any kind; some tell at length how to run the file all the same.
    except Exception as error:
        raise pickle.UnpicklingError("a tensor in it is damaged, or may be malicious") from error


NUMPY = {
    ("numpy", "ndarray"): None,  # which array it is, is known
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): lambda text, _latin1: text.encode("latin1"),  # bytes in protocol 2
    ("__builtin__", "bytes"): lambda: b"",  # the same, empty
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # of numpy 1 and 2
        for module, name, function in (
            ("multiarray", "_reconstruct", lambda *_: _Array(0)),
            ("multiarray", "scalar", lambda dtype, data: _array((), dtype, False, data)[()]),
            ("numeric", "_frombuffer", _of_buffer),
        )
    },
}
TENSORS = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): dict,  # a tensor's hooks, never any
}

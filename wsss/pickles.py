"""Pickles from elsewhere, read without running anything that is in them.

Numpy's files of objects (`np.save` of a dict) are pickles, and a pickle is a program. Here it may
build Python's plain values, numpy arrays and scalars of numbers and texts and, where asked for,
PyTorch's tensors on the CPU, which become numpy arrays; whatever else it asks for is refused by
name. The stand-ins below are given to it instead of the real functions, because those trust their
arguments: a dtype whose flags lie turns the bytes of an array into pointers.
"""

import io
import pickle
import pickletools
import re
import struct
from math import prod

import numpy as np

# Kinds of numbers and texts, by which numpy's pickles name them: f4, i8, b1, U11, ...
PLAIN_DTYPE = re.compile(r"[<>|=]?(?:[biufcSU]\d{1,9}|\?|O8?)")
STORAGE_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # opens what torch.save wrote before it wrote zip files


def read_npy_object(path, tensors=False):
    """The object in an .npy file of one object, such as the dict that `np.save` was given.

    Arrays in it may be of a subclass of ndarray: `np.asarray` makes them plain.

    Args:
        path: the file.
        tensors: whether PyTorch's tensors are admitted; they come as numpy arrays.

    Raises:
        Exception: of nearly any kind, for a file that is missing, damaged, of plain arrays, or
            asks for more than the above. Callers name the file and the remedy.
    """
    with open(path, "rb") as file:
        content = _pickle_of_npy(file)
    value = _load(_Unpickler(io.BytesIO(content), tensors), content)
    return value.item() if isinstance(value, np.ndarray) and value.shape == () else value


def _pickle_of_npy(file):
    """The pickle inside an .npy file of objects; its header is read by numpy, as plain text."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise pickle.UnpicklingError(f"unknown .npy version {version}")
    shape, _, dtype = readers[version](file)
    if shape != () or dtype != np.dtype(object):
        raise pickle.UnpicklingError("it holds a plain array, not a dict")
    return file.read()


def _load(unpickler, content, start=0):
    """Load one pickle, which lies at `start` of `content`, after a look at its memo.

    The memo is an array: a pickle of ten bytes can ask for one of 32 GB.
    """
    stream = io.BytesIO(content)
    stream.seek(start)
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name.endswith("PUT") and int(argument) > len(content):
            raise pickle.UnpicklingError("its memo is larger than the file: it may be malicious")
    return unpickler.load()


class _StandIn:
    """A function that a pickle may call, and not change: a function's defaults can be set."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)

    def __setstate__(self, _state):
        raise pickle.UnpicklingError("it changes a function: it may be malicious")


class _Dtype:
    """What a pickle may say of a dtype: its name and, in its state, the order of its bytes."""

    __slots__ = ("_text",)

    def __init__(self, text, *_align_and_copy):
        text = text.decode("latin1") if isinstance(text, bytes) else text
        if not isinstance(text, str) or not PLAIN_DTYPE.fullmatch(text):
            raise pickle.UnpicklingError(f"it holds values of the type {str(text)[:40]!r}")
        self._text = text.lstrip("<>|=")

    def __setstate__(self, state):
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("the byte order of an array is unknown")
        self._text = order + self._text.lstrip("<>|=")

    @property
    def real(self):
        """The numpy dtype, made from its name alone."""
        return np.dtype(self._text)


class _Array(np.ndarray):
    """An array whose state is checked before numpy takes it."""

    def __setstate__(self, state):
        *_, shape, dtype, fortran, data = state
        dtype = _dtype(dtype)
        if dtype.hasobject:
            if not isinstance(data, list) or len(data) != _count(shape):
                raise pickle.UnpicklingError("an array of objects has not as many as its shape")
        else:
            data = _bytes(data)
            _check_size(_count(shape) * dtype.itemsize, len(data))
        super().__setstate__((1, tuple(shape), dtype, bool(fortran), data))


def _new_array(_class, _shape, _type):
    """Stands in for `_reconstruct`: the state that follows says all."""
    return np.ndarray.__new__(_Array, (0,), "b")


def _array_of_buffer(buffer, dtype, shape, order):
    """Stands in for `_frombuffer`, which pickles of protocol 5 use."""
    data, dtype = _bytes(buffer), _dtype(dtype)
    _check_size(_count(shape) * dtype.itemsize, len(data))
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.view(_Array)


def _scalar(dtype, data):
    data, dtype = _bytes(data), _dtype(dtype)
    if dtype.hasobject or not dtype.itemsize:
        raise pickle.UnpicklingError("a number in it has no number's type")
    _check_size(dtype.itemsize, len(data))
    return np.frombuffer(data, dtype)[0]


def _encode_latin1(text, encoding):
    """Stands in for `_codecs.encode`, which Python-2 style pickles use for bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not needed for arrays")
    return text.encode("latin1")


def _dtype(value):
    if not isinstance(value, _Dtype):
        raise pickle.UnpicklingError("an array in it has no type")
    return value.real


def _bytes(data):
    if isinstance(data, str):  # bytes of Python 2
        return data.encode("latin1")
    return bytes(memoryview(data))  # an int would become as many zeros


def _count(shape):
    """The number of elements of a shape, which is a tuple of whole numbers not below 0."""
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError("the shape of an array is none")
    return prod(shape)


def _check_size(needed, there):
    if needed != there:
        raise pickle.UnpicklingError(f"an array of {needed} bytes has {there} bytes in the file")


# --- tensors -----------------------------------------------------------------------------------


class _Storage:
    """The elements of a tensor, a one-dimensional array; no pickle can reach into it."""

    __slots__ = ("values",)

    def __init__(self, values):
        self.values = values

    def __setstate__(self, _state):
        raise pickle.UnpicklingError("it changes a tensor's storage: it may be malicious")


def _tensor(storage, offset, size, stride, *_gradients_and_hooks):
    """Stands in for `torch._utils._rebuild_tensor_v2`; a numpy array, copied."""
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor in it has no storage")
    count, held = _count(size), len(storage.values)
    _count(stride)
    if len(size) != len(stride) or type(offset) is not int or offset < 0:
        raise pickle.UnpicklingError("a tensor's strides do not fit its shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > held or (count and last >= held):
        raise pickle.UnpicklingError(f"a tensor of {count} elements has {held} in the file")
    step = storage.values.itemsize
    values = storage.values[offset:] if count else storage.values[:0]
    view = np.lib.stride_tricks.as_strided(values, size, [step * s for s in stride])
    return view.copy()


def _storage_of_bytes(content):
    """Stands in for `torch.storage._load_from_bytes`, which unpickles anything.

    Five pickles (magic number, version, the machine, the storage, its key) and the elements behind
    a count of them, as `torch.save(storage, _use_new_zipfile_serialization=False)` writes them.
    """
    stream = io.BytesIO(_bytes(content))
    magic, _, _, storage, _ = (_next_pickle(stream) for _ in range(5))
    if magic != TORCH_MAGIC or not isinstance(storage, tuple):
        raise pickle.UnpicklingError("a tensor in it is not stored as PyTorch stores it")
    name, count = storage
    dtype = np.dtype(STORAGE_DTYPES[name]).newbyteorder("<")
    (stored,) = struct.unpack("<q", stream.read(8))
    data = stream.read()
    if count != stored or count < 0:
        raise pickle.UnpicklingError("a tensor's storage has two lengths")
    _check_size(count * dtype.itemsize, len(data))
    return _Storage(np.frombuffer(data, dtype))


def _next_pickle(stream):
    return _load(_StorageUnpickler(stream), stream.getvalue(), stream.tell())


# --- what may be asked for ---------------------------------------------------------------------

_NUMPY = {
    ("numpy", "ndarray"): None,  # `_new_array` needs no class
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("_codecs", "encode"): _StandIn(_encode_latin1),
    ("__builtin__", "bytes"): _StandIn(lambda: b""),  # as protocol 2 writes them
    **{
        (f"numpy.{core}.{module}", name): _StandIn(function)
        for core in ("core", "_core")  # of numpy 1 and 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _new_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array_of_buffer),
        )
    },
}
_TENSORS = {
    ("torch._utils", "_rebuild_tensor_v2"): _StandIn(_tensor),
    ("torch.storage", "_load_from_bytes"): _StandIn(_storage_of_bytes),
    ("collections", "OrderedDict"): _StandIn(lambda: {}),  # a tensor's hooks, never any
}


class _Unpickler(pickle.Unpickler):
    """Builds what is admitted, and Python's own plain values; refuses the rest."""

    def __init__(self, stream, tensors):
        super().__init__(stream, encoding="latin1")
        self._admitted = _NUMPY | _TENSORS if tensors else _NUMPY

    def find_class(self, module, name):
        if (module, name) in self._admitted:
            return self._admitted[module, name]
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which plain arrays do not need: it may be malicious"
        )


class _StorageUnpickler(pickle.Unpickler):
    """Builds plain values and a storage, as a pair of its type's name and its element count."""

    def find_class(self, module, name):
        if module == "torch" and name in STORAGE_DTYPES:
            return name
        raise pickle.UnpicklingError(
            f"a tensor in it asks for {module}.{name}, which numbers do not need: it may be"
            " malicious"
        )

    def persistent_load(self, pid):
        kind, name, _key, _device, count, *_view = pid
        if kind != "storage" or name not in STORAGE_DTYPES or type(count) is not int:
            raise pickle.UnpicklingError("a tensor in it is not stored as PyTorch stores it")
        return name, count

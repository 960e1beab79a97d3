"""The restricted unpickler: what numpy and PyTorch write is read, what would be run is refused."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch

from wsss.storage.pickles import read_npy_dict


def save(path, value):
    np.save(path, value, allow_pickle=True)
    return path


def save_content(path, content):
    """An .npy file of one object around the bytes of a pickle."""
    with open(path, "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "object.npy"


def numbers(shape, dtype="f4"):
    return (100 * np.random.default_rng(0).random(shape)).astype(dtype)


ARRAYS = [
    *(numbers((3, 4), dtype) for dtype in ("f2", "f4", ">f8", "i1", "u2", "<i8", "?", "c8")),
    numbers(()),
    numbers((0, 5)),
    np.asfortranarray(numbers((3, 4, 5))),
    numbers((6, 8))[::2, ::-1],
    np.array(["cat", "sofa"]),
    np.array([b"cat", b"sofa"]),
    np.array([None, {"a": 1}], object),
]


@pytest.mark.parametrize(("protocol", "core"), [(2, b"core"), (2, b"_core"), (4, None), (5, None)])
def test_arrays_come_back_as_they_were(path, protocol, core):
    whole = np.empty((), object)
    whole[()] = {"arrays": ARRAYS, "scalar": np.int64(7), "text": np.str_("dog"), "none": b""}
    content = pickle.dumps(whole, protocol=protocol)
    if core:  # numpy 1 or 2; this protocol writes names as they are, without their lengths
        content = content.replace(b"cnumpy._core.", b"cnumpy." + core + b".")
    found = read_npy_dict(save_content(path, content))
    for array, back in zip(ARRAYS, found["arrays"], strict=True):
        assert (back.dtype.kind, back.itemsize) == (array.dtype.kind, array.itemsize)
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)
    assert (found["scalar"], found["text"], found["none"]) == (7, "dog", b"")


TENSORS = [
    *(torch.from_numpy(numbers((3, 4), dtype)) for dtype in ("f2", "f4", "f8", "i8", "u1", "?")),
    torch.from_numpy(numbers((2, 6, 8)))[:, 1::2].transpose(1, 2),
    torch.from_numpy(numbers((9,)))[2:5],
    torch.zeros(0, 3),
    torch.tensor(3.5),
    torch.ones(2, 2, requires_grad=True),
]


def test_tensors_come_back_as_arrays(path):
    found = read_npy_dict(save(path, {"tensors": TENSORS}), tensors=True)
    for tensor, back in zip(TENSORS, found["tensors"], strict=True):
        assert type(back) is np.ndarray
        assert back.dtype == tensor.detach().numpy().dtype
        np.testing.assert_array_equal(back, tensor.detach().numpy())


def test_tensors_only_where_they_are_asked_for(path):
    with pytest.raises(pickle.UnpicklingError, match=r"torch\._utils\._rebuild_tensor_v2"):
        read_npy_dict(save(path, {"cam": torch.ones(2)}))


# --- what would be run -------------------------------------------------------------------------


class Calls:
    """Pickled as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def storage_pickle(obj):
    """What the bytes of a tensor's storage look like, with any object in the place of it."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {}, obj, ["0"]]
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


def test_a_command_is_not_run_wherever_it_hides(tmp_path, path):
    victim = tmp_path / "owned"
    command = Calls(os.system, f"touch {victim}")
    nested = Calls(torch.storage._load_from_bytes, storage_pickle(command))
    tensor = Calls(torch._utils._rebuild_tensor_v2, nested, 0, (1,), (1,), False, {})
    for value in (command, {"cam": command}, {"cam": nested}, {"cam": tensor}):
        save(path, value)
        with pytest.raises(pickle.UnpicklingError, match="malicious"):
            read_npy_dict(path, tensors=True)
        assert not victim.exists()
    with pytest.raises(Exception, match=r"."):  # no storage comes out of it, but it has run
        np.load(path, allow_pickle=True)
    assert victim.exists()


@pytest.mark.parametrize("reference", ["builtins eval", "numpy load", "torch load", "_codecs open"])
def test_other_names_are_refused(path, reference):
    module, name = reference.split()
    save_content(path, f"c{module}\n{name}\n.".encode())
    with pytest.raises(pickle.UnpicklingError, match=f"{module}.{name}"):
        read_npy_dict(path, tensors=True)


def test_bytes_do_not_pass_for_pointers(path):
    """Numpy itself takes a dtype of objects whose flags say that its bytes are plain ones."""
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
    dtype = b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    pointer = b"C\x08" + struct.pack("<Q", 0xDEADBEEF)
    save_content(path, array + b"(I1\n(I1\nt" + dtype + b"I00\n" + pointer + b"tb.")
    with pytest.raises(TypeError, match="not returning list"):
        read_npy_dict(path)


def test_truncated_anywhere(path):
    save(path, {"cam": torch.ones(3, 4), 5: np.ones((2, 2), np.float32)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Exception, match=r"."):
            read_npy_dict(path, tensors=True)


def test_plain_arrays_are_no_objects(path):
    np.save(path, np.ones(3))
    with pytest.raises(pickle.UnpicklingError, match="plain array"):
        read_npy_dict(path)

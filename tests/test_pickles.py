"""The restricted unpickler: what numpy and PyTorch write is read, what does harm is refused."""

import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from wsss.pickles import read_npy_object


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


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_come_back_as_they_were(path, protocol):
    whole = np.empty((), object)
    whole[()] = {"arrays": ARRAYS, "scalar": np.int64(7), "text": np.str_("dog")}
    found = read_npy_object(save_content(path, pickle.dumps(whole, protocol=protocol)))
    for array, back in zip(ARRAYS, found["arrays"], strict=True):
        assert (back.dtype.kind, back.itemsize) == (array.dtype.kind, array.itemsize)
        assert back.shape == array.shape
        np.testing.assert_array_equal(back, array)
    assert (found["scalar"], found["text"]) == (7, "dog")


TENSORS = [
    *(torch.from_numpy(numbers((3, 4), dtype)) for dtype in ("f2", "f4", "f8", "i8", "u1", "?")),
    torch.from_numpy(numbers((2, 6, 8)))[:, 1::2].transpose(1, 2),
    torch.from_numpy(numbers((9,)))[2:5],
    torch.zeros(0, 3),
    torch.tensor(3.5),
    torch.ones(2, 2, requires_grad=True),
]


def test_tensors_come_back_as_arrays(path):
    found = read_npy_object(save(path, {"tensors": TENSORS}), tensors=True)
    for tensor, back in zip(TENSORS, found["tensors"], strict=True):
        assert type(back) is np.ndarray
        assert back.dtype == tensor.detach().numpy().dtype
        np.testing.assert_array_equal(back, tensor.detach().numpy())


def test_tensors_only_where_they_are_asked_for(path):
    with pytest.raises(pickle.UnpicklingError, match=r"torch\._utils\._rebuild_tensor_v2"):
        read_npy_object(save(path, {"cam": torch.ones(2)}))


def test_other_tensors_are_refused(path):
    for tensor in (torch.ones(2, dtype=torch.bfloat16), torch.ones(2).to_sparse()):
        with pytest.raises(pickle.UnpicklingError, match="asks for torch"):
            read_npy_object(save(path, {"cam": tensor}), tensors=True)


# --- harm --------------------------------------------------------------------------------------


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
        with pytest.raises(pickle.UnpicklingError, match=r"system.*malicious"):
            read_npy_object(path, tensors=True)
        assert not victim.exists()
    with pytest.raises(Exception, match=r"."):  # no storage comes out of it, but it has run
        np.load(path, allow_pickle=True)
    assert victim.exists()


@pytest.mark.parametrize(
    "reference",
    [
        "builtins eval",
        "numpy load",
        "numpy fromfile",
        "torch load",
        "torch.storage TypedStorage",
        "torch._utils _rebuild_parameter",
        "collections Counter",
        "_codecs open",
        "copyreg _reconstructor",
    ],
)
def test_other_names_are_refused(path, reference):
    module, name = reference.split()
    save_content(path, f"c{module}\n{name}\n.".encode())
    with pytest.raises(pickle.UnpicklingError, match=f"{module}.{name}"):
        read_npy_object(path, tensors=True)


DTYPE = b"cnumpy\ndtype\n(S'%s'\nI00\nI01\ntR"
ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"


def array_pickle(shape, dtype, data, state=b""):
    sides = b"".join(b"I%d\n" % side for side in shape)
    return ARRAY + b"(I1\n(" + sides + b"t" + DTYPE % dtype + state + b"I00\n" + data + b"tb."


def test_pointers_do_not_pass_for_objects(path):
    """Numpy itself takes a dtype of objects whose flags say that its bytes are plain ones."""
    flags = b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    content = array_pickle((1,), b"O8", b"C\x08" + struct.pack("<Q", 0xDEADBEEF), flags)
    with pytest.raises(pickle.UnpicklingError, match="array of objects"):
        read_npy_object(save_content(path, content))


@pytest.mark.parametrize(
    "content",
    [
        array_pickle((10**6, 10**6), b"f4", b"C\x04abcd"),
        array_pickle((3,), b"f4", b"C\x04abcd"),
        array_pickle((1,), b"f8", b"C\x04abcd"),
        array_pickle((10**12,), b"O8", b"(lp0\n"),
        array_pickle((-1,), b"f4", b"C\x04abcd"),
        array_pickle((1,), b"V4", b"C\x04abcd"),
        array_pickle((1,), b"f4,i4", b"C\x08abcdefgh"),
        array_pickle((10**9,), b"f4", b"I4000000000\n"),
        b"cnumpy._core.multiarray\nscalar\n(" + DTYPE % b"U999999999" + b"C\x01atR.",
        b"cnumpy._core.multiarray\nscalar\n(" + DTYPE % b"O8" + b"NtR.",
        b"cnumpy._core.numeric\n_frombuffer\n(C\x04abcd"
        + DTYPE % b"f4"
        + b"(I10000000\ntS'C'\ntR.",
        b"Nr\xff\xff\xff\x7f.",  # a memo of 32 GB
        b"\x8e\x00\x00\x00\x00\x00\x01\x00\x00.",  # bytes that are not there
        b"\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
        b"cnumpy._core.multiarray\n_reconstruct\n}(S'_function'\nNub.",  # changes a function
        ARRAY[:-1] + b"(K\x01K\x02tb.",
        b"",
        b".",
    ],
)
def test_lies_about_sizes_cost_no_memory(path, content):
    save_content(path, content)
    tracemalloc.start()
    with pytest.raises(Exception, match=r".") as caught:
        read_npy_object(path, tensors=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not isinstance(caught.value, MemoryError)
    assert peak < 10**6


class Storage:
    """A persistent id of a storage, as PyTorch writes it."""

    def __init__(self, name, count):
        self.pid = "storage", name, "0", "cpu", count, None


class StoragePickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None


def tensor_pickle(offset=0, size=(4,), stride=(1,), *, count=4, stored=4, data=bytes(16), cls=None):
    stream = io.BytesIO()
    cls = torch.FloatStorage if cls is None else cls
    for part in (0x1950A86A20F9469CFC6C, 1001, {}, Storage(cls, count), ["0"]):
        StoragePickler(stream, protocol=2).dump(part)
    stream.write(struct.pack("<q", stored) + data)
    storage = Calls(torch.storage._load_from_bytes, stream.getvalue())
    return Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def test_a_tensor_made_by_hand_is_read(path):
    data = np.arange(4, dtype="f4").tobytes()
    found = read_npy_object(save(path, {"cam": tensor_pickle(1, (3,), data=data)}), tensors=True)
    assert found["cam"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "tensor",
    [
        tensor_pickle(size=(5,)),
        tensor_pickle(offset=1),
        tensor_pickle(offset=-1, size=(1,)),
        tensor_pickle(size=(2,), stride=(-1,)),
        tensor_pickle(size=(2,), stride=(4,)),
        tensor_pickle(size=(10**6, 10**6), stride=(0, 0)),
        tensor_pickle(size=(2, 2)),
        tensor_pickle(size=(-4,)),
        tensor_pickle(count=10**12, stored=10**12, size=(10**12,)),
        tensor_pickle(count=10**12),
        tensor_pickle(stored=3),
        tensor_pickle(data=bytes(15)),
        tensor_pickle(data=b""),
        tensor_pickle(cls=torch.BFloat16Storage),
        tensor_pickle(cls=torch.UntypedStorage),
        tensor_pickle(cls=os.system),
        Calls(torch.storage._load_from_bytes, b"PK\x03\x04 a zip file"),
        Calls(torch.storage._load_from_bytes, storage_pickle("storage")),
        Calls(torch._utils._rebuild_tensor_v2, np.ones(3), 0, (3,), (1,), False, {}),
    ],
    ids=lambda tensor: "",
)
def test_tensors_that_lie_are_refused(path, tensor):
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, struct.error)):
        read_npy_object(save(path, {"cam": tensor}), tensors=True)


def test_truncated_anywhere(path):
    save(path, {"cam": torch.ones(3, 4), 5: np.ones((2, 2), np.float32)})
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(Exception, match=r"."):
            read_npy_object(path, tensors=True)


def test_flipped_bytes_never_crash(path):
    """Whatever comes out is a value or an exception, and no other process has been started."""
    save(path, {"keys": torch.tensor([1, 3]), "cam": torch.ones(2, 3, 4), 5: np.ones((2, 2), "f4")})
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(500):
        content = bytearray(whole)
        for place in random.integers(len(whole), size=random.integers(1, 4)):
            content[place] = random.integers(256)
        path.write_bytes(bytes(content))
        try:
            read_npy_object(path, tensors=True)
        except MemoryError:
            raise
        except Exception:
            continue


def test_plain_arrays_are_no_objects(path):
    np.save(path, np.ones(3))
    with pytest.raises(pickle.UnpicklingError, match="plain array"):
        read_npy_object(path)

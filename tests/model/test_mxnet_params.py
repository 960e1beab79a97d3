"""The reader against a writer made from the definition of the format."""

import struct

import numpy as np
import pytest
from mxnet_files import DTYPES, V1, V2, V3, array_bytes, file_bytes, write_params

from model.mxnet_params import is_mxnet_params, read_mxnet_params


@pytest.mark.parametrize("magic", [None, V1, V2, V3])
def test_reads_what_was_written(tmp_path, magic):
    rng = np.random.default_rng(0)
    arrays = {
        f"arg:{np.dtype(dtype)}": (rng.random((3, 2, 4)) * 100).astype(dtype) for dtype in DTYPES
    }
    arrays["aux:vector"] = np.arange(5, dtype=np.float32)
    found = read_mxnet_params(write_params(tmp_path / "a.params", arrays, magic))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_scalar_of_version_3(tmp_path):
    path = write_params(tmp_path / "a.params", {"x": np.array(2.5, np.float32)}, V3)
    assert read_mxnet_params(path)["x"].shape == ()


def test_recognises_its_files(tmp_path):
    path = write_params(tmp_path / "a.params", {"x": np.zeros(1, np.float32)})
    assert is_mxnet_params(path)
    (tmp_path / "b.pth").write_bytes(b"PK\x03\x04")
    assert not is_mxnet_params(tmp_path / "b.pth")


@pytest.mark.parametrize("magic", [None, V1, V2, V3])
def test_truncation_anywhere_is_one_line(tmp_path, magic):
    arrays = {"arg:a": np.ones((2, 1), np.float32), "aux:b": np.ones(3, np.float64)}
    path = write_params(tmp_path / "a.params", arrays, magic)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.params") as caught:
            read_mxnet_params(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("magic", [None, V1, V2, V3])
def test_a_changed_byte_is_read_or_refused(tmp_path, magic):
    """No length in a damaged file may lead to an allocation or an error of another kind."""
    path = write_params(tmp_path / "a.params", {"arg:a": np.ones((2, 1), np.float32)}, magic)
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        for value in (0x00, 0x7F, 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                read_mxnet_params(path)
            except ValueError:
                refused += 1
    assert refused > len(whole)


ONE = np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02" + bytes(30), "not an MXNet"),
        (file_bytes([array_bytes(ONE, V2, storage=1)], ["a"]), "sparse"),
        (file_bytes([array_bytes(ONE, V3, storage=2)], ["a"]), "sparse"),
        (file_bytes([array_bytes(ONE, V2)], ["a", "b"]), "number of names"),
        (file_bytes([array_bytes(ONE, V2)] * 2, ["a", "a"]), "twice"),
        (file_bytes([array_bytes(ONE, V2)], ["a"]) + b"x", "follow"),
        (struct.pack("<QQQ", 0x112, 0, 2**63), "more than the file can hold"),
        (
            file_bytes([struct.pack("<IIqqiii", V1, 2, 2**40, 2**40, 1, 0, 0)], ["a"]),
            "truncated in array 0",
        ),
        (file_bytes([struct.pack("<IIqqiii", V1, 2, -4, -1, 1, 0, 0)], ["a"]), "impossible shape"),
        (file_bytes([struct.pack("<IIqiii", V1, 1, 1, 1, 0, 12)], ["a"]), "data type 12"),
        (file_bytes([struct.pack("<I", 0xF993FACB) + bytes(40)], ["a"]), "dimensions"),
        (file_bytes([struct.pack("<II", V1, 0)], ["a"]), "dimensions"),
    ],
)
def test_refuses(tmp_path, data, message):
    path = tmp_path / "a.params"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_mxnet_params(path)

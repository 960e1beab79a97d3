"""Artifacts: what is written is read, and what is not whole, not meant or not ours is refused."""

import os
import pickle
import signal
import subprocess
import sys
import time
from importlib import metadata

import h5py
import numpy as np
import pytest
from repository import ROOT

from wsss.errors import InputError
from wsss.storage import artifacts
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter

IDENTITY = {
    "dataset": "zoo",
    "index_digest": "12ab",
    "classes": ["cat", "dog"],
    "variant": "auxsegnet",
    "seed": 3,
    "stage": 1,
    "split": "train",
}
ARRAYS = {
    "a": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "b": np.full((1, 3, 4), 0.5, np.float16),
    "c": np.zeros((0, 3, 4), np.float16),
}
PARAMETERS = {"scales": [1.0, 0.5], "flip": True}


def write(path, arrays=ARRAYS, *, order=None, kind="cams", parameters=PARAMETERS, **changes):
    with ArtifactWriter(
        path,
        kind,
        identity=IDENTITY | changes.pop("identity", {}),
        parameters=parameters,
        sources={"model": "99ff"},
        expected=list(arrays),
    ) as artifact:
        for image_id in order or arrays:
            attributes = {"size": [30, 40], "keys": [0, 2]} | changes
            artifact.write(image_id, arrays[image_id], **attributes)
    return path


def digest(path):
    return ArtifactReader(path, "cams").sources[str(path)]


def assert_one_line(error, *parts):
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def test_arrays_and_attributes_come_back(tmp_path):
    path = write(tmp_path / "new" / "cams.h5", size=(30, 40), keys=[2], note="as it was")
    reader = ArtifactReader(path, "cams", **IDENTITY)
    assert reader.ids == ("a", "b", "c")
    assert "a" in reader and "z" not in reader
    for image_id, array in ARRAYS.items():
        record = reader.read(image_id)
        assert record.array.dtype == array.dtype
        np.testing.assert_array_equal(record.array, array)
        assert record.array.shape == array.shape
        assert record.attributes == {"size": [30, 40], "keys": [2], "note": "as it was"}


def test_several_arrays_of_an_image_come_back(tmp_path):
    labels = {
        "saliency": np.arange(12, dtype=np.uint8).reshape(3, 4),
        "segmentation": np.full((3, 4), 255, np.uint8),
    }
    write(tmp_path / "labels.h5", {"a": labels}, kind="pseudo_labels", keys=[])
    record = ArtifactReader(tmp_path / "labels.h5", "pseudo_labels").read("a")
    assert set(record.array) == set(labels)
    for name, array in labels.items():
        np.testing.assert_array_equal(record.array[name], array)
    assert record.attributes["keys"] == []


def test_header_holds_identity_and_provenance(tmp_path):
    path = write(tmp_path / "cams.h5")
    header = ArtifactReader(path, "cams").headers[path]
    assert {key: header[key] for key in IDENTITY} == IDENTITY
    assert header["parameters"] == PARAMETERS
    assert header["sources"] == {"model": "99ff"}
    assert header["versions"]["h5py"] == h5py.__version__


def test_versions_of_all_that_decides_values_are_recorded(tmp_path):
    path = write(tmp_path / "cams.h5")
    versions = ArtifactReader(path, "cams").headers[path]["versions"]
    assert {"torch", "opencv-python-headless", "pydensecrf2", "numpy"} <= set(versions)
    assert versions == {name: metadata.version(name) for name in artifacts.PACKAGES}


def test_versions_cost_no_import_of_torch():
    program = (
        "import sys; from wsss.storage.artifacts import installed_versions; "
        "print('torch' in installed_versions(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_an_artifact_is_on_disk_when_it_is_done(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: flushed.append(os.fstat(handle).st_ino) or fsync(handle)
    )
    given = {"identity": {}, "parameters": {}, "sources": {}, "expected": []}
    with ArtifactWriter(tmp_path / "a.h5", "cams", **given):
        pass
    assert flushed[-2:] == [(tmp_path / "a.h5").stat().st_ino, tmp_path.stat().st_ino]


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter

def megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

def write(path, ids):
    arrays = {name: np.zeros((8, 8), np.uint8) for name in ("a", "b", "c")}
    given = {"identity": {}, "parameters": {}, "sources": {}, "expected": ids}
    with ArtifactWriter(path, "cams", **given) as writer:
        for image_id in ids:
            writer.write(image_id, arrays, size=[8, 8])

def read(path, ids):
    reader = ArtifactReader(path, "cams")
    for image_id in ids:
        reader.read(image_id)

before = megabytes()
{"write": write, "read": read}[sys.argv[1]](sys.argv[2], [f"image{i}" for i in range(3000)])
print(megabytes() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_records(tmp_path):
    """By itself HDF5 would keep some 40 MB of the structure of this file, in both."""
    for what in ("write", "read"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, what, str(tmp_path / "a.h5")],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert float(done.stdout) < 20, what


def test_versions_are_provenance_and_a_missing_package_is_left_out(tmp_path, monkeypatch):
    reference = digest(write(tmp_path / "1.h5"))
    monkeypatch.setattr(artifacts, "PACKAGES", ("numpy", "no-such-package"))
    path = write(tmp_path / "2.h5")
    versions = ArtifactReader(path, "cams").headers[path]["versions"]
    assert versions == {"numpy": np.__version__}
    assert digest(path) == reference


def test_layout_on_disk(tmp_path):
    path = write(tmp_path / "cams.h5")
    # HDF5 file format specification: the superblock's version follows the signature; 3 is v110's.
    assert path.read_bytes()[:9] == b"\x89HDF\r\n\x1a\n\x03"
    with h5py.File(path) as file:
        assert set(file["records"]) == {"a", "b", "c"}
        data = file["records/a"]
        assert data.chunks == data.shape == (2, 3, 4)
        assert (data.compression, data.compression_opts, data.shuffle) == ("gzip", 4, True)
    assert path.stat().st_mode & 0o222 == 0


# What NFS without its lock daemon says.
NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

static int refuse(void) { errno = ENOLCK; return -1; }

int flock(int file, int operation) { return refuse(); }

int fcntl(int file, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK) return refuse();
  int (*real)(int, int, ...) = dlsym(RTLD_NEXT, "fcntl");
  return real(file, command, argument);
}

int fcntl64(int file, int command, ...) __attribute__((alias("fcntl")));
"""
WRITTEN_AND_READ = """
import sys
import h5py
import numpy as np
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter

given = {"identity": {}, "parameters": {}, "sources": {}, "expected": ["a"]}
with ArtifactWriter(sys.argv[1], "cams", **given) as artifact:
    artifact.write("a", np.arange(3))
print(ArtifactReader(sys.argv[1], "cams").read("a").array.tolist())
try:
    h5py.File(sys.argv[1])
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is Linux's")
def test_a_file_system_without_locks_will_do(tmp_path):
    library = str(tmp_path / "no_locks.so")
    compiler = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(compiler, input=NO_LOCKS, text=True, check=True)
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN_AND_READ, str(tmp_path / "a.h5")],
        cwd=ROOT, env=os.environ | {"LD_PRELOAD": library}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    array, refused = done.stdout.splitlines()
    assert array == "[0, 1, 2]"
    assert "No locks available" in refused  # which HDF5 asks for by itself


class InterruptedRunError(Exception):
    pass


def broken_body(artifact):
    artifact.write("a", ARRAYS["a"])
    raise InterruptedRunError


def body_without_b(artifact):
    artifact.write("a", ARRAYS["a"])


def body_with_surplus(artifact):
    for image_id in ("a", "b", "z"):
        artifact.write(image_id, ARRAYS["a"])


def body_with_nan(artifact):
    artifact.write("a", ARRAYS["a"])
    artifact.write("b", np.array([1.0, np.nan], np.float16))


def body_with_infinity_in_a_group(artifact):
    artifact.write("a", {"x": np.ones(3), "y": np.array([np.inf])})
    artifact.write("b", np.ones(2))


def body_with_a_twice(artifact):
    artifact.write("a", ARRAYS["a"])
    artifact.write("a", ARRAYS["a"])
    artifact.write("b", ARRAYS["b"])


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (broken_body, InterruptedRunError, None),
        (body_without_b, ValueError, "1 image.s. missing, 0 not expected: b"),
        (body_with_surplus, ValueError, "0 image.s. missing, 1 not expected: z"),
        (body_with_nan, ValueError, "image b.* not finite"),
        (body_with_infinity_in_a_group, ValueError, "image a: y.* not finite"),
        (body_with_a_twice, ValueError, "image a written twice"),
    ],
)
def test_what_is_not_whole_leaves_nothing(tmp_path, body, error, message):
    with (
        pytest.raises(error, match=message),
        ArtifactWriter(
            tmp_path / "cams.h5",
            "cams",
            identity=IDENTITY,
            parameters={},
            sources={},
            expected=["a", "b"],
        ) as artifact,
    ):
        body(artifact)
    assert os.listdir(tmp_path) == []


def test_a_failed_second_try_leaves_the_first_file(tmp_path):
    path = write(tmp_path / "cams.h5")
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write(path, order=["a", "no such"])
    assert path.read_bytes() == before
    changed = write(path, ARRAYS | {"a": ARRAYS["a"] + 1})  # a read-only file can be replaced
    np.testing.assert_array_equal(
        ArtifactReader(changed, "cams").read("a").array, ARRAYS["a"] + np.float16(1)
    )


KILLED_WRITER = """
import os, signal, sys
import numpy as np
from wsss.storage.artifacts import ArtifactWriter
with ArtifactWriter(
    sys.argv[1], "cams", identity={}, parameters={}, sources={}, expected=["a", "b"]
) as artifact:
    artifact.write("a", np.arange(100000))
    artifact._records.file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_file_of_that_name(tmp_path):
    path = tmp_path / "cams.h5"
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    write(path)
    assert ArtifactReader(path, "cams").ids == ("a", "b", "c")


def test_unknown_identity_is_a_mistake_of_the_program(tmp_path):
    with pytest.raises(ValueError, match="speed"):
        write(tmp_path / "cams.h5", identity={"speed": 1})


def test_digest_is_of_the_content_alone(tmp_path):
    reference = digest(write(tmp_path / "1.h5"))
    assert digest(write(tmp_path / "2.h5", order=["c", "a", "b"])) == reference
    assert digest(write(tmp_path / "3.h5", parameters={"flip": False})) == reference
    others = [
        write(tmp_path / "4.h5", ARRAYS | {"b": ARRAYS["b"] + np.float16(1e-3)}),
        write(tmp_path / "5.h5", ARRAYS | {"b": ARRAYS["b"].astype(np.float32)}),
        write(tmp_path / "6.h5", ARRAYS | {"b": ARRAYS["b"].reshape(1, 4, 3)}),
        write(tmp_path / "7.h5", size=[40, 30]),
        write(tmp_path / "8.h5", {"a": ARRAYS["a"], "B": ARRAYS["b"], "c": ARRAYS["c"]}),
    ]
    assert len({reference, *map(digest, others)}) == 6


def test_digest_tells_apart_which_array_holds_what(tmp_path):
    ones, twos = np.ones((2, 2)), np.full((2, 2), 2.0)
    first = write(tmp_path / "1.h5", {"a": {"x": ones, "y": twos}})
    second = write(tmp_path / "2.h5", {"a": {"x": twos, "y": ones}})
    assert digest(first) != digest(second)


def test_two_writes_are_the_same_file(tmp_path):
    first = write(tmp_path / "1.h5")
    time.sleep(1.1)  # HDF5 would keep times in seconds
    assert write(tmp_path / "2.h5").read_bytes() == first.read_bytes()


def test_shards_are_read_as_one(tmp_path):
    paths = [
        write(tmp_path / "0.h5", {"a": ARRAYS["a"]}),
        write(tmp_path / "1.h5", {"b": ARRAYS["b"]}),
    ]
    reader = ArtifactReader(paths, "cams", **IDENTITY)
    assert reader.ids == ("a", "b")
    np.testing.assert_array_equal(reader.read("b").array, ARRAYS["b"])
    assert set(reader.sources) == {path.as_posix() for path in paths}


def test_an_image_in_two_shards_is_refused(tmp_path):
    paths = [write(tmp_path / "0.h5"), write(tmp_path / "1.h5", {"b": ARRAYS["b"]})]
    with pytest.raises(InputError) as error:
        ArtifactReader(paths, "cams")
    assert_one_line(error, paths[1], "b", paths[0], "once")


def test_reader_travels_to_another_process(tmp_path):
    reader = ArtifactReader(write(tmp_path / "cams.h5"), "cams")
    reader.read("a")  # with an open file
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read("a").array, ARRAYS["a"])


def test_missing_file_is_refused(tmp_path):
    path = tmp_path / "cams.h5"
    with pytest.raises(InputError) as error:
        ArtifactReader(path, "cams")
    assert_one_line(error, path, "no such file", "snakemake")


def test_an_image_that_a_failing_disk_takes_is_refused_by_name(tmp_path):
    """After the seal has been looked at."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = write(tmp_path / "saliency.h5", {"a": noise, "b": noise + 1}, kind="saliency")
    reader = ArtifactReader(path, "saliency")
    with h5py.File(path) as file:
        chunk = file["records/b"].id.get_chunk_info(0)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(bytes(16))
    np.testing.assert_array_equal(reader.read("a").array, noise)
    with pytest.raises(InputError) as error:
        reader.read("b")
    assert_one_line(error, path, "image b", "snakemake -f")


def test_other_kind_is_refused(tmp_path):
    path = write(tmp_path / "cams.h5")
    with pytest.raises(InputError) as error:
        ArtifactReader(path, "predictions")
    assert_one_line(error, path, "cams", "predictions")


def test_other_hdf5_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.ones(3)
    with pytest.raises(InputError) as error:
        ArtifactReader(tmp_path / "other.h5", "cams")
    assert_one_line(error, tmp_path / "other.h5", "no artifact")


def test_newer_schema_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "SCHEMA_VERSION", 99)
    path = write(tmp_path / "cams.h5")
    monkeypatch.undo()
    with pytest.raises(InputError) as error:
        ArtifactReader(path, "cams")
    assert_one_line(error, path, "99", "update")


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("dataset", "farm"),
        ("index_digest", "34cd"),
        ("classes", ["dog", "cat"]),
        ("variant", "no_affinity"),
        ("seed", 4),
        ("stage", 0),
        ("split", "val"),
    ],
)
def test_artifact_of_something_else_is_refused(tmp_path, key, other):
    path = write(tmp_path / "cams.h5")
    with pytest.raises(InputError) as error:
        ArtifactReader(path, "cams", **(IDENTITY | {key: other}))
    assert_one_line(error, path, key, IDENTITY[key], other, "snakemake -f")


def test_image_that_is_not_there_is_refused(tmp_path):
    path = write(tmp_path / "cams.h5")
    with pytest.raises(InputError) as error:
        ArtifactReader(path, "cams").read("2007_000001")
    assert_one_line(error, path, "2007_000001", "snakemake -f")

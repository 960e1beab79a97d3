"""Files that are either whole or not there."""

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from wsss.errors import InputError
from wsss.storage.files import atomic_path, make_folder, sha256_of

WRITER = """
import sys, time
from wsss.storage.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_durable_is_on_disk_before_and_after_it_gets_its_name(tmp_path, monkeypatch):
    path, done = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def flushed(handle):
        done.append(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *names: done.append("named") or replace(*names))
    with atomic_path(path, durable=True) as temporary:
        temporary.write_text("new")
    assert done == [path.stat().st_ino, "named", tmp_path.stat().st_ino]
    done.clear()
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert done == ["named"]


def test_a_disk_that_fills_up_when_it_is_flushed_is_one_line(tmp_path, monkeypatch):
    """As on a network folder, which has only then tried to write."""

    def full(handle):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written: your disk quota"),
        atomic_path(tmp_path / "a.txt", durable=True) as temporary,
    ):
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_flushed_is_no_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def unable(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", unable)
    with atomic_path(tmp_path / "a.txt", durable=True) as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_what_a_killed_process_leaves_is_in_nobodys_way(tmp_path):
    path = tmp_path / "a.b.txt"
    path.write_text("old")
    command = [sys.executable, "-c", WRITER, str(path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "writing\n"
    with atomic_path(path) as temporary:  # two may write the same file
        temporary.write_text("mine")
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert path.read_text() == "mine"
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.name.startswith(".a.b.") and left.name.endswith(f"-{writer.pid}.partial.txt")


def test_a_folder_that_cannot_be_made_is_one_line(no_folder):
    with pytest.raises(InputError) as caught:
        make_folder(no_folder, "--out")
    assert str(caught.value).startswith(f"--out {no_folder}: the folder cannot be made (")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError) as caught, atomic_path(no_folder / "a.txt"):
        pytest.fail("there is nowhere to write to")
    assert str(caught.value).startswith(f"{no_folder}: the folder cannot be made (")


def test_a_folder_is_made_with_those_around_it(tmp_path):
    for _ in range(2):  # also where it is there
        make_folder(tmp_path / "a/b")
        assert (tmp_path / "a/b").is_dir()


def test_a_name_that_is_too_long_is_one_line(tmp_path):
    for path, problem in (
        (tmp_path / f"{'日' * 80}.npy", r"\.npy: cannot be written"),
        (tmp_path / ("x" * 300) / "a.npy", r"x: the folder cannot be made \(File name too long\)"),
    ):
        with (
            pytest.raises(InputError, match=f"{problem}: the name or the path is too long"),
            atomic_path(path) as temporary,
        ):
            temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_one_line(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with (
        pytest.raises(InputError, match=r"a\.txt: cannot be written: a folder of that name is in"),
        atomic_path(tmp_path / "a.txt") as temporary,
    ):
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]


def test_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "abc").write_text("abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223b00361a3")

"""Disks that are full or may not be written: a line, nothing half-written, nothing left over."""

import errno
import os
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands_on_artifacts import BACKBONE, COMMANDS, build, call
from noise_artifact import write_artifact
from other_user import somebody_else
from repository import ROOT, program_environment

from model.auxsegnet import AuxSegNet
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import read_dataset, write_dataset
from wsss.errors import InputError
from wsss.method.evaluation import write_table
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.checkpoint import load_network, network_arguments, save_checkpoint
from wsss.storage.files import atomic_path
from wsss.storage.palette import write_palette_png

DISK = 1 << 20


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk, left=0):
    """Leave this many bytes on a disk."""
    (disk / "others").write_bytes(bytes(DISK - left))


def assert_full(error, disk, *kept):
    message = str(error)
    assert "the disk is full" in message and str(disk) in message and "\n" not in message
    assert sorted(path.name for path in disk.iterdir()) == sorted(["others", *kept])


WRITERS = [name for name in COMMANDS if name != "train_stage"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_command_on_a_full_disk_ends_with_one_line(name, folder, disk, capsys):
    fill(disk)
    code, said, _ = call(name, folder, capsys, disk / "out.png")
    assert code == 1 and not any("Traceback" in line for line in said), said
    (line,) = [line for line in said if line.startswith("error: ")]
    assert re.search("the disk is full; free some space", line) and str(disk) in line
    left = [path for path in disk.rglob("*") if path.is_file() and path.name != "others"]
    assert left == []


# 430 kB: full at the first byte, amid the records, in the last ones, and at the seal.
@pytest.mark.parametrize("left", [0, 4096, 200_000, 389_120, 417_792])
def test_an_artifact_that_does_not_fit(disk, left):
    fill(disk, left)
    with pytest.raises(InputError) as error:
        write_artifact(disk / "a.h5")
    assert_full(error.value, disk)
    (disk / "others").unlink()
    write_artifact(disk / "a.h5")  # with room again, the same process goes on
    assert len(ArtifactReader(disk / "a.h5", "saliency").ids) == 40


CRASH = """
import sys
from pathlib import Path
from noise_artifact import write_artifact
from workflow_scripts.jobs.command import run
run(lambda _: write_artifact(Path(sys.argv[1])))
"""


def test_a_full_disk_does_not_crash_the_process_when_it_ends(disk):
    """As HDF5 does when it knows of it."""
    fill(disk, 200_000)
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(disk / "a.h5")],
        cwd=ROOT,
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def small_network():
    torch.manual_seed(0)
    arguments = network_arguments(20, Backbone(**BACKBONE), decoder_channels=4)
    return AuxSegNet(**arguments), arguments


@pytest.mark.parametrize("left", [0, 8192])
def test_a_checkpoint_that_does_not_fit(disk, left, tiny_backbone):
    network, arguments = small_network()
    save_checkpoint(disk / "model.pt", network, arguments, {"seed": 1}, {})
    used = (disk / "model.pt").stat().st_size
    assert left < used
    fill(disk, left + (used + 4095) // 4096 * 4096)
    with pytest.raises(InputError) as error:
        save_checkpoint(disk / "model.pt", network, arguments, {"seed": 2}, {})
    assert_full(error.value, disk, "model.pt")
    load_network(disk / "model.pt", torch.device("cpu"), seed=1)  # the earlier one is as it was


def write_text(path):
    with atomic_path(path) as temporary:
        temporary.write_text("text")


SMALL_FILES = {
    "table.csv": lambda path: write_table(path, pd.DataFrame({"iou": [1.0]})),
    "label.png": lambda path: write_palette_png(path, np.zeros((9, 9), np.uint8)),
    "root.txt": write_text,
}


@pytest.mark.parametrize("name", SMALL_FILES)
def test_small_files_that_do_not_fit(disk, name):
    fill(disk)
    with pytest.raises(InputError) as error:
        SMALL_FILES[name](disk / name)
    assert_full(error.value, disk)


def test_an_index_that_does_not_fit(disk, folder):
    fill(disk)
    with pytest.raises(InputError) as error:
        write_dataset(read_dataset(folder), disk)
    assert_full(error.value, disk)


def test_a_disk_that_is_mounted_read_only(disk, tiny_backbone):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for write in (write_artifact, *SMALL_FILES.values()):
        with pytest.raises(InputError, match=r"out\.h5: cannot be written: .*read-only"):
            write(disk / "out.h5")
    network, arguments = small_network()
    with pytest.raises(InputError, match=r"model\.pt: cannot be written: .*read-only"):
        save_checkpoint(disk / "model.pt", network, arguments, {}, {})


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_of_somebody_else_is_one_line(name, capsys, tiny_backbone):
    with tempfile.TemporaryDirectory() as base:  # which, unlike tmp_path, others may enter
        Path(base).chmod(0o755)
        data = build(Path(base))
        import_module(f"workflow_scripts.{name}")
        results = Path(base) / "results"
        results.mkdir(mode=0o755)
        with somebody_else():
            code, said, _ = call(name, data, capsys, results / "out.png")
        assert code == 1 and not any("Traceback" in line for line in said), said
        (line,) = [line for line in said if line.startswith("error: ")]
        assert "ermission denied" in line and str(results) in line
        assert list(results.iterdir()) == []


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path):
    with pytest.raises(OSError, match="Argument list") as error, atomic_path(tmp_path / "a"):
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    assert not isinstance(error.value, InputError)
    with pytest.raises(PermissionError), atomic_path(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input.png")

"""Damaged and foreign artifacts in front of every command that reads one: a line, and no output."""

import numpy as np
import pytest
from commands_on_artifacts import COMMANDS, call, name_of, write

from wsss.datasets.voc import CLASSES
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.seals import LENGTH

OTHER = {
    "dataset": "farm",
    "index_digest": "12ab",
    "classes": list(reversed(CLASSES)),
    "variant": "other",
    "seed": 7,
    "stage": 3,
    "split": "train",
}


def assert_refused(result, path):
    code, said, output = result
    assert code == 1
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1 and str(path) in errors[0], said
    assert "remake" in errors[0] or "give another" in errors[0]
    assert not any("Traceback" in line for line in said), said
    # The folder for files of other tools may be there, but is empty.
    assert not output.exists() or not list(output.iterdir())
    assert not list(output.parent.glob(".*partial*"))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 16
    made = {
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "a byte short": content[:-1],
        "text": b"image_id,labels\n" * 100,
        "flipped": content,
        "wrong kind": (
            path.with_name("labels.h5" if path.stem == "saliency" else "saliency.h5").read_bytes()
        ),
    }[how]
    path.unlink()
    path.write_bytes(made)


CASES = [
    (name, name_of(value))
    for name, command in COMMANDS.items()
    for value in command.inputs.values()
]


WAYS = ("empty", "truncated", "a byte short", "text", "flipped", "wrong kind")


@pytest.mark.parametrize(
    ("name", "file", "how"),
    [
        (name, file, how)
        for name, file in CASES
        for how in WAYS
        if (name, how) != ("inspect_artifact", "wrong kind")  # it takes every kind
    ],
)
def test_a_damaged_artifact_is_one_line_and_no_output(folder, capsys, name, file, how):
    damage(folder / f"{file}.h5", how)
    assert_refused(call(name, folder, capsys), folder / f"{file}.h5")


@pytest.mark.parametrize(
    ("name", "file", "key"),
    [(name, file, key) for name, file in CASES for key in COMMANDS[name].compared[file]],
)
def test_an_artifact_of_another_run_is_one_line_and_no_output(folder, capsys, name, file, key):
    write(folder, file, **{key: OTHER[key]})
    assert_refused(call(name, folder, capsys), folder / f"{file}.h5")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train_stage"])
def test_the_commands_work_where_nothing_is_damaged(folder, capsys, name):
    """Else the tests above would prove nothing. Training has its own tests."""
    code, said, output = call(name, folder, capsys)
    assert code == 0 and output.exists(), said


def test_a_single_flipped_bit_never_passes(folder):
    """At 500 places over a whole file: the seal sees it before HDF5 does."""
    path = folder / "cams.h5"
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - LENGTH - 1, 500).astype(int):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        (folder / "flipped.h5").write_bytes(content)
        with pytest.raises(ValueError, match=r"flipped\.h5"):
            ArtifactReader(folder / "flipped.h5", "cams")


@pytest.mark.parametrize(
    "how", ["cut off", "zeros", "other bytes", "zeros behind", "a page of zeros"]
)
def test_a_file_without_a_seal_is_not_read(folder, monkeypatch, how):
    """What took the seal away may have damaged the rest; HDF5 may never come back from that."""
    whole = (folder / "cams.h5").read_bytes()
    content = {
        "cut off": whole[:-LENGTH],
        "zeros": whole[:-LENGTH] + bytes(LENGTH),
        "other bytes": whole[:-LENGTH] + b"x" * LENGTH,
        "zeros behind": whole + bytes(100),
        "a page of zeros": whole[:-4096] + bytes(4096),
    }[how]
    (folder / "bare.h5").write_bytes(content)
    monkeypatch.setattr("h5py.File", None)  # nothing is to open it
    with pytest.raises(InputError, match=r"bare\.h5: .*no checksum at its end.*snakemake -f"):
        ArtifactReader(folder / "bare.h5", "cams")

"""Damaged and foreign artifacts in front of every command that reads one: a line, and no output."""

import json
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from test_training import STAGE

from model.auxsegnet import AuxSegNet
from workflow_scripts.jobs.command import run
from wsss.configuration.sections import SALIENCY_CRF, Backbone
from wsss.datasets.index import (
    DatasetIndex,
    ImageRecord,
    read_dataset,
    write_dataset,
    write_test_images,
)
from wsss.datasets.voc import CLASSES
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter
from wsss.storage.checkpoint import network_arguments, save_checkpoint
from wsss.storage.palette import write_palette_png
from wsss.storage.seals import LENGTH

SIZE = (48, 64)
LABEL = np.zeros(SIZE, np.uint8)
SALIENCY = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
CAMS = np.random.default_rng(1).random((2, 6, 8)).astype(np.float16)
KEYS = [0, 1]
ALL = {"variant": "auxsegnet", "seed": 0, "stage": 1}
FIRST = {"seed": 0, "stage": 0}
PROBABILITIES = np.full((3, 6, 8), 1 / 3, np.float16)
FILES = {
    "cams0": ("cams", FIRST, "train", CAMS, {"keys": KEYS}),
    "cams": ("cams", ALL, "train", CAMS, {"keys": KEYS}),
    "saliency": ("saliency", {}, "train", SALIENCY, {}),
    "refined": ("refined_saliency", ALL, "train", CAMS[0], {}),
    "labels": ("pseudo_labels", ALL, "train", {"saliency": SALIENCY, "segmentation": LABEL}, {}),
    "val": (
        "predictions",
        ALL,
        "val",
        {"unrefined": LABEL, "refined": LABEL, "probabilities": PROBABILITIES},
        {"keys": [0, 1, 2]},
    ),
    "val_crf": ("predictions_crf", ALL, "val", LABEL, {}),
    "test_crf": ("predictions_crf", ALL, "test", LABEL, {}),
}


def write(folder, name, **changes):
    """The artifact `name` of FILES in a folder with an index; `changes` are of its identity."""
    kind, who, split, array, attributes = FILES[name]
    index = read_dataset(folder, test=True)
    ids = [record.image_id for record in index.split(changes.get("split", split))]
    data = {"dataset": "tiny", "index_digest": index.digest, "classes": list(CLASSES)}
    with ArtifactWriter(
        folder / f"{name}.h5",
        kind,
        identity=data | who | {"split": split} | changes,
        parameters={},
        sources={},
        expected=ids,
    ) as artifact:
        for image_id in ids:
            artifact.write(image_id, array, **attributes, size=list(SIZE))


def build(base, count=2):
    """A folder with an index, photographs (`count` a split), a checkpoint, and all artifacts."""
    root, folder = base / "photographs", base / "tiny"
    root.mkdir()
    records = []
    for split in ("train", "val", "test"):
        for name in (f"{split}{number}" for number in range(count)):
            Image.new("RGB", SIZE[::-1], (10, 200, 30)).save(root / f"{name}.png")
            mask = None if split == "test" else f"{name}_mask.png"
            if mask:
                write_palette_png(root / mask, LABEL)
            labels = () if split == "test" else CLASSES[:2]
            records.append(ImageRecord(name, split, True, f"{name}.png", mask, *SIZE[::-1], labels))
    index = DatasetIndex(root, CLASSES, tuple(range(1, 21)), tuple(records))
    write_dataset(index, folder)
    write_test_images(index, folder)
    for name in FILES:
        write(folder, name)
    torch.manual_seed(0)
    arguments = network_arguments(20, Backbone(**BACKBONE))
    who = {"dataset": "tiny", "index_digest": index.digest, "classes": list(CLASSES), "seed": 0}
    save_checkpoint(folder / "start.pt", AuxSegNet(**arguments), arguments, who, {})
    return folder


@pytest.fixture
def folder(tmp_path, tiny_backbone):
    return build(tmp_path)


# Stands for `TinyBackbone` here.
BACKBONE = {"name": "resnet38", "output_stride": 8, "weights": "none"}
FUSION = {
    "cam_threshold": 0.2,
    "saliency_threshold": 0.1,
    "background": "updated",
    "saliency_crf": SALIENCY_CRF.model_dump(),
}
TRAINING = {
    "backbone": BACKBONE,
    "network": {"design": "paper", "attention_start": "random"},
    "stage": STAGE.model_dump(mode="json"),
    "images": {"long_side": None},
}
RUN = ("dataset", "index_digest", "classes", "variant", "seed", "stage")
DATA = ("dataset", "index_digest", "classes")


@dataclass(frozen=True)
class Command:
    """How a command is called, and which parts of the identity of its inputs it compares."""

    inputs: dict  # option -> name in FILES; positional where the option is empty
    compared: dict  # name in FILES -> keys
    arguments: dict = field(default_factory=dict)
    settings: dict | None = None
    output: str = "--output"
    data: bool = True
    run: bool = True


COMMANDS = {
    "make_pseudo_labels": Command(
        {"--cams": "cams", "--saliency": "saliency", "--refined-saliency": "refined"},
        {"cams": RUN, "saliency": DATA, "refined": RUN},
        {"--shard": 0, "--shards": 1},
        FUSION,
    ),
    "train_stage": Command(
        {"--pseudo-labels": "labels"},
        {"labels": RUN},
        {"--model": "start.pt", "--log-csv": "log.csv", "--device": "cpu"},
        TRAINING,
    ),
    "segment_crf": Command(
        {"--predictions": "val"},
        {"val": (*RUN, "split")},
        {"--split": "val", "--shard": 0, "--shards": 1},
        SALIENCY_CRF.model_dump(),
    ),
    "evaluate_pseudo_labels": Command(
        {"--pseudo-labels": "labels"}, {"labels": RUN}, settings={"ignore_prediction": "miss"}
    ),
    "evaluate_segmentation": Command(
        {"--predictions": "val", "--predictions-crf": "val_crf"},
        {"val": (*RUN, "split"), "val_crf": (*RUN, "split")},
        settings={"ignore_prediction": "miss"},
    ),
    "draw_strip": Command(
        {
            "--cams": "1=cams",
            "--pseudo-labels": "1=labels",
            "--predictions": "1=val",
            "--predictions-crf": "1=val_crf",
        },
        {name: (*DATA, "stage") for name in ("cams", "labels", "val", "val_crf")},
        run=False,
    ),
    "export_masks": Command({"--labels": "val_crf"}, {"val_crf": DATA}, run=False),
    "make_voc_submission": Command({"--labels": "test_crf"}, {"test_crf": (*RUN, "split")}),
    "export_cams": Command(
        {"": "cams"}, {"cams": DATA}, {"--format": "irn"}, output="--out", data=False, run=False
    ),
    "export_pseudo_labels": Command(
        {"": "labels"}, {"labels": DATA}, output="--out", data=False, run=False
    ),
    "inspect_artifact": Command(
        {"": "cams"}, {"cams": ()}, {"train0": ""}, output="--png", data=False, run=False
    ),
}
OTHER = {
    "dataset": "farm",
    "index_digest": "12ab",
    "classes": list(reversed(CLASSES)),
    "variant": "other",
    "seed": 7,
    "stage": 3,
    "split": "train",
}


def call(name, folder, capsys, output=None):
    """Run a command; its exit status, the lines that it wrote to stderr, and its output's path."""
    command = COMMANDS[name]
    output = output or folder.parent / "out.png"
    words = []
    for option, value in command.inputs.items():
        stage, _, file = value.rpartition("=")
        path = f"{stage}={folder / file}.h5" if stage else f"{folder / file}.h5"
        words += [option, path] if option else [path]
    for option, value in command.arguments.items():
        place = folder / value if str(value).endswith((".pt", ".csv")) else value
        words += [option, str(place)] if value != "" else [option]
    if command.run:
        words += ["--variant", "auxsegnet", "--seed", "0", "--stage", "1"]
    if command.data:
        words += ["--data", str(folder)]
        words += ["--settings", json.dumps(command.settings)] if command.settings else []
    words += [command.output, str(output)]
    with pytest.raises(SystemExit) as ended:
        run(import_module(f"workflow_scripts.{name}").main, words)
    said = capsys.readouterr().err
    return ended.value.code, [line for line in said.splitlines() if line], output


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


def name_of(value):
    return value.rpartition("=")[2]


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

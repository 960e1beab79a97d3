"""All commands that read artifacts, and a small data set with the artifacts that they read."""

import json
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_training import STAGE

from model.auxsegnet import AuxSegNet
from workflow_scripts.jobs.command import run
from wsss.configuration.method_sections import SALIENCY_CRF
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import (
    DatasetIndex,
    ImageRecord,
    read_dataset,
    write_dataset,
    write_test_images,
)
from wsss.datasets.voc import CLASSES
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.checkpoint import network_arguments, save_checkpoint
from wsss.storage.palette import write_palette_png

SIZE = (48, 64)
LABEL = np.zeros(SIZE, np.uint8)
SALIENCY = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
CAMS = np.random.default_rng(1).random((2, 6, 8)).astype(np.float16)
KEYS = [0, 1]
ALL = {"variant": "auxsegnet", "seed": 0, "stage": 1}
FIRST = {"seed": 0, "stage": 0}
SURE = {"confidence": 0.75, "uncertain": 0.125}
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
    "val_crf": ("predictions_crf", ALL, "val", LABEL, SURE),
    "test_crf": ("predictions_crf", ALL, "test", LABEL, SURE),
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
    (folder / "scores.csv").write_text("prediction,image_id,iou\ncrf,val0,50.00\n")
    torch.manual_seed(0)
    arguments = network_arguments(20, Backbone(**BACKBONE))
    who = {"dataset": "tiny", "index_digest": index.digest, "classes": list(CLASSES), "seed": 0}
    save_checkpoint(folder / "start.pt", AuxSegNet(**arguments), arguments, who, {})
    return folder


# Stands for `TinyBackbone` here.
BACKBONE = {"name": "resnet38", "output_stride": 8, "weights": "none"}
FUSION = {
    "cam_threshold": 0.2,
    "saliency_threshold": 0.1,
    "background": "updated",
    "regions": "pixels",
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
SCORE_TABLES = {f"--{name}": f"{name}.csv" for name in ("images", "sizes", "overlaps", "confusion")}


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
    "sweep_thresholds": Command(
        {"--cams": "cams", "--saliency": "saliency", "--refined-saliency": "refined"},
        {"cams": RUN, "saliency": DATA, "refined": RUN},
        settings=FUSION,
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
        {"--pseudo-labels": "labels"},
        {"labels": RUN},
        SCORE_TABLES,
        settings={"ignore_prediction": "miss"},
    ),
    "evaluate_segmentation": Command(
        {"--predictions": "val", "--predictions-crf": "val_crf"},
        {"val": (*RUN, "split"), "val_crf": (*RUN, "split")},
        SCORE_TABLES | {"--uncertainty": "uncertainty.csv"},
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
    "draw_cams": Command(
        {"--cams": "1=cams", "--pseudo-labels": "1=labels"},
        {name: (*DATA, "stage") for name in ("cams", "labels")},
        {"--variant": "auxsegnet"},
        run=False,
    ),
    "draw_results": Command(
        {"--labels": "val_crf"}, {"val_crf": (*RUN, "split")}, {"--scores": "scores.csv"}
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


def name_of(value):
    return value.rpartition("=")[2]

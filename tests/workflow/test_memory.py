"""Peak memory of the long jobs at 200 and at 2,000 images; `make memory` writes the table.

Slow, and so not part of `make test`: some minutes.
"""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import commands_on_artifacts
import numpy as np
import pytest
import torch
from commands_on_artifacts import BACKBONE, COMMANDS, Command, build, name_of
from PIL import Image
from repository import ROOT, program_environment
from tiny_network import TinyBackbone
from tiny_training import CLASSIFIER, STAGE

from model.auxsegnet import AuxSegNet
from model.backbones import BACKBONES
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import read_dataset
from wsss.storage.checkpoint import network_arguments, save_checkpoint

pytestmark = pytest.mark.slow

TABLE = ROOT / "docs/results/memory.csv"
COUNTS = (200, 2000)
# MB that 1,800 images more may add. The index, HDF5's lists and what the C library keeps between
# them take up to 32; kept in memory, the label maps of these images would be 88 MB and their
# photographs 265 MB.
ALLOWED = 50
SHARD = {"--shard": 0, "--shards": 1}
NETWORK = {**SHARD, "--device": "cpu"}
VIEWS = {"scales": [1.0], "flip": False, "long_side": None, "precision": "fp32", "merge": "max"}
FOLDER = "FOLDER"  # in settings: that of the images
SIZES = {"epochs": 1, "batch_size": 4, "crop": 64}
STAGE_TRAINING = commands_on_artifacts.TRAINING | {"stage": STAGE.model_dump(mode="json") | SIZES}
CLASSIFIER_TRAINING = {
    "backbone": BACKBONE,
    "network": {"design": "paper"},
    "classifier": CLASSIFIER.model_dump(mode="json") | SIZES,
    "images": {"long_side": None},
}
OWN_PHOTOGRAPHS = {
    "format": "folder",
    "root": f"{FOLDER}/own",
    "folder": {"images": "images", "masks": "masks", "labels": "labels.csv"},
}
JOBS = COMMANDS | {
    "index_dataset": Command({}, {}, settings=OWN_PHOTOGRAPHS, output="--data", run=False),
    "predict_saliency": Command(
        {},
        {},
        {**SHARD, "--source": "maps"},
        {"maps": {"folder": f"{FOLDER}/own/saliency"}},
        run=False,
    ),
    "train_classifier": Command(
        {},
        {},
        {"--weights": "tiny.pth", "--log-csv": "log.csv", "--device": "cpu", "--seed": 0},
        CLASSIFIER_TRAINING,
        run=False,
    ),
    "train_stage": replace(COMMANDS["train_stage"], settings=STAGE_TRAINING),
    "extract_cams": Command(
        {}, {}, {"--model": "start.pt", "--seed": 0, **NETWORK}, VIEWS, run=False
    ),
    "refine_cams": Command(
        {},
        {},
        {"--model": "stage0.pt", "--output-saliency": "made.saliency.h5", **NETWORK},
        VIEWS,
        output="--output-cams",
    ),
    "segment": Command({}, {}, {"--model": "stage1.pt", "--split": "val", **NETWORK}, VIEWS),
}
MEASURED = (
    *("index_dataset", "predict_saliency", "train_classifier", "train_stage"),
    *("extract_cams", "refine_cams", "segment"),
    *("make_pseudo_labels", "segment_crf", "evaluate_pseudo_labels", "evaluate_segmentation"),
    *("export_masks", "export_cams"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Number of images -> folder with that many a split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet38", TinyBackbone)
        height, width = commands_on_artifacts.SIZE
        patch.setattr(commands_on_artifacts, "SIZE", (4 * height, 4 * width))
        files = larger(commands_on_artifacts.FILES)
        patch.setattr(commands_on_artifacts, "LABEL", larger(commands_on_artifacts.LABEL))
        patch.setattr(commands_on_artifacts, "FILES", files)
        made = {count: build(tmp_path_factory.mktemp(str(count)), count) for count in COUNTS}
        for folder in made.values():
            add_checkpoints(folder)
            add_own_photographs(folder)
    return made


def larger(value):
    """What has the size of a photograph in `commands_on_artifacts`, four times as high and wide."""
    if isinstance(value, np.ndarray):
        is_map = value.shape == commands_on_artifacts.LABEL.shape
        return np.tile(value, (4, 4)) if is_map else value
    if isinstance(value, dict):
        return {key: larger(part) for key, part in value.items()}
    return tuple(map(larger, value)) if isinstance(value, tuple) else value


def add_checkpoints(folder):
    index = read_dataset(folder)
    arguments = network_arguments(20, Backbone(**BACKBONE), decoder_channels=4)
    data = {"dataset": "tiny", "index_digest": index.digest, "classes": list(index.classes)}
    for stage in (0, 1):
        torch.manual_seed(stage)
        who = data | {"variant": "auxsegnet", "seed": 0, "stage": stage}
        save_checkpoint(folder / f"stage{stage}.pt", AuxSegNet(**arguments), arguments, who, {})
    torch.save(TinyBackbone().state_dict(), folder / "tiny.pth")


def add_own_photographs(folder):
    """The same photographs and masks once more, as a data set of the format `folder`."""
    index, own = read_dataset(folder), folder / "own"
    for part in ("images", "masks", "saliency"):
        (own / part).mkdir(parents=True)
    rows = [("image_id", "split", "labels")]
    for record in index.records:
        name = f"{record.image_id}.png"
        (own / "images" / name).symlink_to(index.root / record.image)
        (own / "masks" / name).symlink_to(index.root / record.mask)
        Image.new("L", (record.width, record.height), 100).save(own / "saliency" / name)
        rows.append((record.image_id, record.split, ";".join(record.labels)))
    with open(own / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)


def words(name, folder):
    """The arguments of a command over all images of a folder."""
    job = JOBS[name]
    options = {"--data": folder, **job.arguments}
    if job.run:
        options |= {"--variant": "auxsegnet", "--seed": 0, "--stage": 1}
    if job.data and job.settings:
        options["--settings"] = json.dumps(job.settings).replace(FOLDER, str(folder))
    made = inputs(job, folder)
    for option, value in options.items():
        is_file = str(value).endswith((".pt", ".pth", ".h5", ".csv"))
        made += [option, str(folder / value if is_file else value)]
    return [*made, job.output, str(folder / f"made_{name}" / "made.h5")]


def inputs(job, folder):
    given = []
    for option, value in job.inputs.items():
        given += [option] * bool(option) + [f"{folder / name_of(value)}.h5"]
    return given


def peak(name, folder):
    """Peak memory of a command in MB."""
    done = subprocess.run(
        [sys.executable, "tests/support/peak_memory.py", name, *words(name, folder)],
        cwd=ROOT,
        env=program_environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return float(done.stdout.splitlines()[-1])


def test_memory_is_flat_in_the_number_of_images(folders):
    rows = [[name, *(round(peak(name, folders[count])) for count in COUNTS)] for name in MEASURED]
    with open(TABLE, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["command", *(f"mb_at_{count}_images" for count in COUNTS)])
        writer.writerows(rows)
    assert {row[0] for row in rows} == set(MEASURED)
    grown = {name: many - few for name, few, many in rows}
    assert max(grown.values()) < ALLOWED, grown

"""Peak memory of the long jobs at 200 and at 2,000 images; `make memory` writes the table.

Slow, and so not part of `make test`: some minutes. Training reads image by image as these do.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import test_damaged_files
import torch
from test_damaged_files import BACKBONE, COMMANDS, build, name_of

from model.auxsegnet import AuxSegNet
from wsss.checkpoint import network_arguments, save_checkpoint
from wsss.datasets.index import read_dataset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs/results/memory.csv"
COUNTS = (200, 2000)
# MB that 1,800 images more may add. HDF5's own lists and what the C library keeps between them grow
# by some 60 MB, and stay there; kept in memory, the label maps of these images would be 88 MB and
# their photographs 265 MB.
ALLOWED = 80
VIEWS = {"scales": [1.0], "flip": False, "long_side": None, "precision": "fp32"}
SHARD = {"--shard": 0, "--shards": 1}
NETWORK_JOBS = {
    "extract_cams": {"--model": "start.pt"},
    "refine_cams": {"--model": "stage0.pt", "--output-saliency": "made.saliency.h5"},
    "segment": {"--model": "stage1.pt", "--split": "val"},
}
MEASURED = (
    *("extract_cams", "refine_cams", "segment"),
    *("make_pseudo_labels", "segment_crf", "evaluate_pseudo_labels", "evaluate_segmentation"),
    *("export_masks", "export_cams"),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Number of images -> folder with that many a split."""
    from conftest import TinyBackbone

    from model.backbones import BACKBONES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TinyBackbone)
        height, width = test_damaged_files.SIZE
        patch.setattr(test_damaged_files, "SIZE", (4 * height, 4 * width))
        files = larger(test_damaged_files.FILES)
        patch.setattr(test_damaged_files, "LABEL", larger(test_damaged_files.LABEL))
        patch.setattr(test_damaged_files, "FILES", files)
        made = {count: build(tmp_path_factory.mktemp(str(count)), count) for count in COUNTS}
        for folder in made.values():
            add_checkpoints(folder)
    return made


def larger(value):
    """What has the size of a photograph in `test_damaged_files`, four times as high and wide."""
    if isinstance(value, np.ndarray):
        is_map = value.shape == test_damaged_files.LABEL.shape
        return np.tile(value, (4, 4)) if is_map else value
    if isinstance(value, dict):
        return {key: larger(part) for key, part in value.items()}
    return tuple(map(larger, value)) if isinstance(value, tuple) else value


def add_checkpoints(folder):
    index = read_dataset(folder)
    arguments = network_arguments(20, BACKBONE, {"decoder_channels": 4})
    data = {"dataset": "tiny", "index_digest": index.digest, "classes": list(index.classes)}
    for stage in (0, 1):
        torch.manual_seed(stage)
        who = data | {"variant": "auxsegnet", "seed": 0, "stage": stage}
        save_checkpoint(folder / f"stage{stage}.pt", AuxSegNet(**arguments), arguments, who, {})


def words(name, folder):
    """The arguments of a command over all images of a folder."""
    if name in NETWORK_JOBS:
        options = {**NETWORK_JOBS[name], **SHARD, "--device": "cpu", "--seed": 0}
        if name != "extract_cams":
            options |= {"--variant": "auxsegnet", "--stage": 1}
        settings = VIEWS | {"merge": "max"}
        output = "--output-cams" if name == "refine_cams" else "--output"
    else:
        command = COMMANDS[name]
        options = {**command.arguments}
        if command.run:
            options |= {"--variant": "auxsegnet", "--seed": 0, "--stage": 1}
        settings, output = command.settings or {}, command.output
    if name not in NETWORK_JOBS and not COMMANDS[name].data:
        options |= {"--data": folder}
    else:
        options |= {"--data": folder, "--settings": json.dumps(settings)}
    files = (".pt", ".h5")
    made = [] if name in NETWORK_JOBS else inputs(name, folder)
    for option, value in options.items():
        made += [option, str(folder / value if str(value).endswith(files) else value)]
    return [*made, output, str(folder / f"made_{name}" / "made.h5")]


def inputs(name, folder):
    given = []
    for option, value in COMMANDS[name].inputs.items():
        given += [option] * bool(option) + [f"{folder / name_of(value)}.h5"]
    return given


def peak(name, folder):
    """Peak memory of a command in MB."""
    done = subprocess.run(
        [sys.executable, "tests/peak_memory.py", name, *words(name, folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
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

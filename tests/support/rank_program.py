"""What torchrun starts for test_ranks.py: trainings of the tiny network, one after the other.

    torchrun ... -m rank_program FOLDER RUNS

RUNS is JSON: name of a run -> kind (stage or classifier), dropout, settings, workers, and signals
that ranks send to themselves: rank -> step -> name. What comes out lies in FOLDER/name.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from coordinate_images import ColumnLabels, map_index
from tiny_network import TinyBackbone, classifying_network, tiny_network
from tiny_training import CLASSIFIER, IMAGES, STAGE, changed

from model.backbones import BACKBONES
from model.losses import stage_losses
from workflow_scripts.jobs.command import run
from wsss.compute.ranks import joined
from wsss.storage.artifacts import Record
from wsss.training import loop as training
from wsss.training.loop import Hardware
from wsss.training.run import train

CPU = torch.device("cpu")


class PartlyLabelled(ColumnLabels):
    """Classes 0..3 by column; of image k the first 4 k rows are unlabelled."""

    def read(self, image_id):
        rows, columns = np.mgrid[: self.size[0], : self.size[1]].astype(np.uint8)
        unknown = rows < 4 * int(image_id.removeprefix("image"))
        segmentation = np.where(unknown, 255, columns // 10).astype(np.uint8)
        return Record({"segmentation": segmentation, "saliency": 112 + rows}, {})


def prepare(folder, kind, dropout):
    """Network, images and pseudo labels of a training, the same on every rank."""
    torch.set_num_threads(1)
    network = classifying_network() if kind == "classifier" else tiny_network()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = dropout
    folder.mkdir(parents=True, exist_ok=True)
    return network, map_index(folder, IMAGES), None if kind == "classifier" else PartlyLabelled()


def signalling(orders):
    """Losses that send this process a signal at some steps: step -> name of the signal."""
    steps = iter(range(1000))

    def wrapped(*arguments):
        name = orders.get(str(next(steps)))
        if name:
            os.kill(os.getpid(), signal.Signals[name])
        return stage_losses(*arguments)

    return wrapped


def train_here(folder, options, ranks):
    """Train, and leave what came out where the test finds it."""
    kind = options.get("kind", "stage")
    settings = CLASSIFIER if kind == "classifier" else STAGE
    own = folder / f"rank{ranks.number}"  # for what every rank writes: the photographs
    network, index, labels = prepare(own, kind, options.get("dropout", 0.0))
    training.stage_losses = signalling(options.get("signals", {}).get(str(ranks.number), {}))
    rows, clean_up = train(
        network,
        changed(settings, **options.get("settings", {})),
        index,
        5,
        Hardware(CPU, workers=options.get("workers", 0), ranks=ranks),
        long_side=None,
        output=folder / "model.pt",
        key="key",
        pseudo_labels=labels,
    )
    if ranks.leads:
        torch.save({"rows": rows, "model": network.state_dict()}, folder / "end.pt")
        clean_up()


def main(words):
    BACKBONES["tiny"] = TinyBackbone
    with joined(CPU) as ranks:
        for name, options in json.loads(words[1]).items():
            train_here(Path(words[0]) / name, options, ranks)


if __name__ == "__main__":
    run(main, sys.argv[1:])

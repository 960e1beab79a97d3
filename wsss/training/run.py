"""A training from its material to its log: what is checked before it, and what lies beside it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from model.auxsegnet import AuxSegNet
from model.backbones import freeze
from wsss.configuration.training_sections import Classifier, Stage
from wsss.datasets.index import DatasetIndex
from wsss.errors import InputError, listed
from wsss.storage.artifacts import ArtifactReader, installed_versions
from wsss.storage.files import write_csv
from wsss.training.batches import TrainingImages
from wsss.training.loop import Hardware, Trainer
from wsss.training.resume import ResumeStates
from wsss.training.several_processes import SharedStates, SharedTrainer
from wsss.training.state import Row

LOG_COLUMNS = ("step", "epoch", "learning_rate", "loss")  # of every log; each has more losses


def train(
    network: AuxSegNet,
    settings: Classifier | Stage,
    index: DatasetIndex,
    seed: int,
    hardware: Hardware,
    *,
    long_side: int | None,
    output: str | Path,
    key: str,
    pseudo_labels: ArtifactReader | None = None,
) -> tuple[list[Row], Callable[[], None]]:
    """Train a network on the train split.

    Args:
        network: with its starting weights.
        settings: section `classifier` or `stage`.
        index: of the data set.
        seed: of this run.
        hardware: where it runs.
        long_side: photographs are shrunk to it first (None: not).
        output: path of the checkpoint to be; the resume state lies beside it until success.
        key: `run_key` of the run: a state of another configuration is never picked up.
        pseudo_labels: of a stage.

    Returns:
        rows of the log, and a function that removes the resume state.

    Raises:
        InputError: the settings fit neither network, images nor GPUs; see also `Trainer.run`.
        StoppedError: see `Trainer.run`.
    """
    section, ranks = "stage" if isinstance(settings, Stage) else "classifier", hardware.ranks
    mean, std = network.backbone.mean, network.backbone.std
    images = TrainingImages(index, mean, std, settings, long_side, pseudo_labels)
    if len(images) == 0:
        raise InputError("no image in split train; check the lists and labels of the data set")
    if settings.batch_size % ranks.count:
        raise InputError(
            f"{section}.batch_size: {settings.batch_size} images cannot be shared evenly by "
            f"{ranks.count} GPUs (resources.train.gpu); change one of the two"
        )
    _freeze(network.backbone, settings.frozen, f"{section}.frozen")
    if ranks.several:
        states = SharedStates(output, key, ranks)
        trainer = SharedTrainer(network, settings, hardware, states)
    else:
        states = ResumeStates(output, key)
        trainer = Trainer(network, settings, hardware, states)
    return trainer.run(images, seed), states.remove


def _freeze(backbone: nn.Module, names: tuple[str, ...], key: str) -> None:
    """`freeze`; a name that the backbone does not have is an error of the configuration."""
    try:
        freeze(backbone, names)
    except ValueError as error:
        known = listed(name for name, _ in backbone.named_children())
        raise InputError(f"{key}: {error}; known are {known}, and parts of them") from error


def run_key(*parts: Any, code: str) -> str:
    """Short hash of all that a run's weights follow from: names its resume folder.

    Weights of which some steps were made by other code belong to neither version.

    Args:
        parts: configuration and inputs (JSON-able).
        code: digest of the source files that the command uses.
    """
    everything = [*parts, code, installed_versions()]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]


def write_log(path: str | Path, rows: list[Row]) -> None:
    """Losses and learning rate as CSV; a run of no steps has a header and no rows."""
    columns = rows[0] if rows else LOG_COLUMNS
    values = [row.values() for row in rows]
    write_csv(path, columns, values, durable=True)

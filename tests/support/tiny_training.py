"""Trainings of the tiny network that take a second, and ways to interrupt them."""

from unittest import mock

import torch
from coordinate_images import ColumnLabels, map_index
from tiny_network import tiny_network

from model.losses import stage_losses
from wsss.configuration.training_sections import Classifier, Resize, Stage
from wsss.storage.artifacts import Record
from wsss.training import loop as training
from wsss.training.loop import Hardware
from wsss.training.run import train

TRAINING = {
    "epochs": 3,
    "least_images": 1,
    "batch_size": 2,
    "learning_rate": 0.01,
    "head_multiplier": 10.0,
    "gradient_clip": None,
    "averaged_steps": 0,
    "poly_power": 0.9,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "crop": 32,
    "flip": True,
    "colour_jitter": (0.3, 0.3, 0.3, 0.1),
    "frozen": ("stem",),
}
STAGE = Stage(
    **TRAINING,
    later_learning_rate=None,
    random_scale=(0.7, 1.3),
    random_scale_per="batch",
    label_padding=255,
)
CLASSIFIER = Classifier(**TRAINING, resize=Resize(long_side=(32, 48)))
IMAGES = 8  # four steps an epoch
CPU = Hardware(torch.device("cpu"))


class SmallLabels(ColumnLabels):
    """Classes 0..3 by column."""

    def read(self, image_id):
        arrays = super().read(image_id).array
        return Record(arrays | {"segmentation": arrays["segmentation"] // 10}, {})


class InterruptedRunError(Exception):
    pass


def failing(after, failure):
    """Losses that call `failure` at step `after`, counted from 0."""
    steps = iter(range(1000))

    def wrapped(*arguments):
        if next(steps) == after:
            failure()
        return stage_losses(*arguments)

    return wrapped


def counting(steps):
    """Losses that add to a list at each step."""
    return lambda *arguments: steps.append(1) or stage_losses(*arguments)


def interrupt():
    raise InterruptedRunError


def run(
    folder,
    *,
    losses=stage_losses,
    key="key",
    network=None,
    settings=STAGE,
    labels=None,
    hardware=CPU,
    images=IMAGES,
):
    """Train on the photographs in `folder`; returns network, rows and the clean-up."""
    torch.set_num_threads(1)
    network = network or tiny_network()
    with mock.patch.object(training, "stage_losses", losses):
        rows, clean_up = train(
            network,
            settings,
            map_index(folder, images),
            5,
            hardware,
            long_side=None,
            output=folder / "model.pt",
            key=key,
            pseudo_labels=None if isinstance(settings, Classifier) else labels or SmallLabels(),
        )
    return network, rows, clean_up


def changed(settings, **values):
    """A section with other values, be they allowed or not."""
    return settings.model_copy(update=values)


def assert_same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name

"""The command that trains the classifier: what it starts from, and what it writes."""

import json

import pytest
import torch
from conftest import TinyBackbone
from test_batches import map_index
from test_training import CPU, IMAGES, SETTINGS, tiny_network

from workflow_scripts import train_classifier, training_job
from wsss.checkpoint import load_network, load_shared_weights
from wsss.datasets.index import write_dataset
from wsss.errors import InputError


@pytest.fixture(autouse=True)
def setting(tiny_backbone, monkeypatch):
    """The commands leave threads and random generators of this process alone."""
    monkeypatch.setattr(training_job, "prepare_device", lambda *_: CPU.device)


@pytest.fixture
def tiny_weights(tmp_path):
    torch.save(TinyBackbone().state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def classifier_command(folder, weights, recipe="paper", **classifier):
    """Arguments of the command that trains the classifier of `tiny` on photographs in `folder`."""
    write_dataset(map_index(folder, IMAGES), folder)
    settings = {
        "backbone": {"name": "tiny", "output_stride": 8},
        "network": {"recipe": recipe},
        "classifier": SETTINGS | {"frozen": []} | classifier,
        "images": {"long_side": None},
    }
    files = {"data": folder, "weights": weights, "output": folder / "m.pt", "log-csv": folder / "l"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    return ["--seed", "0", "--settings", json.dumps(settings), *words]


@pytest.mark.parametrize(("recipe", "dropout"), [("paper", 0.0), ("official", 0.5)])
def test_the_classifier_is_that_of_the_recipe(tmp_path, tiny_weights, recipe, dropout):
    """Its checkpoint says so, rebuilds it, and is what a stage starts from."""
    train_classifier.main(classifier_command(tmp_path, tiny_weights, recipe))
    network, checkpoint = load_network(tmp_path / "m.pt", CPU.device)
    assert checkpoint["arguments"]["recipe"] == recipe
    assert network.dropout.p == dropout
    stage = tiny_network(recipe=recipe)
    load_shared_weights(stage, tmp_path / "m.pt")
    after = stage.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in network.state_dict().items())


def test_unknown_frozen_part_of_the_classifier_is_refused(tmp_path, tiny_weights):
    with pytest.raises(InputError, match=r"^classifier\.frozen: .*'b2'.*known are stem"):
        train_classifier.main(classifier_command(tmp_path, tiny_weights, frozen=["b2"]))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"layer1.weight": torch.ones(2)}, "nothing fits.*layer1.weight.*stem.weight"),
        ({}, "no wei"),
    ],
)
def test_wrong_weights_are_refused_by_key_and_name(tmp_path, tiny_weights, content, complaint):
    torch.save(content, tiny_weights)
    with pytest.raises(
        InputError, match=rf"^backbone\.weights: .*tiny\.pth: .*{complaint}"
    ) as caught:
        train_classifier.main(classifier_command(tmp_path, tiny_weights))
    assert "\n" not in str(caught.value)

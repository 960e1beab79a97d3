"""The command that trains the classifier: what it starts from, and what it writes."""

import json
import os

import pytest
import torch
from commands_on_artifacts import build, call
from coordinate_images import map_index
from tiny_network import TinyBackbone, tiny_network
from tiny_training import (
    CLASSIFIER,
    CPU,
    IMAGES,
    InterruptedRunError,
    counting,
    failing,
    interrupt,
)

from workflow_scripts import (
    extract_cams,
    train_classifier,
    train_stage,
)
from workflow_scripts.jobs import network as network_job
from workflow_scripts.jobs import training as training_job
from wsss.datasets.index import read_dataset, write_dataset
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.checkpoint import load_network, load_shared_weights
from wsss.training import loop as training
from wsss.training.resume import ResumeStates

pytestmark = pytest.mark.run


@pytest.fixture(autouse=True)
def setting(tiny_backbone, monkeypatch):
    """The commands leave threads and random generators of this process alone."""
    for module in (training_job, network_job):
        monkeypatch.setattr(module, "prepare_device", lambda *_: CPU.device)


@pytest.fixture
def tiny_weights(tmp_path):
    torch.save(TinyBackbone().state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def classifier_command(folder, weights, design="paper", **classifier):
    """Arguments of the command that trains the classifier of `tiny` on photographs in `folder`."""
    write_dataset(map_index(folder, IMAGES), folder)
    settings = {
        "backbone": {"name": "resnet38", "output_stride": 8, "weights": str(weights)},
        "network": {"design": design},
        "classifier": CLASSIFIER.model_dump(mode="json") | {"frozen": []} | classifier,
        "images": {"long_side": None},
    }
    files = {"data": folder, "weights": weights, "output": folder / "m.pt", "log-csv": folder / "l"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    return ["--seed", "0", "--settings", json.dumps(settings), *words]


@pytest.mark.parametrize(("design", "dropout"), [("paper", 0.0), ("official", 0.5)])
def test_the_classifier_is_that_of_the_design(tmp_path, tiny_weights, design, dropout):
    """Its checkpoint says so, rebuilds it, and is what a stage starts from."""
    train_classifier.main(classifier_command(tmp_path, tiny_weights, design))
    network, checkpoint = load_network(tmp_path / "m.pt", CPU.device)
    assert checkpoint["arguments"]["design"] == design
    assert network.dropout.p == dropout
    stage = tiny_network(design=design)
    load_shared_weights(stage, tmp_path / "m.pt")
    after = stage.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in network.state_dict().items())


# --- a classifier that is taken as it is


def without_counters(state):
    """As in a file of PSA's, whose batch norms did not count their batches."""
    return {name: value for name, value in state.items() if "num_batches" not in name}


@pytest.fixture
def trained_elsewhere(tmp_path):
    """A file of a classifier of three classes under PSA's names, and what is in it."""
    torch.manual_seed(1)
    state = without_counters(TinyBackbone().state_dict())
    state |= {name: torch.rand(value.shape) for name, value in state.items() if "bn." in name}
    state["fc8.weight"] = torch.randn(3, TinyBackbone.channels, 1, 1)
    torch.save(state, tmp_path / "res38_cls.pth")
    return tmp_path / "res38_cls.pth", state


@pytest.mark.parametrize("workers", [0, 1])
def test_without_epochs_the_classifier_is_the_files(tmp_path, trained_elsewhere, workers):
    path, state = trained_elsewhere
    command = classifier_command(tmp_path, path, design="official", epochs=0)
    train_classifier.main([*command, "--workers", str(workers)])
    network, _ = load_network(tmp_path / "m.pt", CPU.device)
    found = without_counters(network.state_dict())
    found = {name.removeprefix("backbone."): value for name, value in found.items()}
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.items())
    assert (tmp_path / "l").read_text().splitlines() == ["step,epoch,learning_rate,loss"]
    assert not list(tmp_path.glob(".resume-*"))


def test_its_cams_are_those_of_the_files_weights(tmp_path, trained_elsewhere):
    path, state = trained_elsewhere
    train_classifier.main(classifier_command(tmp_path, path, epochs=0))
    view = {"scales": [1.0], "flip": False, "long_side": None, "precision": "fp32"}
    files = {"data": tmp_path, "model": tmp_path / "m.pt", "output": tmp_path / "cams.h5"}
    words = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    words += ["--seed", "0", "--shard", "0", "--shards", "1", "--settings", json.dumps(view)]
    extract_cams.main(words)
    cams = ArtifactReader(tmp_path / "cams.h5", "cams")
    index = read_dataset(tmp_path)
    assert set(cams.ids) == {record.image_id for record in index.records}
    for record in index.records:
        expected = cams_by_hand(state, index, record)
        assert expected.max() > 0.9 and expected.std() > 0.01
        found = torch.from_numpy(cams.read(record.image_id).array).float()
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)  # it is stored as float16


@torch.no_grad()
def cams_by_hand(state, index, record):
    """W_c F of the image's classes, without what is negative, over its maximum: (K, h, w)."""
    backbone = TinyBackbone().eval()
    backbone.load_state_dict({name: v for name, v in state.items() if name != "fc8.weight"}, False)
    image = torch.from_numpy(index.read_image(record)) / 255
    image = (image - torch.tensor(backbone.mean)) / torch.tensor(backbone.std)
    features = backbone(image.permute(2, 0, 1)[None])[0]
    present = torch.from_numpy(index.label_vector(record)) > 0
    cams = torch.einsum("ck,khw->chw", state["fc8.weight"][present, :, 0, 0], features).relu()
    return cams / (cams.amax(dim=(1, 2), keepdim=True) + 1e-5)


@pytest.mark.parametrize("rows", [0, 20])
def test_without_epochs_the_file_must_have_a_classifier_for_the_classes(
    tmp_path, trained_elsewhere, rows
):
    path, state = trained_elsewhere
    del state["fc8.weight"]
    torch.save(state | ({"fc8.weight": torch.ones(rows, 8, 1, 1)} if rows else {}), path)
    complaint = r"^classifier\.epochs: 0 takes .* none for 3 classes; set "
    with pytest.raises(InputError, match=complaint) as caught:
        train_classifier.main(classifier_command(tmp_path, path, epochs=0))
    said = str(caught.value)
    assert "\n" not in said and "backbone.weights" in said and str(path) in said
    assert not (tmp_path / "m.pt").exists()


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


# --- an interrupted training whose code was edited


@pytest.mark.parametrize(("edited", "steps"), [(False, 8), (True, 12)])
def test_an_edit_of_the_code_starts_a_training_anew(
    tmp_path, tiny_weights, monkeypatch, edited, steps
):
    """Interrupted at step 6 of 12, with a state of step 4."""
    words = classifier_command(tmp_path, tiny_weights)
    counted = []

    def train_with(losses, code):
        monkeypatch.setattr(training, "stage_losses", losses)
        monkeypatch.setattr(train_classifier, "code_digest", lambda module: f"{module} {code}")
        train_classifier.main(words)

    with pytest.raises(InterruptedRunError):
        train_with(failing(6, interrupt), "old")
    train_with(counting(counted), "new" if edited else "old")
    assert len(counted) == steps


def test_the_key_of_a_stage_follows_its_code(tmp_path, monkeypatch, capsys):
    folder, keys = build(tmp_path), []

    def stop(*_, key, **__):
        keys.append(key)
        raise InputError("enough seen")

    monkeypatch.setattr(train_stage, "train", stop)
    for code in ("old", "new", "old"):
        monkeypatch.setattr(train_stage, "code_digest", lambda module, c=code: f"{module} {c}")
        call("train_stage", folder, capsys)
    assert keys[0] == keys[2] != keys[1]


def test_a_finished_training_is_on_disk_before_its_state_goes(tmp_path, tiny_weights, monkeypatch):
    flushed, before = set(), []
    fsync, remove = os.fsync, ResumeStates.remove

    def noted(handle):
        flushed.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(
        ResumeStates, "remove", lambda states: before.append(set(flushed)) or remove(states)
    )
    train_classifier.main(classifier_command(tmp_path, tiny_weights))
    made = {path.stat().st_ino for path in (tmp_path, tmp_path / "m.pt", tmp_path / "l")}
    assert made <= before[0] and len(before) == 1
    assert not list(tmp_path.glob(".resume-*"))

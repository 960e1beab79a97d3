"""Checkpoints: networks come back; what is foreign, damaged or malicious is refused."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from coordinate_images import map_index
from tiny_training import STAGE

from model.auxsegnet import AuxSegNet
from workflow_scripts import train_stage
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import write_dataset
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter
from wsss.storage.checkpoint import (
    load_network,
    load_shared_weights,
    network_arguments,
    read_checkpoint,
    save_checkpoint,
    state_digest,
)

WHO = {"dataset": "zoo", "index_digest": "12ab", "seed": 3, "stage": 1}


@pytest.fixture
def build(tiny_backbone):
    def build(seed=0, **options):
        arguments = {"num_classes": 3, "backbone": "tiny", "decoder_channels": 4} | options
        torch.manual_seed(seed)
        return AuxSegNet(**arguments), arguments

    return build


@pytest.fixture
def saved(build, tmp_path):
    def saved(name="model.pt", identity=WHO, **options):
        network, arguments = build(**options)
        save_checkpoint(tmp_path / name, network, arguments, identity, {"epochs": 2})
        return tmp_path / name, network

    return saved


def test_network_comes_back_ready_to_predict(saved):
    path, network = saved(design="official", branches="seg_sal", affinity="segmentation")
    loaded, checkpoint = load_network(path, torch.device("cpu"), **WHO)
    assert not loaded.training
    images = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        expected = network.eval()(images).refined_segmentation
        assert torch.equal(loaded(images).refined_segmentation, expected)
    assert checkpoint["parameters"] == {"epochs": 2}
    assert checkpoint["identity"] == WHO


def test_files_have_the_released_names(saved):
    """As those of older versions, whose network had these names itself."""
    path, network = saved()
    names = set(read_checkpoint(path)["model"])
    assert {"seg_conv4.weight", "sal_att.theta.bias", "sal_g.weight", "fc8.weight"} <= names
    assert not names & {n for n in network.state_dict() if n.startswith(("seg", "sal", "cross"))}


def test_digest_is_of_names_and_values(build):
    state = build()[0].state_dict()
    digest = state_digest(state)
    assert state_digest(dict(reversed(state.items()))) == digest
    assert state_digest(build()[0].state_dict()) == digest
    assert state_digest(build(seed=1)[0].state_dict()) != digest
    name = "seg.classifier.weight"
    assert state_digest({k + "x" if k == name else k: v for k, v in state.items()}) != digest
    assert state_digest(state | {name: state[name].half()}) != digest
    assert state_digest(state | {name: state[name].flatten()}) != digest


def test_saving_returns_the_digest_of_the_file(build, tmp_path):
    network, arguments = build()
    digest = save_checkpoint(tmp_path / "model.pt", network, arguments, WHO, {})
    assert digest == state_digest(read_checkpoint(tmp_path / "model.pt")["model"])


def test_sources_are_kept_and_no_part_of_the_digest(build, tmp_path):
    network, arguments = build()
    path, sources = tmp_path / "model.pt", {"weights/tiny.pth": "77aa"}
    digest = save_checkpoint(path, network, arguments, WHO, {}, sources=sources)
    assert read_checkpoint(path)["sources"] == sources
    assert save_checkpoint(tmp_path / "other.pt", network, arguments, WHO, {}) == digest


def test_checkpoint_from_before_sources_were_recorded_is_loaded(saved, build, tmp_path):
    path, network = saved()
    content = torch.load(path, weights_only=True)
    del content["sources"]
    torch.save(content, tmp_path / "old.pt")
    loaded, _ = load_network(tmp_path / "old.pt", torch.device("cpu"), **WHO)
    checkpoint = load_shared_weights(build(seed=1)[0], tmp_path / "old.pt", **WHO)
    assert state_digest(loaded.state_dict()) == state_digest(network.state_dict())
    assert checkpoint["digest"] == content["digest"]


def test_checkpoint_whose_design_was_called_its_recipe_is_loaded(saved, tmp_path):
    path, network = saved(design="official")
    content = torch.load(path, weights_only=True)
    content["arguments"]["recipe"] = content["arguments"].pop("design")
    torch.save(content, tmp_path / "old.pt")
    loaded, checkpoint = load_network(tmp_path / "old.pt", torch.device("cpu"), **WHO)
    assert loaded.design == network.design
    assert checkpoint["arguments"] == read_checkpoint(path)["arguments"]


def test_a_stage_records_the_model_and_the_pseudo_labels_that_it_learnt_from(
    saved, tmp_path, monkeypatch
):
    """With a training of no steps; test_training.py has the steps."""
    monkeypatch.setattr(train_stage, "train", lambda *_, **__: ([{"loss": 0.0}], lambda: None))
    index = map_index(tmp_path, 1)
    write_dataset(index, tmp_path / "zoo")
    data = {"dataset": "zoo", "index_digest": index.digest, "classes": list(index.classes)}
    start, _ = saved("start.pt", data | {"seed": 3}, num_classes=len(index.classes))
    labels, output = tmp_path / "labels.h5", tmp_path / "model.pt"
    who = data | {"variant": "auxsegnet", "seed": 3, "stage": 0}
    with ArtifactWriter(
        labels, "pseudo_labels", identity=who, parameters={}, sources={}, expected=["x"]
    ) as writer:
        writer.write("x", np.zeros((4, 6), np.uint8))
    settings = {
        "backbone": {"name": "resnet38", "output_stride": 8, "weights": "none"},
        "network": {"design": "paper", "attention_start": "random", "decoder_channels": 4},
        "stage": STAGE.model_dump(mode="json"),
        "images": {"long_side": None},
    }
    given = {"--settings": json.dumps(settings), "--data": tmp_path / "zoo"}
    given |= {"--variant": "auxsegnet", "--seed": 3, "--stage": 0, "--device": "cpu"}
    given |= {"--pseudo-labels": labels, "--model": start}
    given |= {"--output": output, "--log-csv": tmp_path / "log.csv"}
    train_stage.main([str(part) for pair in given.items() for part in pair])
    assert read_checkpoint(output, **who)["sources"] == {
        str(start): read_checkpoint(start)["digest"],
        **ArtifactReader(labels, "pseudo_labels").sources,
    }


def test_failed_save_leaves_nothing(build, tmp_path):
    network, arguments = build()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(tmp_path / "model.pt", network, arguments, WHO, {"f": lambda: None})
    assert os.listdir(tmp_path) == []


class Malicious:
    def __init__(self, proof):
        self.command = f"touch {proof}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_not_run(tmp_path, legacy):
    path, proof = tmp_path / "model.pt", tmp_path / "proof"
    torch.save(
        {"format": "auxsegnet-checkpoint-1", "model": Malicious(proof)},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert proof.exists()


def test_plain_pickle_is_not_run(tmp_path):
    path, proof = tmp_path / "model.pt", tmp_path / "proof"
    path.write_bytes(pickle.dumps(Malicious(proof), protocol=2))
    with pytest.raises(InputError, match="not a readable checkpoint"):
        read_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("key", "other"), [("dataset", "farm"), ("index_digest", "34cd"), ("seed", 4), ("stage", 0)]
)
def test_checkpoint_of_something_else_is_refused(saved, key, other):
    path, _ = saved()
    with pytest.raises(InputError) as error:
        read_checkpoint(path, **(WHO | {key: other}))
    message = str(error.value)
    for part in (str(path), key, repr(WHO[key]), repr(other), f"snakemake -f {path}"):
        assert part in message
    assert "\n" not in message


def test_files_that_are_no_checkpoint_are_refused(saved, tmp_path):
    path, network = saved()
    cases = {
        "missing.pt": "no such file",
        "truncated.pt": "not a readable checkpoint",
        "text.pt": "not a readable checkpoint",
        "state.pt": "no checkpoint of this workflow",
        "tensor.pt": "no checkpoint of this workflow",
    }
    (tmp_path / "truncated.pt").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "text.pt").write_text("weights\n")
    torch.save(network.state_dict(), tmp_path / "state.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    for name, message in cases.items():
        with pytest.raises(InputError, match=message) as error:
            read_checkpoint(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_all_branches_start_from_the_classifier(saved, build):
    path, classifier = saved(branches="cls", affinity="none")
    network, _ = build(seed=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    checkpoint = load_shared_weights(network, path, **WHO)
    given, after = classifier.state_dict(), network.state_dict()
    assert {"fc8.weight", "backbone.stem.weight"} <= set(given)
    for name, value in after.items():
        assert torch.equal(value, given.get(name, before[name])), name
    assert not torch.equal(before["fc8.weight"], given["fc8.weight"])
    assert checkpoint["digest"] == state_digest(given)


def test_fewer_branches_take_what_they_have(saved, build):
    path, full = saved()
    network, _ = build(seed=1, branches="seg_cls", affinity="segmentation")
    load_shared_weights(network, path)
    given = full.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, given[name]), name


def test_weights_of_another_shape_or_backbone_are_refused(saved, build, tmp_path):
    path, network = saved()
    other, _ = build(seed=1, num_classes=5)
    with pytest.raises(InputError, match=r"(fc8|seg_conv4).weight is missing or of another shape"):
        load_shared_weights(other, path)
    content = torch.load(path, weights_only=True)
    del content["model"]["backbone.stem.weight"]
    torch.save(content, tmp_path / "headless.pt")
    with pytest.raises(InputError, match=r"backbone\.stem\.weight is missing"):
        load_shared_weights(network, tmp_path / "headless.pt")


def test_arguments_from_the_configuration_build_the_network(tiny_backbone):
    backbone = Backbone(name="resnet38", output_stride=8, weights="weights/tiny.pth")
    switches = {"design": "official", "branches": "all", "affinity": "cross_task"}
    arguments = network_arguments(3, backbone, **switches)
    network = AuxSegNet(**arguments)
    assert network.fc8.out_channels == 3
    assert network.design.output_projection


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"num_classes": 3, "backbone": "a later one"}},
        {"arguments": {"num_classes": 3, "backbone": "tiny", "a_later_option": 1}},
        {"model": {}},
    ],
    ids=str,
)
def test_a_network_of_another_version_is_refused(saved, change):
    path, _ = saved()
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(InputError, match=r"model\.pt: a network that this version does not build"):
        load_network(path, torch.device("cpu"), **WHO)


def content_of(checkpoint):
    """All that a checkpoint says, to be compared."""
    return repr({key: value for key, value in checkpoint.items() if key != "model"})


def test_a_flipped_bit_in_a_checkpoint_never_passes(saved, tmp_path):
    """All comes back as it was, or the file is refused in one line: weights as well as settings."""
    path, network = saved()
    whole, digest = path.read_bytes(), state_digest(network.state_dict())
    said = content_of(read_checkpoint(path))
    with zipfile.ZipFile(path) as archive:
        settings = next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    start = whole.index(settings)
    places = [*np.linspace(0, len(whole) - 1, 300), *range(start, start + len(settings), 3)]
    refused = 0
    for place in np.array(places, int):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        (tmp_path / "flipped.pt").write_bytes(content)
        try:
            loaded, checkpoint = load_network(tmp_path / "flipped.pt", torch.device("cpu"), **WHO)
        except InputError as error:
            refused += 1
            assert "flipped.pt" in str(error) and str(error).isprintable()
        else:
            assert state_digest(loaded.state_dict()) == digest
            assert content_of(checkpoint) == said
    assert refused > 0.8 * len(places)


def test_a_part_that_a_flipped_bit_calls_a_folder_is_refused(saved):
    """PyTorch would read nothing of it, and say nothing."""
    path, _ = saved()
    with zipfile.ZipFile(path) as archive:
        entries = archive.start_dir
    content = bytearray(path.read_bytes())
    # APPNOTE 4.3.12: an entry has its attributes in bytes 38 to 41, and its name from byte 46.
    content[content.index(b"archive/data/0", entries) - 8] ^= 0x10
    path.write_bytes(content)
    assert len(torch.load(path, weights_only=True)["model"]) > 10
    with pytest.raises(InputError, match="data/0' is damaged"):
        read_checkpoint(path)

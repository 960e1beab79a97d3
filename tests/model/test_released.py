"""The released network: its checkpoints give its outputs, and are written again."""

import pytest
import released_network
import torch

from model.auxsegnet import AuxSegNet, AuxSegNetOutput
from model.weights import load_weights, released_state
from workflow_scripts import export_weights
from wsss.errors import InputError
from wsss.storage.checkpoint import save_checkpoint

CLASSES = 20
full_width = pytest.mark.run  # half a gigabyte of ResNet38: ten seconds
ARGUMENTS = {"num_classes": CLASSES, "backbone": "resnet38", "design": "official"}


@pytest.fixture(scope="module")
def state():
    return released_network.random_state(CLASSES)


@pytest.fixture(scope="module")
def loaded(state, tmp_path_factory):
    """A network of design `official` with the weights of a released checkpoint."""
    path = tmp_path_factory.mktemp("released") / "auxsegnet.pth"
    torch.save({f"module.{name}": value for name, value in state.items()}, path)
    network = AuxSegNet(**ARGUMENTS).eval()
    report = load_weights(network, path)
    path.unlink()  # half a gigabyte
    return network, report


@full_width
def test_nothing_is_missing_and_only_idle_tensors_are_unused(loaded, state):
    _, report = loaded
    assert report.missing == ()
    assert set(report.unused) == {n for n in state if released_network.is_idle(n)}
    assert len(report.loaded) + len(report.unused) == len(state)


@full_width
@pytest.mark.parametrize(
    ("dtype", "size", "tolerance"),
    [(torch.float32, (96, 136), 1e-4), (torch.float64, (61, 83), 1e-9)],
)
@torch.no_grad()
def test_seven_outputs_are_those_of_the_released_network(loaded, state, dtype, size, tolerance):
    network = loaded[0].to(dtype)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(3)).to(dtype)
    expected, largest = released_network.forward(
        {name: value.to(dtype) for name, value in state.items()}, images
    )
    found = network(images)._asdict()
    network.float()
    assert set(expected) == set(AuxSegNetOutput._fields) and len(expected) == 7
    assert 3 < largest < 30  # neither uniform nor beyond what float32 resolves
    for name, reference in expected.items():
        assert found[name].dtype == dtype and found[name].shape == reference.shape
        assert (found[name] - reference).abs().max() <= tolerance * reference.abs().max(), name


@full_width
@torch.no_grad()
def test_row_blocks_refine_as_the_matrix_does_in_double_precision(loaded):
    network = loaded[0].double()
    images = torch.randn(1, 3, 45, 70, generator=torch.Generator().manual_seed(4)).double()
    full, blocks = network(images), network(images, affinity="blocks")
    network.float()
    torch.testing.assert_close(
        blocks.refined_segmentation, full.refined_segmentation, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(blocks.refined_saliency, full.refined_saliency, rtol=1e-9, atol=1e-9)


@full_width
def test_exported_file_has_every_released_name_and_the_same_weights(loaded, state, tmp_path):
    network, _ = loaded
    checkpoint = tmp_path / "model.pt"
    save_checkpoint(checkpoint, network, ARGUMENTS, {}, {})
    export_weights.main([str(checkpoint), "--output", str(tmp_path / "released.pth")])
    written = torch.load(tmp_path / "released.pth", weights_only=True)
    counters = {name for name in written if name.endswith("num_batches_tracked")}
    assert {name: tuple(v.shape) for name, v in written.items() if name not in counters} == {
        name: tuple(v) for name, v in released_network.shapes(CLASSES).items()
    }
    # A BatchNorm2d that loads strictly wants its counter too.
    norms = {name.removesuffix(".running_var") for name in state if name.endswith("running_var")}
    assert {name.removesuffix(".num_batches_tracked") for name in counters} == norms
    for name, value in state.items():
        if not released_network.is_idle(name):
            assert torch.equal(written[name], value), name
    checkpoint.unlink()


def empty_network(**arguments):
    """Names and shapes without the weights, which are half a gigabyte of ResNet38."""
    with torch.device("meta"):
        return AuxSegNet(2, decoder_channels=8, **{"affinity": "none", **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet38", "branches": "seg"}, "all branches"),
        ({"backbone": "resnet38", "affinity": "cross_task"}, "design paper"),
    ],
)
def test_networks_without_a_released_counterpart_are_refused(arguments, message):
    network = empty_network(**arguments)
    with pytest.raises(ValueError, match=message):
        released_state(network)


def test_a_refusal_of_the_command_names_the_checkpoint_and_leaves_no_file(tmp_path):
    path, arguments = tmp_path / "model.pt", {"num_classes": 2, "backbone": "efficientnet_lite0"}
    save_checkpoint(path, AuxSegNet(**arguments), arguments, {}, {})
    with pytest.raises(InputError, match=r"model\.pt: cannot be exported: .* backbone resnet38"):
        export_weights.main([str(path), "--output", str(tmp_path / "released.pth")])
    assert not (tmp_path / "released.pth").exists()


def test_a_classifier_has_the_names_of_psa():
    state = released_state(empty_network(backbone="resnet38", branches="cls"))
    found = {n: tuple(v.shape) for n, v in state.items() if not n.endswith("num_batches_tracked")}
    released = released_network.shapes(2).items()
    assert found == {n: v for n, v in released if not n.startswith(("seg_", "sal_", "cross_att"))}

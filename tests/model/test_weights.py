"""Weight files of every known origin, written here in a few channels."""

import numpy as np
import pytest
import torch
from lite_reference import lite_reference
from mxnet_files import write_params
from repository import ROOT
from torch import nn

import model.backbones
from model.auxsegnet import AuxSegNet
from model.backbones import FixedBatchNorm2d
from model.backbones.resnet38 import BasicBlock, BottleneckBlock, ResNet38
from model.weights import load_weights, mxnet_name, own_names, released_names

WIDTH = 16


class NarrowResNet38(nn.Module):
    """A few layers of ResNet38 under their names."""

    channels, stride = WIDTH, 8
    mean, std = ResNet38.mean, ResNet38.std

    def __init__(self, output_stride=8):
        super().__init__()
        self.conv1a = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.b2 = BasicBlock(4, 8, 8, stride=2)
        self.b2_1 = BasicBlock(8, 8, 8)
        self.b6 = BottleneckBlock(8, WIDTH, dilation=4, dropout=0.3)
        self.bn7 = FixedBatchNorm2d(WIDTH)

    def forward(self, images):
        return torch.relu(self.bn7(self.b6(self.b2_1(self.b2(self.conv1a(images))))))


@pytest.fixture
def network(monkeypatch):
    monkeypatch.setitem(model.backbones.BACKBONES, "narrow", NarrowResNet38)

    def build(num_classes=20, design="official", **options):
        torch.manual_seed(1)
        options = {"decoder_channels": 8, **options}
        return AuxSegNet(num_classes, "narrow", design, **options)

    return build


def counters_removed(state):
    return {name: value for name, value in state.items() if "num_batches" not in name}


@pytest.fixture
def published():
    """Backbone weights in PSA's names; old files have no counters of batches."""
    generator = torch.Generator().manual_seed(0)
    state = counters_removed(NarrowResNet38().state_dict())
    return {n: torch.rand(v.shape, generator=generator) + 0.5 for n, v in state.items()}


@pytest.fixture
def save(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


def assert_backbone_is(network, published):
    found = counters_removed(network.backbone.state_dict())
    assert found.keys() == published.keys()
    for name, value in published.items():
        torch.testing.assert_close(found[name], value.to(found[name].dtype))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{name}": v for name, v in state.items()}},
        lambda state: {name: value.double() for name, value in state.items()},
    ],
)
def test_psa_classifier(network, published, save, wrap):
    classifier = torch.rand(20, WIDTH, 1, 1)
    target = network()
    before = {name: value.clone() for name, value in released_names(target.state_dict()).items()}
    report = load_weights(target, save(wrap(published | {"fc8.weight": classifier})))
    assert_backbone_is(target, published)
    torch.testing.assert_close(target.fc8.weight.data, classifier)
    assert set(report.loaded) == {f"backbone.{name}" for name in published} | {"fc8.weight"}
    assert report.unused == ()
    for name in report.missing:
        assert name.startswith(("seg_", "sal_", "cross_att."))
        assert torch.equal(released_names(target.state_dict())[name], before[name])
    assert set(report.loaded) | set(report.missing) == set(counters_removed(before))


def test_legacy_file_format(network, published, tmp_path):
    path = tmp_path / "old.pth"
    torch.save(published, path, _use_new_zipfile_serialization=False)
    target = network()
    load_weights(target, path)
    assert_backbone_is(target, published)


def test_seam_loses_its_background_row(network, published, save):
    classifier = torch.rand(21, WIDTH, 1, 1)
    extra = {f"{name}.weight": torch.rand(2, 2, 1, 1) for name in ("f8_3", "f8_4", "f9")}
    target = network()
    report = load_weights(target, save(published | extra | {"fc8.weight": classifier}))
    torch.testing.assert_close(target.fc8.weight.data, classifier[1:])
    assert report.unused == ("f8_3.weight", "f8_4.weight", "f9.weight")


def test_released_auxsegnet(network, published, save):
    source = network()
    heads = {
        name: torch.rand_like(value)
        for name, value in released_names(source.state_dict()).items()
        if not name.startswith("backbone.")
    }
    unused = {}
    for task in ("seg", "sal"):
        unused[f"{task}_att.g.weight"] = torch.rand(8, 8, 1, 1)
        unused[f"{task}_att.g.bias"] = torch.rand(8)
        unused[f"{task}_att.W_z.0.weight"] = torch.rand(8, 8, 1, 1)
        unused[f"{task}_att.W_z.1.running_var"] = torch.rand(8)
        unused[f"{task}_att.W_z.1.num_batches_tracked"] = torch.tensor(7)
    target = network()
    report = load_weights(target, save(published | heads | unused))
    assert_backbone_is(target, published)
    for name, value in heads.items():
        torch.testing.assert_close(released_names(target.state_dict())[name], value)
    assert report.missing == ()
    assert set(report.unused) == {name for name in unused if "num_batches" not in name}


def test_released_names_are_those_of_the_released_network():
    """Names of the heads in the released network, from its definition (network/AuxSegNet.py)."""
    with torch.device("meta"):
        state = AuxSegNet(20, "resnet38", "official").state_dict()
    ours = released_names(state)
    assert own_names(ours).keys() == state.keys()
    heads = {name: tuple(v.shape) for name, v in ours.items() if not name.startswith("backbone.")}
    expected = {"fc8.weight": (20, 4096, 1, 1)}
    expected |= {"cross_att.0.weight": (2, 2, 3, 3), "cross_att.2.weight": (2, 2, 1, 1)}
    expected |= {"cross_att.2.bias": (2,)}
    for task, outputs in (("seg", 21), ("sal", 1)):
        expected[f"{task}_conv1.weight"] = (128, 4096, 3, 3)
        expected |= {f"{task}_conv{i}.weight": (128, 128, 3, 3) for i in (2, 3)}
        expected |= {f"{task}_conv{i}.bias": (128,) for i in (1, 2, 3)}
        expected[f"{task}_conv4.weight"] = (outputs, 128, 1, 1)
        for layer in ("att.theta", "att.phi", "g", "W"):
            expected[f"{task}_{layer}.weight"] = (128, 128, 1, 1)
            expected[f"{task}_{layer}.bias"] = (128,)
    assert heads == expected


def test_published_file_of_other_classes(network, published, save):
    target = network(num_classes=5)
    before = target.fc8.weight.detach().clone()
    state = published | {
        "fc8.weight": torch.rand(20, WIDTH, 1, 1),
        "seg_conv4.weight": torch.rand(21, 8, 1, 1),
    }
    report = load_weights(target, save(state))
    assert torch.equal(target.fc8.weight, before)
    assert {"fc8.weight", "seg_conv4.weight"} <= set(report.missing)
    assert report.unused == ("fc8.weight", "seg_conv4.weight")
    assert "fc8.weight" in str(report)
    assert_backbone_is(target, published)


def test_own_checkpoint(network, save):
    source, target = network(), network()
    for value in source.parameters():
        value.data.normal_()
    path = save(
        {
            "format": "x",
            "arguments": {"num_classes": 20},
            "model": released_names(source.state_dict()),
        }
    )
    report = load_weights(target, path)
    assert report.unused == report.missing == ()
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_own_checkpoint_of_the_classifier_alone(network, save):
    source = network(branches="cls", affinity="none")
    target = network()
    report = load_weights(target, save({"model": released_names(source.state_dict())}))
    assert "fc8.weight" in report.loaded
    assert "seg_conv1.weight" in report.missing


def test_own_checkpoint_of_other_classes_is_refused(network, save):
    path = save({"model": released_names(network(num_classes=20).state_dict())})
    target = network(num_classes=5)
    message = r"fc8.weight is \(20, 16, 1, 1\) in the file and \(5, 16, 1, 1\) in the network"
    with pytest.raises(ValueError, match=message):
        load_weights(target, path)


def mxnet_names():
    """MXNet's names of the layers of ResNet38, from the table of its blocks."""
    table = [("conv1a", "weight", "conv1a.weight")]
    norms = [("bn7", "bn7")]
    for level, repeats in ((2, 2), (3, 2), (4, 5), (5, 2), (6, 0), (7, 0)):
        for repeat in range(repeats + 1):
            suffix = f"b{repeat}" if repeat else "a"
            block = f"b{level}_{repeat}" if repeat else f"b{level}"
            branches = ["2a", "2b1", "2b2"][: 3 if level >= 6 else 2]
            shortcut = [] if repeat else ["1"]
            for branch in branches + shortcut:
                res = f"res{level}{suffix}_branch{branch}"
                table.append((res, "weight", f"{block}.conv_branch{branch}.weight"))
            norms += [
                (f"bn{level}{suffix}_branch{branch}", f"{block}.bn_branch{branch}")
                for branch in branches
            ]
    names = {f"arg:{layer}_{field}": name for layer, field, name in table}
    for layer, name in norms:
        names |= {f"arg:{layer}_gamma": f"{name}.weight", f"arg:{layer}_beta": f"{name}.bias"}
        names |= {f"aux:{layer}_moving_mean": f"{name}.running_mean"}
        names |= {f"aux:{layer}_moving_var": f"{name}.running_var"}
    return names


def test_mxnet_names_cover_resnet38():
    with torch.device("meta"):
        wanted = set(counters_removed(ResNet38().state_dict()))
    assert {mxnet_name(name) for name in mxnet_names()} == wanted
    assert {name: mxnet_name(name) for name in mxnet_names()} == mxnet_names()


@pytest.mark.parametrize("name", ["arg:linear1000_weight", "arg:res2a_branch2a_gama", "aux:bn7_x"])
def test_mxnet_names_without_a_place(name):
    assert mxnet_name(name) == name


def test_mxnet_file(network, published, tmp_path):
    names = {ours: theirs for theirs, ours in mxnet_names().items()}
    arrays = {names[name]: value.numpy() for name, value in published.items()}
    arrays["arg:linear1000_weight"] = np.ones((3, 2), np.float32)
    target = network()
    report = load_weights(target, write_params(tmp_path / "a.params", arrays))
    assert_backbone_is(target, published)
    assert report.unused == ("arg:linear1000_weight",)
    assert "fc8.weight" in report.missing


@pytest.mark.parametrize("number", [0, 1, 2])
def test_published_efficientnet_lite(number):
    """The ImageNet weights give the features that a plain reading of them gives."""
    path = ROOT / f"weights/efficientnet-lite{number}.pth"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there: run `make setup WEIGHTS={path.name}`")
    target = AuxSegNet(20, f"efficientnet_lite{number}", branches="cls", affinity="none")
    report = load_weights(target, path)
    assert report.unused == ("_fc.bias", "_fc.weight")
    assert report.missing == ("fc8.weight",)
    state = torch.load(path, weights_only=True)
    images = torch.rand(1, 3, 72, 65) * 2 - 1
    with torch.no_grad():
        expected = lite_reference(state, images, output_stride=8, number=number)
        torch.testing.assert_close(target.backbone(images), expected, atol=1e-3, rtol=1e-3)


def refusal(network, path):
    """What loading a file that cannot be loaded says; the network stays as it was."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError) as caught:
        load_weights(network, path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    return str(caught.value)


def is_line(said, path, *messages):
    """Whether it is one line, which names the file and holds the messages."""
    return "\n" not in said and all(part in said for part in (str(path), *messages))


def test_refuses_another_network(network, save):
    path = save({"layer1.weight": torch.ones(2, 2), "layer2.weight": torch.ones(2)})
    assert is_line(refusal(network(), path), path, "nothing fits", "layer1.weight", "conv1a.weight")


def test_refuses_a_missing_backbone_weight(network, published, save):
    del published["b2.conv_branch2a.weight"], published["bn7.running_var"]
    path = save(published)
    assert is_line(
        refusal(network(), path), path, "missing", "b2.conv_branch2a.weight", "bn7.running_var"
    )


def test_refuses_other_shapes(network, published, save):
    published["conv1a.weight"] = torch.ones(5, 3, 3, 3)
    path = save(published)
    assert is_line(refusal(network(), path), path, "conv1a.weight is (5, 3, 3, 3)", "(4, 3, 3, 3)")


def test_refuses_a_classifier_of_another_width(network, published, save):
    path = save(published | {"fc8.weight": torch.ones(20, WIDTH + 1, 1, 1)})
    assert is_line(refusal(network(), path), path, "fc8.weight is (20, 17, 1, 1)")


@pytest.mark.parametrize(
    "value",
    [
        torch.full((4, 3, 3, 3), float("nan")),
        torch.full((4, 3, 3, 3), 1e300, dtype=torch.float64),
        torch.ones(4, 3, 3, 3, dtype=torch.int64),
        torch.ones(4, 3, 3, 3).to_sparse(),
        torch.ones(4, 3, 3, 3, device="meta"),
    ],
)
def test_refuses_values_that_are_no_weights(network, published, save, value):
    published["conv1a.weight"] = value
    path = save(published)
    assert is_line(refusal(network(), path), path, "conv1a.weight", "not finite")


def test_refuses_the_same_weight_twice(network, published, save):
    path = save(published | {"backbone.conv1a.weight": published["conv1a.weight"]})
    assert is_line(refusal(network(), path), path, "twice")
    path = save(published | {"module.conv1a.weight": published["conv1a.weight"]})
    assert is_line(refusal(network(), path), path, "conv1a.weight is there twice")


def test_refuses_a_classifier_of_seam_that_is_none(network, published, save):
    path = save(published | {"f9.weight": torch.ones(2), "fc8.weight": torch.tensor(1.0)})
    assert is_line(refusal(network(), path), path, "fc8.weight is () in the file")


@pytest.mark.parametrize(
    "content", [{}, [1, 2], {"conv1a.weight": 3}, {"model": {"lr": 0.1}}, torch.ones(2)]
)
def test_refuses_what_is_no_state_dict(network, save, content):
    path = save(content)
    assert is_line(refusal(network(), path), path)


class Payload:
    def __reduce__(self):
        return print, ("executed",)


def test_refuses_code(network, save, capsys):
    path = save({"conv1a.weight": Payload()})
    assert is_line(refusal(network(), path), path, "a file of another kind, or with more in it")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"<html>404</html>", b"\x12\x01" + bytes(9)]
)
def test_refuses_broken_files(network, tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert is_line(refusal(network(), path), path)


def test_refuses_a_truncated_file(network, published, save):
    path = save(published)
    path.write_bytes(path.read_bytes()[:-200])
    assert is_line(refusal(network(), path), path)


def test_a_missing_file_is_named(network, tmp_path):
    path = tmp_path / "absent.pth"
    assert is_line(refusal(network(), path), path, "No such file")

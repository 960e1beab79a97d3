"""Fixtures that more than one test module uses."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from workspace import Workspace

from model.backbones import BACKBONES, FixedBatchNorm2d
from wsss.method.inference import Viewer

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def real_data():
    """Folder with real photographs for trying the pipeline; not part of the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real photographs (../shared/data) are not on this machine")
    return REAL_DATA


@pytest.fixture(params=["a file", "below a file", "below /proc"])
def no_folder(request, tmp_path):
    """A path where no folder can be made, not even by root."""
    (tmp_path / "file").touch()
    places = {"a file": tmp_path / "file", "below a file": tmp_path / "file/a/b"}
    return places.get(request.param, Path("/proc/none/of/these"))


class TinyBackbone(nn.Module):
    """Eight channels at stride 8, with dropout and fixed norms as the real ones have."""

    channels, stride = 8, 8
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

    def __init__(self, output_stride=8):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 9, stride=8, padding=4)
        self.bn = FixedBatchNorm2d(8)
        self.dropout = nn.Dropout2d(0.3)
        self.body = nn.Conv2d(8, 8, 1)

    def forward(self, images):
        return torch.relu(self.body(self.dropout(torch.relu(self.bn(self.stem(images))))))


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Registers the backbone `tiny` for one test, and under a name that settings may have."""
    for name in ("tiny", "resnet38"):
        monkeypatch.setitem(BACKBONES, name, TinyBackbone)


def varied(network, image):
    """An untrained network, in evaluation mode, whose predictions vary over an image.

    As it is, it sees one class everywhere, since its affinity is an even average. Here attention
    is made selective, and each class a direction in which the features of the image vary.
    """
    for branch in (network.seg, network.sal):
        branch.attention.query.weight.data *= 8
        branch.attention.key.weight.data *= 8
    layer, network.seg.classifier = network.seg.classifier, nn.Identity()
    view = Viewer(network.eval(), torch.device("cpu"), 96)
    features = view.run(image).segmentation[0].flatten(1).clone()
    network.seg.classifier = layer
    mean = features.mean(dim=1)
    weight = torch.randn(layer.weight.shape[:2])
    weight -= torch.outer(weight @ mean, mean) / (mean @ mean)
    layer.weight.data = (4 * weight / (weight @ features).std())[..., None, None]
    return network


@pytest.fixture(autouse=True)
def forget_log_handlers():
    """A command run in this process logs to the stream of its test, which is closed afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


# As small as it can be: what is learnt from it is worth nothing, what lands where is. Values that
# tests change are set here, whatever the recipe has.
TINY_RUN = {
    "device": "cpu",
    "backbone": {"output_stride": 16},
    "classifier": {
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "crop": 64,
        "resize": {"long_side": [64, 96]},
    },
    "cam": {"scales": [1.0], "flip": False},
    "pseudo_labels": {"cam_threshold": 0.2, "saliency_crf": {"iterations": 1}},
    "stage": {
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 0.01,
        "later_learning_rate": 0.005,
        "crop": 64,
    },
    "prediction": {"scales": [1.0], "flip": False, "crf": {"iterations": 10}},
    "compute": {"workers": 0},
    "resources": {kind: {"threads": 1} for kind in ("train", "infer", "crf", "index")},
}
TINY_DEMO = {"demo": {"train_images": 8, "val_images": 4, "size": [96, 64]}}


@pytest.fixture(scope="session")
def tiny_run():
    """The configuration of a tiny run of the demo, to add to."""
    return TINY_RUN | {"dataset": TINY_DEMO}


@pytest.fixture(scope="session")
def fresh_workspace(tmp_path_factory):
    """The workflow in a folder without any results, for dry runs."""
    return Workspace.create(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished_workspace(tmp_path_factory):
    """The workflow after a real run, two stages of a tiny demo in two shards; to be left as is."""
    folder = tmp_path_factory.mktemp("finished")
    overlay = folder / "tiny.yaml"
    overlay.write_text(json.dumps(TINY_RUN | {"dataset": TINY_DEMO, "stages": 2, "shards": 2}))
    workspace = Workspace.create(folder, [overlay])
    workspace.make()
    return workspace

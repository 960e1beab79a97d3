"""Fixtures that more than one test file uses, and the marker of tests that take their time."""

import json
import logging
from pathlib import Path

import pytest
from repository import ROOT
from tiny_network import TinyBackbone
from tiny_run import TINY_DEMO, TINY_RUN
from workspace import Workspace

from model.backbones import BACKBONES

REAL_DATA = ROOT.parent / "shared" / "data"
WORKFLOW = ROOT / "tests/workflow"
WORKSPACES = {"fresh_workspace", "finished_workspace"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what starts Snakemake; files that train mark themselves."""
    for item in items:
        if WORKFLOW in item.path.parents or WORKSPACES & set(item.fixturenames):
            item.add_marker("run")


@pytest.fixture
def real_data():
    """Folder with real photographs for trying the pipeline; not part of the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real photographs (../shared/data) are not on this machine")
    return REAL_DATA


@pytest.fixture
def coco_tiny(real_data, tmp_path):
    """Section `dataset` of coco2017-tiny, by links: its masks land in a folder of the test."""
    for path in (real_data / "coco2017-tiny").iterdir():
        (tmp_path / path.name).symlink_to(path)
    file = "annotations/instances_train2017.json"
    section = {
        "train_images": "images",
        "val_images": "images",
        "train_annotations": file,
        "val_annotations": file,
        "train_list": "train.txt",
        "val_list": "val.txt",
    }
    return {"name": "tiny", "format": "coco", "root": str(tmp_path), "coco": section}


@pytest.fixture(params=["a file", "below a file", "below /proc"])
def no_folder(request, tmp_path):
    """A path where no folder can be made, not even by root."""
    (tmp_path / "file").touch()
    places = {"a file": tmp_path / "file", "below a file": tmp_path / "file/a/b"}
    return places.get(request.param, Path("/proc/none/of/these"))


@pytest.fixture
def tiny_backbone(monkeypatch):
    """Registers the backbone `tiny` for one test, and under a name that settings may have."""
    for name in ("tiny", "resnet38"):
        monkeypatch.setitem(BACKBONES, name, TinyBackbone)


@pytest.fixture(autouse=True)
def forget_log_handlers():
    """A command run in this process logs to the stream of its test, which is closed afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


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
    workspace.make("all", "tables", "figures")
    return workspace

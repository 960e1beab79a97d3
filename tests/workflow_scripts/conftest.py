"""A fixture of the commands that read artifacts."""

import shutil

import pytest
from commands_on_artifacts import build
from tiny_network import TinyBackbone

from model.backbones import BACKBONES


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A small data set with all artifacts, to be left as it is."""
    base = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "resnet38", TinyBackbone)
        build(base)
    return base


@pytest.fixture
def folder(tmp_path, tiny_backbone, built):
    """A copy of it, for tests that damage some; the photographs are those of the copy."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    root = tmp_path / "tiny/root.txt"
    root.write_text(root.read_text().replace(str(built), str(tmp_path)))
    return tmp_path / "tiny"

"""A fixture of the commands that read artifacts."""

import pytest
from commands_on_artifacts import build


@pytest.fixture
def folder(tmp_path, tiny_backbone):
    """A small data set with all artifacts, for tests that damage some."""
    return build(tmp_path)

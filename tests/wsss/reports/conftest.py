"""The small data set and configuration that the checks before a run are tried on."""

import pytest
from checked_run import small_config, small_index


@pytest.fixture
def index(tmp_path):
    return small_index(tmp_path)


@pytest.fixture
def config(tmp_path):
    return small_config(tmp_path)

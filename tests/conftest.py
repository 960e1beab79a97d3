"""Fixtures that more than one test module uses."""

from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def real_data():
    """Folder with real photographs for trying the pipeline; not part of the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip("the real photographs (../shared/data) are not on this machine")
    return REAL_DATA

"""Where this checkout lies, and what a program that a test starts can import."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program_environment():
    """The environment of a Python that imports this checkout and the modules of this folder."""
    paths = os.pathsep.join([str(ROOT / "tests/support"), str(ROOT)])
    return os.environ | {"PYTHONPATH": paths}

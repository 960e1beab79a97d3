"""Paths of the configuration, and what may stand in them."""

import os
import re
from pathlib import Path

from wsss.errors import InputError

CODE = Path(__file__).resolve().parents[2]
# Files of weights that set-up fetches for those who ask for them.
WEIGHTS_ON_REQUEST = ("u2net.onnx", "efficientnet-lite1.pth", "efficientnet-lite2.pth")


def expanded_path(text: str, key: str) -> Path:
    """A path of the configuration with ~ and $VARIABLES replaced.

    Raises:
        InputError: a variable is not set; `key` is what named the path.
    """
    expanded = os.path.expanduser(os.path.expandvars(text))
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset:
        raise InputError(
            f"{key}: the environment variable {unset[1]} is not set; "
            f"export {unset[1]}=/path/to/folder, or write the path into the configuration"
        )
    return Path(expanded)


def weights_path(text: str, key: str) -> Path:
    """A file of weights of the configuration: in the folder of the run, or else beside the code."""
    path = expanded_path(text, key)
    beside_code = CODE / path
    return beside_code if beside_code.exists() and not path.exists() else path


def fetching(path: str | Path) -> str:
    """What to do where a file of weights is missing: `make setup`, for some by their name."""
    name = Path(path).name
    return f"run `make setup{f' WEIGHTS={name}' if name in WEIGHTS_ON_REQUEST else ''}`"

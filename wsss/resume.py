"""The state of a run on disk: the newest and the one before, and only what is whole counts."""

import logging
import os
import shutil
import zipfile
from pathlib import Path

import torch

from wsss.files import QuietFile, atomic_path

log = logging.getLogger(__name__)

NEWEST, BEFORE = "state.pt", "previous.pt"


class ResumeStates:
    """States of one run, in an undeclared folder beside its output.

    Args:
        output: path of the file that the run is to make.
        key: of the run, from its configuration and inputs: a state with another is not picked up.
    """

    def __init__(self, output, key):
        self.key = key
        self._beside = Path(output).parent
        self.folder = self._beside / f".resume-{key}"

    def save(self, state):
        """Write a state; until it is complete on disk the one before stays the newest."""
        newest = self.folder / NEWEST
        with atomic_path(newest) as temporary:
            with QuietFile(temporary, "w+") as file:
                torch.save({"key": self.key, **state}, file)
                file.raise_error()
            _flush(temporary)
            if newest.exists():
                os.replace(newest, self.folder / BEFORE)
        _flush(self.folder)

    def load(self, check):
        """The newest state that is whole, as a dict; None if there is none.

        A damaged one is named in a line and removed, lest it take the place of a good one.

        Args:
            check: called with the state; raises ValueError where it does not fit the run.
        """
        for name in (NEWEST, BEFORE):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state = _read(path, self.key)
                check(state)
                return state
            except ValueError as error:
                log.warning("%s: %s; it is not used", path, error)
                path.unlink()
        return None

    def remove(self):
        """After success: also what other configurations left behind."""
        for folder in self._beside.glob(".resume-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _read(path, key):
    try:
        # torch itself does not look at the checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ValueError(f"no readable resume state ({reason})") from error
    if damaged:
        raise ValueError(f"damaged resume state (in {damaged[:60]})")
    if not isinstance(state, dict) or state.get("key") != key:
        raise ValueError("resume state of another run")
    return state


def _flush(path):
    """Have it on disk, so that the power may go."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""The state of a run on disk: the newest and the one before, and only what is whole counts."""

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from wsss.errors import InputError, reason_of
from wsss.storage.files import QuietFile, atomic_path, flush
from wsss.storage.seals import check_parts

log = logging.getLogger(__name__)

NEWEST, BEFORE = "state.pt", "previous.pt"


class ResumeStates:
    """States of one run, in an undeclared folder beside its output.

    Args:
        output: path of the file that the run is to make.
        key: of the run, from its configuration and inputs: a state with another is not picked up.
    """

    def __init__(self, output: str | Path, key: str):
        self.key = key
        self._beside = Path(output).parent
        self.folder = self._beside / f".resume-{key}"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; until it is complete on disk the one before stays the newest.

        Raises:
            InputError: the disk is full, or may not be written.
        """
        newest = self.folder / NEWEST
        with atomic_path(newest) as temporary:
            with QuietFile(temporary, "w+") as file:
                torch.save({"key": self.key, **state}, file)
            flush(temporary)
            if newest.exists():
                os.replace(newest, self.folder / BEFORE)
        flush(self.folder)

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, as a dict; None if there is none.

        A damaged one is named in a line and removed, lest it take the place of a good one.

        Raises:
            InputError: one may be whole, but cannot be read now; all are kept.
        """
        for name in (NEWEST, BEFORE):
            path = self.folder / name
            try:
                return _read(path, self.key)
            except FileNotFoundError:
                continue
            except InputError:
                raise
            except ValueError as error:
                log.warning("%s: %s; it is not used", path, error)
                path.unlink()
        return None

    def remove(self) -> None:
        """After success: also what other configurations left behind."""
        for folder in self._beside.glob(".resume-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _read(path: Path, key: str) -> dict[str, Any]:
    """The state in a file.

    Raises:
        FileNotFoundError: there is none.
        InputError: the system fails, which says nothing about the file.
        ValueError: the file is damaged, or of another run.
    """
    try:
        check_parts(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:
        failure = _failure_of_the_system(error)
        if failure is not None:
            raise InputError(
                f"{path}: the resume state cannot be read now ({reason_of(failure)}); it is kept: "
                "look at the disk and the memory and run again, or delete it to begin anew"
            ) from error
        raise ValueError(f"no readable resume state ({reason_of(error)})") from error
    if not isinstance(state, dict) or state.get("key") != key:
        raise ValueError("resume state of another run")
    return state


def _failure_of_the_system(error: BaseException | None) -> BaseException | None:
    """The error of disk or memory behind one of reading; None if it is of what the file holds.

    `zipfile` hides some behind an error of its own; EINVAL is a place before the file's begin.
    """
    while error is not None:
        of_disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        of_memory = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if of_disk or of_memory:
            return error
        error = error.__cause__ or error.__context__
    return None

"""Progress bars that can also be read in a log file."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm


class _Lines:
    """A stream for tqdm that ends its updates with a newline instead of a carriage return."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        text = text.strip("\r\n")
        if text.strip():
            self._stream.write(text + "\n")

    def flush(self) -> None:
        self._stream.flush()


def progress(iterable: Iterable, **bar: Any) -> tqdm:
    """tqdm on a terminal; in a file one plain line at most every 15 seconds."""
    if sys.stderr.isatty():
        return tqdm(iterable, dynamic_ncols=True, **bar)
    plain = {"file": _Lines(sys.stderr), "mininterval": 15, "maxinterval": 60, "ncols": 100}
    return tqdm(iterable, ascii=True, **plain, **bar)


def note(line: str) -> None:
    """A line to the same place as the bars, without breaking one that is being drawn."""
    tqdm.write(line, file=sys.stderr)

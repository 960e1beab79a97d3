"""Progress bars in a log file, and bars beside a caller's loop."""

import io
import sys

import pytest

from wsss.compute.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    def replace(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return replace


def test_a_file_gets_whole_plain_lines(stderr):
    stream = stderr(io.StringIO())
    assert list(progress(range(300), desc="segmenting", unit="image")) == list(range(300))
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    assert text.isascii() and text.endswith("\n")
    lines = text.splitlines()
    assert 1 <= len(lines) <= 3  # and not one for each of 300 images
    assert all(line.startswith("segmenting") for line in lines)
    assert "300/300" in lines[-1] and "image" in lines[-1]


def test_values_shown_beside_the_bar_reach_the_file(stderr):
    stream = stderr(io.StringIO())
    bar = progress(range(4), desc="steps")
    for _ in bar:
        bar.set_postfix(loss="0.125", refresh=False)
    assert "loss=0.125" in stream.getvalue().splitlines()[-1]


def test_a_terminal_gets_a_bar_in_place(stderr):
    stream = stderr(Terminal())
    assert list(progress(range(3), desc="segmenting")) == [0, 1, 2]
    assert "\r" in stream.getvalue()

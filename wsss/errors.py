"""The exceptions that a person is meant to read, and the parts of their lines."""

from typing import Any

from model.listing import listed as listed


class InputError(ValueError):
    """Something from outside is wrong.

    The message is one line: what is wrong, in which file or key, and what to do. Commands print
    it without a stack trace.
    """


class StoppedError(Exception):
    """A signal asked the job to stop, and it did so in order; the message is one line."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 128 + number


def printable(text: Any) -> str:
    """Text from outside as part of a line: a file name may hold line feeds, or steer a terminal."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return "".join(escaped)


def reason_of(error: BaseException) -> str:
    """What an error of a library or of the system says, as part of a line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(said.split())[:120])


def last_line(text: str) -> str:
    """The last line of what a program or a traceback says, which tells what went wrong."""
    return (text.strip().splitlines() or [""])[-1]

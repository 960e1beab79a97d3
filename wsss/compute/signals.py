"""Signals that ask a long job to stop in order."""

import signal
import threading
from types import FrameType
from typing import Any

# A cluster ends a job by SIGTERM, or warns it by SIGUSR1 where it is told to; SIGINT is Ctrl-C.
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """While this context is open, signals that would end the process are only noted.

    `signal` is the first that came, or None. A second Ctrl-C interrupts at once.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)


def ignore_stopping(*_: object) -> None:
    """Leave such signals to the process that started this one."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)

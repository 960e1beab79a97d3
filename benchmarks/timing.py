"""Two ways to the same end, in turns, by the seconds that the processor worked."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Way:
    """What it does, in words; how; and how many items (images, GFLOP) one call makes."""

    says: str
    run: Callable[[], object]
    items: float = 1


@dataclass(frozen=True)
class Row:
    """Both figures are in `unit`; `ratio` is how many times as fast as the plain way ours is."""

    part: str
    plain_way: str
    our_way: str
    unit: str
    plain: float
    ours: float
    ratio: float


def compare(part: str, unit: str, plain: Way, ours: Way, rounds: int) -> Row:
    """Run both ways once to warm up, then `rounds` times in turns.

    Others on the machine slow both ways down for a while, so that the ratio is the median of those
    of neighbouring runs. A unit that ends in /s is a rate; else the time of an item in ms or s.
    """
    plain.run(), ours.run()
    found = [[_seconds(way.run) / way.items for way in (plain, ours)] for _ in range(rounds)]
    medians = [median(column) for column in zip(*found, strict=True)]
    figures = [1 / s if unit.endswith("/s") else s * {"ms": 1000, "s": 1}[unit] for s in medians]
    return Row(part, plain.says, ours.says, unit, *figures, median(a / b for a, b in found))


def _seconds(run: Callable[[], object]) -> float:
    start = _processor_seconds()
    run()
    return _processor_seconds() - start


def _processor_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

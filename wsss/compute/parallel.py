"""One function over many images on several processes."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import cv2

from wsss.compute.progress import progress
from wsss.errors import InputError

AHEAD = 4  # items under way per process

_function = None


def _initialise(function):
    global _function
    _function = function
    cv2.setNumThreads(1)


def _call(item):
    return _function(item)


def map_images(
    function: Callable[[Any], Any], items: Collection, processes: int, desc: str
) -> Iterator[Any]:
    """Yield function(item) in the order of the items, with a progress bar.

    The items have a length and are gone through once, a few ahead of the results: neither these
    nor those pile up where one side is slower, and they may be made as they are asked for.
    The function is sent once to each process; it must be picklable (a module's function, a
    `functools.partial` of one, or an object of a class with `__call__`).

    Raises:
        InputError: a process was killed from outside, most likely for its memory.
    """
    if processes <= 1 or len(items) < 2:
        yield from map(function, progress(items, desc=desc, unit="image"))
        return
    try:
        with ProcessPoolExecutor(
            min(processes, len(items)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_initialise,
            initargs=(function,),
        ) as pool:
            results = _in_order(pool, items, AHEAD * processes)
            yield from progress(results, total=len(items), desc=desc, unit="image")
    except BrokenProcessPool as error:
        raise InputError(
            f"{desc}: a process that shared the work was killed, most likely for want of memory; "
            "raise mem_mb of this job in resources, or give it fewer threads"
        ) from error


def _in_order(pool, items, ahead):
    """Results in the order of the items, at most `ahead` of which are under way."""
    under_way = deque()
    try:
        for item in items:
            under_way.append(pool.submit(_call, item))
            if len(under_way) >= ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()

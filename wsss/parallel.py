"""One function over many images on several processes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import cv2

from wsss.progress import progress

_function = None


def _initialise(function):
    global _function
    _function = function
    cv2.setNumThreads(1)


def _call(item):
    return _function(item)


def map_images(function, items, processes, desc):
    """Yield function(item) in the order of the items, with a progress bar.

    The function is sent once to each process; it must be picklable (a module's function, a
    `functools.partial` of one, or an object of a class with `__call__`).
    """
    if processes <= 1 or len(items) < 2:
        yield from map(function, progress(items, desc=desc, unit="image"))
        return
    with ProcessPoolExecutor(
        min(processes, len(items)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialise,
        initargs=(function,),
    ) as pool:
        yield from progress(pool.map(_call, items), total=len(items), desc=desc, unit="image")

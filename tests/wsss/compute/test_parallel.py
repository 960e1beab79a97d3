"""Many images on several processes: the same results in the same order, the same refusals."""

import os
import signal
import time

import numpy as np
import pytest
from PIL import Image

from wsss.compute.parallel import AHEAD, map_images
from wsss.errors import InputError
from wsss.storage.images import read_image


def read(path):
    """The image, and the process that read it; the first image takes longest."""
    if path.stem == "0":
        time.sleep(0.2)
    return read_image(path), os.getpid()


@pytest.fixture
def paths(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    noise = np.random.default_rng(0).integers(0, 256, (len(paths), 8, 9, 3)).astype(np.uint8)
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def test_two_processes_give_what_one_gives_in_the_same_order(paths):
    one, _ = zip(*map_images(read, paths, 1, "read"), strict=True)
    two, processes = zip(*map_images(read, paths, 2, "read"), strict=True)
    np.testing.assert_array_equal(two, one)
    np.testing.assert_array_equal(one, [read_image(path) for path in paths])
    assert os.getpid() not in processes and len(set(processes)) <= 2


@pytest.mark.parametrize("processes", [1, 2])
def test_an_image_that_is_refused_is_named_after_those_before_it(paths, processes):
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    results = map_images(read, paths, processes, "read")
    assert [next(results)[0].shape for _ in range(3)] == [(8, 9, 3)] * 3
    with pytest.raises(InputError) as error:
        next(results)
    assert str(paths[3]) in str(error.value) and "\n" not in str(error.value)


class Counted:
    """Numbers that are counted as they are asked for."""

    def __init__(self, count):
        self.count, self.asked = count, 0

    def __len__(self):
        return self.count

    def __iter__(self):
        for number in range(self.count):
            self.asked += 1
            yield number


@pytest.mark.parametrize("processes", [1, 2])
def test_items_are_made_as_they_are_needed(processes):
    """So that memory does not grow with their number."""
    items = Counted(60)
    for done, result in enumerate(map_images(abs, items, processes, "count"), 1):
        assert result == done - 1
        assert items.asked <= done + AHEAD * processes
    assert items.asked == 60


def test_whoever_stops_early_does_not_wait_for_the_rest():
    items = Counted(10**6)
    results = map_images(abs, items, 2, "count")
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert items.asked < 50


def die(number):
    """As a process that the system kills for its memory."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_process_is_one_line():
    with pytest.raises(InputError, match=r"pseudo labels: a process.* killed.*mem_mb") as error:
        list(map_images(die, range(40), 2, "pseudo labels"))
    assert "\n" not in str(error.value)

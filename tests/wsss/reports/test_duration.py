"""The estimate of a run's time: what it grows with, and what it does not say."""

from dataclasses import replace

import pytest
from checked_run import changed

from wsss.reports.duration import readable_minutes, run_seconds


@pytest.fixture
def config(config):
    return changed(config, saliency={"source": "u2netp"})


def with_images(index, train, val=0):
    """The index with so many photographs of 500x375."""
    (image, *_), records = index.split("train"), []
    for number, split in enumerate(["train"] * train + ["val"] * val):
        name = f"{split}{number}"
        records.append(replace(image, image_id=name, split=split, width=500, height=375))
    return replace(index, records=tuple(records))


def test_few_photographs_train_as_long_as_the_least_images(config, index):
    kinds = ("training", "classifier")
    few, some, many = (
        [run_seconds(config, with_images(index, images))[kind] for kind in kinds]
        for images in (24, 240, 960)
    )
    assert few[0] == some[0] and many[0] == pytest.approx(some[0] * 1920 / 600)
    assert many[1] == pytest.approx(40 * few[1])


def test_each_stage_and_each_view_takes_its_time(config, index):
    index = with_images(index, 100, 50)
    once = changed(config, stages=1, prediction={"scales": [1.0], "flip": False})
    thrice = changed(once, stages=3, prediction={"scales": [1.0, 1.0], "flip": True})
    one, three = run_seconds(once, index), run_seconds(thrice, index)
    assert {kind: round(three[kind] / one[kind]) for kind in one} == {
        "saliency": 1,
        "classifier": 1,
        "training": 3,
        "maps": 3,
        "predictions": 12,
        "CRF": 3,
    }


def test_nothing_is_said_of_a_network_that_was_not_timed(config, index):
    paper = changed(config, backbone={"name": "resnet38", "output_stride": 8})
    assert run_seconds(paper, index) == {}


def test_minutes_are_rounded_up():
    assert [readable_minutes(s) for s in (1, 60, 61, 7800)] == [
        "1 min",
        "1 min",
        "2 min",
        "2 h 10 min",
    ]

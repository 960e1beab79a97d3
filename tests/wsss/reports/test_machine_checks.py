"""What is found out of the machine before a run."""

import shutil
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from checked_run import changed, problems, truncate
from mxnet_files import write_params

from wsss.reports import machine_checks
from wsss.reports.check import check_run
from wsss.reports.disk import disk_needed, readable_bytes


def test_weights_are_known_by_their_content(config, tmp_path):
    """MXNet's as any other: the paper's file is one."""
    path = write_params(tmp_path / "start.params", {"arg:a_weight": np.ones((4, 4), np.float32)})
    backbone = config.backbone.model_copy(update={"weights": str(path)})
    finding = machine_checks.check_weights(backbone)
    assert finding.level == "ok" and "start.params" in finding.message
    truncate(path)
    message = machine_checks.check_weights(backbone).message
    assert message.startswith(f"backbone.weights: {path}: truncated in array 0")
    path.write_text("<html>404</html>")
    message = machine_checks.check_weights(backbone).message
    assert message.startswith(f"backbone.weights: {path}: not a readable") and "\n" not in message


@pytest.mark.parametrize(
    ("name", "gpu", "level"),
    [
        ("auto", False, "note"),
        ("auto", True, "ok"),
        ("cuda", False, "problem"),
        ("cuda", True, "ok"),
        ("cpu", False, "ok"),
        ("cpu", True, "ok"),
    ],
)
def test_device(monkeypatch, name, gpu, level):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert machine_checks.check_device(name).level == level


def test_the_largest_photograph_is_told_with_time_and_memory(config, index):
    large = [replace(r, width=4000, height=3000) for r in index.records[:1]]
    index = replace(index, records=(*large, *index.records[1:]))
    (finding,) = machine_checks.check_crf(config, index)
    assert finding.level == "ok" and "photograph, a, 4000x3000: 5 s and" in finding.message
    assert "on 1500x1125 of it; up to 13 at once in 16.0 GB (resources.crf)" in finding.message
    whole = changed(config, prediction={"crf": {"long_side": None}})
    (finding,) = machine_checks.check_crf(whole, index)
    assert "4000x3000: 32 s and" in finding.message and " of it" not in finding.message
    (finding,) = machine_checks.check_crf(
        changed(whole, resources={"crf": {"mem_mb": 2000}}), index
    )
    assert finding.level == "note" and "raise resources.crf.mem_mb" in finding.message
    assert not [
        *machine_checks.check_crf(changed(config, prediction={"crf": {"iterations": 0}}), index)
    ]


def test_the_size_of_the_gallery_is_told(config, index):
    finding = machine_checks.check_gallery(changed(config, gallery={"images": 2}), index)
    needed = disk_needed(changed(config, gallery={"images": 2}), index)["gallery"]
    size = readable_bytes(needed)
    assert finding.message == f"about {size} for 3 images of 4; gallery.images: 2 a split"
    assert machine_checks.check_gallery(config, index).message.endswith("for 4 images")


def test_full_disk_is_a_problem(config, index, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    message = problems(check_run(config, index, tmp_path))["disk"]
    assert "1 kB free" in message and "keep: final" in message


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_that_cannot_be_written_is_told(monkeypatch, tmp_path, variable):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, "/proc/none")
    (finding,) = machine_checks.check_cache()
    assert finding.level == "problem" and "export XDG_CACHE_HOME=" in finding.message
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not [*machine_checks.check_cache()]

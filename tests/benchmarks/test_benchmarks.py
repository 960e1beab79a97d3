"""`make bench` in small: its rows come out, and both ways of a row do the same work."""

import csv
from statistics import median

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import timing
from benchmarks.__main__ import BEGIN, END, main
from benchmarks.jobs import dry_run
from benchmarks.labelling import plain_update, update
from benchmarks.loading import MEAN, STD, PlainLoader
from benchmarks.material import TINY, Bench
from benchmarks.network import operations_of
from benchmarks.timing import Way, compare
from wsss.method.inference import Viewer

pytestmark = pytest.mark.run


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"), TINY)


def test_every_row_lands_in_the_page_and_in_the_csv(tmp_path):
    page, table = tmp_path / "page.md", tmp_path / "rows.csv"
    page.write_text(f"before\n{BEGIN}| old |\n{END}after\n")
    parts = ["loading", "labelling", "network"]
    main(["--tiny", "--only", *parts, "--page", str(page), "--csv", str(table)])
    rows = list(csv.DictReader(table.open(newline="")))
    assert len(rows) == 11
    assert all(float(row[name]) > 0 for row in rows for name in ("plain", "ours", "ratio"))
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}") and text.endswith(f"{END}after\n")
    assert "old" not in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0][2:] for line in lines[1:]] == [row["part"] for row in rows]


def test_more_shards_are_more_jobs(bench):
    assert 20 < dry_run(bench.folder, 1) < dry_run(bench.folder, 2)


def test_a_ratio_is_the_median_of_neighbouring_runs(monkeypatch):
    """Of a machine that is slower from run to run, on a clock that is set by hand."""
    clock, plain, ours = [0.0], [9, 2, 8, 60], [9, 1, 2, 10]

    def run(left):
        clock[0] += left.pop(0)

    monkeypatch.setattr(timing, "_processor_seconds", lambda: clock[0])
    ways = (Way("", lambda: run(plain), items=2), Way("", lambda: run(ours), items=4))
    row = compare("", "ms", *ways, rounds=3)
    assert row.ratio == median([2, 4, 6]) * 2
    assert (row.plain, row.ours) == (1000 * 8 / 2, 1000 * 2 / 4)
    plain, ours = [1, 1], [1, 1]
    assert compare("", "img/s", *ways, rounds=1).ours == 4


def test_the_plain_loader_reads_the_same_images_and_labels(bench):
    class Middle:
        """Draws a scale of 1, no mirroring and the upper left corner."""

        def uniform(self, *limits):
            return sum(limits) / 2

    ids = [record.image_id for record in bench.records[:2]]
    images, saliency, segmentation, labels = PlainLoader(bench).batch(ids, Middle())
    assert labels.shape == (2, 20)
    for number, record in enumerate(bench.records[:2]):
        pixels = bench.index.read_image(record)
        height, width = (min(side, TINY.loader_crop) for side in pixels.shape[:2])
        pixels = (pixels[:height, :width] / 255 - MEAN) / STD
        found = images[number, :, :height, :width].permute(1, 2, 0)
        np.testing.assert_allclose(found, pixels, atol=1e-5)
        maps = bench.labels.read(record.image_id).array
        maps["saliency"] = maps["saliency"] >= 128
        for name, values in (("saliency", saliency), ("segmentation", segmentation)):
            expected = maps[name][:height, :width]
            np.testing.assert_array_equal(values[number, :height, :width], expected)


def test_the_plain_network_is_the_same(bench):
    images = torch.randn(1, 3, 72, 64)
    with torch.inference_mode():
        plain, ours = (bench.network(plain).eval()(images) for plain in (True, False))
    for name in ("cams", "refined_saliency", "refined_segmentation", "affinity"):
        expected = getattr(plain, name)
        torch.testing.assert_close(getattr(ours, name), expected, atol=1e-4, rtol=1e-3)


def test_both_label_updates_come_to_the_same_labels(bench):
    viewers = [Viewer(bench.network(p).eval(), torch.device("cpu"), 320) for p in (True, False)]
    pairs = zip(plain_update(bench, viewers[0]), update(bench, viewers[1]), strict=True)
    for (saliency, segmentation), (our_saliency, our_segmentation) in pairs:
        assert np.abs(saliency.astype(int) - our_saliency).mean() < 2
        assert (segmentation == our_segmentation).mean() > 0.97


@pytest.mark.parametrize("groups", [1, 8])
def test_operations_are_those_of_the_layer_and_of_its_two_gradients(groups):
    layer = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
    images = torch.randn(2, 8, 10, 12, requires_grad=True)
    multiplied = 2 * 16 * 10 * 12 * 9 * 8 // groups
    assert operations_of(lambda: layer(images)) == 2 * multiplied
    assert operations_of(lambda: layer(images).sum().backward()) == 3 * 2 * multiplied

"""A small data set and configuration for the checks before a run, and what is asked of findings."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsss.configuration.resolve import merge, plain, resolve
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.storage.palette import write_palette_png

CAT = np.zeros((24, 40), np.uint8)  # a mask
CAT[8:16, 10:30] = 1


@pytest.fixture(name="index")
def small_index(tmp_path):
    """An index: four noisy photographs of 40x24 with masks: three train, one val."""
    records = []
    random = np.random.default_rng(0)
    for image_id, split in zip("abcd", ["train"] * 3 + ["val"], strict=True):
        noise = random.integers(0, 256, (24, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{image_id}.jpg")
        write_palette_png(tmp_path / f"{image_id}.png", CAT)
        files = (f"{image_id}.jpg", f"{image_id}.png")
        records.append(ImageRecord(image_id, split, True, *files, 40, 24, ("cat",)))
    return DatasetIndex(tmp_path, ("cat",), (1,), tuple(records))


@pytest.fixture(name="config")
def small_config(tmp_path):
    """A configuration whose saliency maps and weights are there, in the same folder."""
    maps = tmp_path / "maps"
    maps.mkdir()
    for image_id in "abc":
        Image.fromarray(200 * CAT).save(maps / f"{image_id}.png")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "start.pth")
    return resolve(
        {
            "dataset": {"name": "small", "format": "folder", "root": str(tmp_path)},
            "recipe": "compact",
            "stages": 2,
            "saliency": {"source": "maps", "maps": {"folder": str(maps)}},
            "backbone": {"output_stride": 8, "weights": str(tmp_path / "start.pth")},
            "images": {"long_side": None},
            "device": "cpu",
        }
    )


def changed(config, **sections):
    """The configuration with other values, as an overlay would have them."""
    base = plain(config)
    if "variants" in sections:
        del base["variants"]
    return resolve(merge(base, sections))


def problems(findings):
    return {f.subject: f.message for f in findings if f.level == "problem"}


def notes(findings):
    return [f"{f.subject}: {f.message}" for f in findings if f.level == "note"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

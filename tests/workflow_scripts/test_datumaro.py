"""Exported masks as CVAT's own library reads them, and what it writes of them read back here.

`make test-datumaro` makes the environment that it needs.
"""

import subprocess
import zipfile

import numpy as np
import pytest
from drawn_masks import CLASSES, LABELS, index_of, write_results
from PIL import Image
from repository import ROOT

from workflow_scripts import export_annotations
from wsss.datasets.corrected_masks import corrected_masks
from wsss.reports.annotation_files import objects_of

pytestmark = pytest.mark.slow

PYTHON = ROOT / ".venv-datumaro/bin/python"
NAMES = ("cat", "guinea pig", "sheep")  # the library takes a colon for the end of a label


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The files of both formats, where the library looks for them, and the photographs."""
    if not PYTHON.is_file():
        pytest.skip("make test-datumaro makes the environment of this test")
    monkeypatch.setattr("drawn_masks.CLASSES", NAMES)
    results = write_results(tmp_path / "results")
    for form in ("coco", "cvat"):
        export_annotations.main([str(results), "--format", form, "--out", str(tmp_path)])
    with zipfile.ZipFile(tmp_path / "segmentation_mask.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    for folder in ("coco/images", "coco/annotations", "cvat/JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "instances_default.json").rename(
        tmp_path / "coco/annotations/instances_default.json"
    )
    for image_id, label in LABELS.items():
        for folder in ("coco/images", "cvat/JPEGImages"):
            Image.new("RGB", label.shape[::-1]).save(tmp_path / folder / f"{image_id}.jpg")
    return tmp_path


def datumaro(folder, form, *exports):
    """Image id -> class id and pixels of each object that the library finds."""
    name = {"coco": "coco_instances", "cvat": "voc_segmentation"}[form]
    words = [PYTHON, ROOT / "tests/support/datumaro_reader.py", name, folder / form]
    words += [folder / "found.npz", *exports]
    subprocess.run([str(word) for word in words], check=True)
    with np.load(folder / "found.npz") as found:
        return {
            image_id: [
                (NAMES.index(label) + 1, mask)
                for label, mask in zip(found[f"{image_id}_labels"], found[image_id], strict=True)
            ]
            for image_id in LABELS
        }


@pytest.mark.parametrize("form", ["coco", "cvat"])
def test_datumaro_reads_what_is_exported_pixel_by_pixel(exported, form):
    found = datumaro(exported, form)
    for image_id, label in LABELS.items():
        numbers, class_ids = objects_of(label, 0.0005)
        expected = {(c, (numbers == n).tobytes()) for n, c in enumerate(class_ids, 1)}
        assert {(c, mask.tobytes()) for c, mask in found[image_id]} == expected
        assert len(found[image_id]) == len(expected)


def test_what_datumaro_writes_comes_back_pixel_by_pixel(exported):
    coco, voc = exported / "again_coco", exported / "again_voc"
    datumaro(exported, "cvat", "coco_instances", coco, "voc_segmentation", voc)
    index = index_of(exported, LABELS)
    assert index.classes == NAMES != CLASSES
    for path in (coco / "annotations/instances_default.json", voc):
        masks = corrected_masks(str(path), index)
        assert set(masks.names) == {"a", "b"} and not masks.strangers
        for image_id in masks.names:
            found = masks.read(index.record(image_id))
            np.testing.assert_array_equal(found, LABELS[image_id])

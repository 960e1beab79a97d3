"""Masks for annotation tools, as pycocotools and a reading by hand of CVAT's zip find them."""

import io
import json
import zipfile

import numpy as np
import pytest
from drawn_masks import CLASSES, LABELS, write_results
from PIL import Image
from pycocotools.coco import COCO
from skimage import measure

from workflow_scripts import export_annotations
from wsss.errors import InputError

SMALLEST = 0.01
BLACK = (0, 0, 0)


def export(folder, form, *more):
    words = [folder, "--format", form, "--out", folder / "out", "--smallest", SMALLEST, *more]
    export_annotations.main([str(word) for word in words])
    (path,) = (folder / "out").iterdir()
    return path


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path)


def components(label, smallest=SMALLEST):
    """Class id and pixels of each component that is large enough, by scikit-image."""
    for class_id in sorted({*np.unique(label)} - {0}):
        parts = measure.label(label == class_id, connectivity=2)
        for region in measure.regionprops(parts):
            if region.area >= smallest * label.size:
                yield class_id, parts == region.label


def as_sets(objects):
    return {(int(class_id), covered.tobytes()) for class_id, covered in objects}


def read_coco(path):
    """Image id -> list of class id and pixels, as pycocotools finds them."""
    coco = COCO(str(path))
    names = {number: image["file_name"] for number, image in coco.imgs.items()}
    found = {name.removesuffix(".jpg"): [] for name in names.values()}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        covered = coco.annToMask(annotation).astype(bool)
        assert annotation["area"] == covered.sum() and annotation["iscrowd"] == 0
        left, top, width, height = annotation["bbox"]
        assert (
            covered[int(top) : int(top + height), int(left) : int(left + width)].sum()
            == (annotation["area"])
        )
        class_id = CLASSES.index(coco.cats[annotation["category_id"]]["name"]) + 1
        found[names[annotation["image_id"]].removesuffix(".jpg")].append((class_id, covered))
    return found


def read_zip(path):
    """The same of CVAT's zip, by its colours alone."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        lines = archive.read("labelmap.txt").decode().splitlines()[1:]
        labels = {tuple(map(int, line.split(":")[-3].split(","))): line for line in lines}
        labels = {colour: line.rsplit(":", 3)[0] for colour, line in labels.items()}
        for name in archive.read("ImageSets/Segmentation/default.txt").decode().split("\n")[:-1]:
            label, numbers = (
                np.array(Image.open(io.BytesIO(archive.read(f"{folder}/{name}.png"))))
                for folder in ("SegmentationClass", "SegmentationObject")
            )
            found[name] = []
            for colour in {tuple(colour) for row in numbers.tolist() for colour in row} - {BLACK}:
                covered = (numbers == colour).all(axis=-1)
                (own,) = np.unique(label[covered], axis=0)
                class_id = CLASSES.index(labels[tuple(own.tolist())]) + 1
                found[name].append((class_id, covered))
            assert ((label == 0).all(-1) == (numbers == 0).all(-1)).all()
    return found


@pytest.mark.parametrize(("form", "read"), [("coco", read_coco), ("cvat", read_zip)])
def test_every_component_is_an_object_pixel_by_pixel(results, form, read):
    found = read(export(results, form))
    assert list(found) == list(LABELS)
    for image_id, label in LABELS.items():
        assert as_sets(found[image_id]) == as_sets(components(label))
    assert len(found["a"]) == 3 and found["empty"] == []


def test_a_component_of_just_the_smallest_share_stays(results):
    area = sum(covered.sum() for class_id, covered in components(LABELS["a"]) if class_id == 2)
    share = area / LABELS["a"].size
    for smallest, there in ((share, True), (share * 1.001, False)):
        found = read_coco(export(results, "coco", "--smallest", smallest))
        assert (2 in [class_id for class_id, _ in found["a"]]) == there


def test_the_same_masks_make_the_same_files(results):
    for form in ("coco", "cvat"):
        before = export(results, form)
        content = before.read_bytes()
        before.unlink()
        assert export(results, form).read_bytes() == content
        (results / "out" / before.name).unlink()


def test_only_some_by_id_or_file_name(results):
    chosen = results / "ids.txt"
    chosen.write_text("empty\n\nb.jpg\nb\n")
    assert list(read_coco(export(results, "coco", "--only", chosen))) == ["empty", "b"]
    chosen.write_text("b\nc\n")
    with pytest.raises(InputError, match=r"ids\.txt: no mask of c: give ids of masks\.csv"):
        export(results, "coco", "--only", chosen)
    chosen.write_text("\n")
    with pytest.raises(InputError, match="names no image"):
        export(results, "coco", "--only", chosen)


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(results, capsys):
    mask = results / "masks/b.png"
    for image in (Image.new("L", (40, 30), 9), Image.new("L", (30, 40))):
        image.save(mask)
        with pytest.raises(InputError, match=r"b\.png is of another image or run"):
            export(results, "cvat")
    mask.unlink()
    with pytest.raises(InputError, match=r"mask .*b\.png does not exist"):
        export(results, "cvat")
    assert not list((results / "out").iterdir())
    (results / "masks/masks.csv").unlink()
    with pytest.raises(InputError, match=r"make it with snakemake .*masks/masks\.csv"):
        export(results, "coco")
    with pytest.raises(SystemExit):
        export(results, "coco", "--smallest", "2")
    assert "2.0 is no share" in capsys.readouterr().err


def test_more_objects_than_cvat_has_colours_for_are_refused(tmp_path):
    dots = np.zeros((40, 60), np.uint8)
    dots[::2, ::2] = 1  # 600 of them, as the grid keeps their corners apart
    results = write_results(tmp_path, {"dots": dots})
    with pytest.raises(InputError, match=r"image dots: 600 objects, .* raise --smallest"):
        export(results, "cvat", "--smallest", 0)
    content = json.loads(export(results, "coco", "--smallest", 0).read_text())
    assert len(content["annotations"]) == 600

"""What lies in the folder of the gallery: scores, maps and pictures. Browsers open it elsewhere."""

import base64
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score
from small_gallery import (
    CLASSES,
    GRID,
    HEIGHT,
    STRANGE,
    WIDTH,
    class_of,
    gallery_of,
    iou_of,
    shift_of,
    small_run,
    square,
)

from workflow_scripts import evaluate_segmentation
from wsss.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("gallery"))


@pytest.fixture(scope="module")
def page(folder):
    return gallery_of(folder)


def data_of(page):
    text = (page.parent / "data.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("const data = ").removesuffix(";\n"))


def image_of(data, image_id):
    return next(image for image in data["images"] if image["id"] == image_id)


def run_of(data, variant, stage):
    return next(r for r in data["runs"] if (r["variant"], r["stage"]) == (variant, stage))


def maps_of(page, image_id):
    """Layer -> array, as another reader of base64 and zlib unpacks the script of an image."""
    text = (page.parent / "images" / f"{image_id}.js").read_text(encoding="utf-8")
    arguments = text.removeprefix("receive(").removesuffix(");\n")
    name, parts, packed = json.loads(f"[{arguments}]")
    assert name == image_id
    values, maps = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8), {}
    for part in parts:
        size = np.prod(part["shape"])
        maps[part["key"]] = values[:size].reshape(part["shape"])
        values = values[size:]
    assert values.size == 0
    return maps


def test_scores_are_those_of_the_squares(page):
    data = data_of(page)
    for variant, stage in [("auxsegnet", 0), ("auxsegnet", 1), ("baseline", 0)]:
        layers = run_of(data, variant, stage)["layers"]
        for number in range(4):
            shift = shift_of(variant, stage, number)
            scores = image_of(data, f"val_{number}")["scores"]
            mean, by_class = scores[str(layers["crf"])]
            assert by_class[str(class_of(number))] == pytest.approx(iou_of(shift), abs=0.006)
            truth, labels = square(class_of(number)), square(class_of(number), shift)
            macro = 100 * jaccard_score(truth.ravel(), labels.ravel(), average="macro")
            assert mean == pytest.approx(macro, abs=0.006)
            worse = scores[str(layers["unrefined"])][1][str(class_of(number))]
            assert worse == pytest.approx(iou_of(shift + 4), abs=0.006)


def test_pseudo_labels_are_scored_as_the_variant_says(folder):
    """Ground truth is background where they are left open."""
    means = {}
    for how in ("miss", "drop"):
        variant = {"stages": 1, "source": "ready", "classifier": None, "ignore_prediction": how}
        data = data_of(gallery_of(folder, variants={"baseline": variant}))
        number = run_of(data, "baseline", 0)["layers"]["pseudo_label"]
        means[how] = image_of(data, "train_0")["scores"][str(number)][1]["0"]
    assert means["miss"] < means["drop"]
    gallery_of(folder)


def test_maps_are_those_of_the_artifacts(page):
    data = data_of(page)
    layers = run_of(data, "auxsegnet", 1)["layers"]
    maps = maps_of(page, "val_2")
    assert np.array_equal(maps["truth"], square(class_of(2)))
    assert np.array_equal(maps[layers["crf"]], square(class_of(2), shift_of("auxsegnet", 1, 2)))
    maps = maps_of(page, "train_1")
    assert (maps[layers["pseudo_label"]][:4] == 255).all()
    cams = maps[layers["cam"]]
    assert cams.shape == (2, HEIGHT // GRID, WIDTH // GRID) and cams.max() == 191  # 0.75 * 255
    assert np.array_equal(maps[layers["saliency"]] == 255, square(1) == 1)
    assert layers["cam"] != run_of(data, "auxsegnet", 0)["layers"]["cam"]
    shared = [run_of(data, name, 0)["layers"]["cam"] for name in ("auxsegnet", "baseline")]
    assert shared[0] == shared[1]


def test_large_photographs_and_maps_are_shrunk(folder):
    page = gallery_of(folder, long_side=64)
    layers = run_of(data_of(page), "auxsegnet", 1)["layers"]
    with Image.open(page.parent / "images/val_0.jpg") as image:
        assert image.size == (64, 48)
    maps = maps_of(page, "val_0")
    assert maps["truth"].shape == maps[layers["crf"]].shape == (48, 64)
    assert set(np.unique(maps[layers["crf"]])) == {0, class_of(0)}
    gallery_of(folder)


def test_the_label_map_of_all_views_is_that_of_the_evaluation(folder, page, tmp_path):
    """The IoU of each image, of all kinds, is the one that the table of images has."""
    data = data_of(page)
    place = folder / "auxsegnet/seed0/stage1"
    words = ["--data", folder, "--variant", "auxsegnet", "--seed", 0, "--stage", 1]
    words += ["--predictions", place / "predictions/val/shard0.h5"]
    words += ["--predictions-crf", place / "predictions_crf/val/shard0.h5"]
    words += ["--output", tmp_path / "a.csv", "--settings", '{"ignore_prediction": "miss"}']
    for name in ("images", "sizes", "overlaps", "confusion", "uncertainty"):
        words += [f"--{name}", tmp_path / f"{name}.csv"]
    evaluate_segmentation.main([str(word) for word in words])
    layers = run_of(data, "auxsegnet", 1)["layers"]
    lines = (tmp_path / "images.csv").read_text().splitlines()[1:]
    assert len(lines) == 4 * 4
    for kind, image_id, iou in (line.split(",") for line in lines):
        shown = image_of(data, image_id)["scores"][str(layers[kind])][0]
        assert shown == pytest.approx(float(iou), abs=0.006), (kind, image_id)


def test_more_images_than_wanted_are_shown_evenly(folder):
    page = gallery_of(folder, images=2)
    data = data_of(page)
    shown = [image["id"] for image in data["images"]]
    assert shown == ["train_0", "train_2", "val_0", "val_2", "test_0", STRANGE]
    assert data["of"] == {"train": 5, "val": 4, "test": 2}
    pictures = {path.stem for path in (page.parent / "images").iterdir()}
    assert pictures == set(shown)  # and none of the larger gallery before
    gallery_of(folder)


def test_the_certainty_is_that_of_the_artifacts(page):
    data = data_of(page)
    crf = str(run_of(data, "baseline", 0)["layers"]["crf"])
    assert [image_of(data, f"val_{n}")["confidence"][crf] for n in range(3)] == [0.9, 0.8, 0.7]
    assert image_of(data, "val_2")["uncertain"][crf] == 0.1
    assert image_of(data, "train_0")["confidence"] == {}


def test_classes_of_an_image_are_its_labels_and_what_is_found(page):
    data = data_of(page)
    assert image_of(data, "train_1")["classes"] == [2, 3]
    assert image_of(data, STRANGE)["labels"] == []
    assert image_of(data, STRANGE)["classes"] == [class_of(1)]
    assert data["classes"] == ["background", *CLASSES]


def test_without_ground_truth_and_with_kept_maps_alone(tmp_path):
    folder = small_run(tmp_path, masks=False, intermediate=False, certain=False)
    data = data_of(gallery_of(folder, intermediate=False))
    assert not any(i["truth"] or i["scores"] or i["confidence"] for i in data["images"])
    layers = run_of(data, "auxsegnet", 1)["layers"]
    assert list(layers) == ["saliency", "saliency_target", "pseudo_label", "crf"]


def test_a_map_that_is_missing_leaves_no_page(tmp_path):
    folder = small_run(tmp_path)
    (folder / "baseline/seed0/stage0/predictions_crf/val/shard0.h5").unlink()
    with pytest.raises(InputError, match=r"baseline/seed0/stage0/predictions_crf.*no such file"):
        gallery_of(folder)
    assert not (folder / "gallery").exists()


def test_the_page_asks_for_nothing_from_elsewhere(page):
    sources = [page, *page.parent.glob("*.js"), *page.parent.glob("*.css")]
    assert len(sources) == 1 + 5 + 1
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "http:" not in text and "https:" not in text, path


def test_names_of_classes_and_data_sets_are_no_markup(tmp_path):
    from wsss.reports.gallery.page import write_page

    write_page(tmp_path / "index.html", "<b>x</b>", ["</script><i>"], [], [], {})
    assert "<b>" not in (tmp_path / "index.html").read_text()

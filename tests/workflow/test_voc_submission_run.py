"""The target `voc_submission`: what it plans, when it is refused, and a real run."""

import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw
from repository import ROOT
from tiny_run import TINY_RUN
from workspace import Workspace

from workflow_scripts import check_voc_submission
from wsss.datasets.voc import CLASSES
from wsss.storage.palette import write_palette_png

# --- the target


SUBMISSION = "results/voc2012/submission/auxsegnet_seed0_stage4.tar.gz"
WEIGHTS = {"backbone": {"weights": "weights/efficientnet-lite0.pth"}}
TEST_LIST = {"dataset": {"voc": {"test_list": "ImageSets/Segmentation/test.txt"}}}


@pytest.fixture
def voc(fresh_workspace, tmp_path):
    """A function that plans the target on VOC with an overlay: exit status, what is said."""

    def ask(overlay, target="voc_submission", command="snakemake"):
        overlays = [ROOT / "config/voc2012.yaml", WEIGHTS, overlay]
        folders = {"VOC_ROOT": str(tmp_path), "VOC_SALIENCY": str(tmp_path)}
        words = ("-n", "--", target) if command == "snakemake" else ("--", target)
        return getattr(fresh_workspace, command)(*words, overlays=overlays, **folders)

    return ask


def test_the_target_predicts_the_test_images_of_the_last_stage(voc):
    """prediction.splits is [val], and val is neither predicted nor scored for it."""
    jobs = voc(TEST_LIST, command="plan")
    counts = {rule: sum(job.rule == rule for job in jobs) for rule in {job.rule for job in jobs}}
    assert counts == {
        "index_dataset": 1,
        "index_test_images": 1,
        "predict_saliency": 8,
        "train_classifier": 1,
        "extract_cams": 8,
        "make_pseudo_labels": 5 * 8,
        "train_stage": 5,
        "refine_cams": 4 * 8,
        "segment": 8,
        "segment_crf": 8,
        "make_voc_submission": 1,
        "voc_submission": 1,
    }
    (job,) = [job for job in jobs if job.rule == "make_voc_submission"]
    assert job.outputs == (SUBMISSION,)
    labels = "results/voc2012/auxsegnet/seed0/stage4/predictions_crf/test/shard{}.h5"
    assert {path for path in job.inputs if path.endswith(".h5")} == set(
        map(labels.format, range(8))
    )


def test_every_variant_and_seed_has_its_archive(voc):
    short = {"stages": 1, "network": {"affinity": "none"}}
    overlay = TEST_LIST | {"seeds": [0, 7], "variants": {"full": {}, "short": short}}
    jobs = voc(overlay, command="plan")
    made = {job.outputs[0] for job in jobs if job.rule == "make_voc_submission"}
    name = "results/voc2012/submission/{}.tar.gz"
    runs = ["full_seed0_stage4", "full_seed7_stage4", "short_seed0_stage0", "short_seed7_stage0"]
    assert made == set(map(name.format, runs))


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({}, "dataset.voc.test_list is null; name the list"),
        ({"dataset": {"classes": ["cat", "dog"]}}, "dataset.classes must be VOC's 20"),
        ({"dataset": {"classes": [*CLASSES[::-1]]}}, "dataset.classes must be VOC's 20"),
        ({"dataset": {"format": "demo"}}, "dataset.format is demo"),
    ],
)
def test_the_target_is_refused_in_one_line(voc, overlay, message):
    listed = TEST_LIST["dataset"] if overlay else {}
    assert_refused(voc({"dataset": overlay.get("dataset", {}) | listed}), message)


def test_an_archive_by_name_is_refused_likewise(voc):
    assert_refused(voc({}, SUBMISSION), "dataset.voc.test_list is null")


def assert_refused(answer, message):
    status, said = answer
    assert status != 0 and "Traceback" not in said
    (line,) = [line for line in said.splitlines() if "rror" in line]
    assert line.startswith(f"error: voc_submission: {message}")


# --- a real run


IMAGES = {"train": range(8), "val": range(8, 10), "test": range(10, 13)}


@pytest.fixture(scope="module")
def mini_voc(tmp_path_factory):
    """A tiny VOC of red discs (cats) and blue boxes (dogs), with lists and saliency of others."""
    root = tmp_path_factory.mktemp("voc")
    devkit = root / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass"):
        (devkit / folder).mkdir(parents=True)
    (root / "saliency/DSS").mkdir(parents=True)
    (root / "lists").mkdir()
    random = np.random.default_rng(0)
    rows = ["image_id,labels"]
    for split, numbers in IMAGES.items():
        ids = [f"2008_{number:06}" for number in numbers]
        (root / f"lists/{split}.txt").write_text("".join(f"/JPEGImages/{i}.jpg\n" for i in ids))
        for number, image_id in zip(numbers, ids, strict=True):
            is_cat, size = number % 2, (96, 64) if number % 3 else (64, 80)
            image = Image.fromarray(random.integers(90, 130, (*size[::-1], 3), np.uint8))
            mask = Image.new("L", size)
            box, colour = (15, 12, 50, 50), (220, 40, 40) if is_cat else (30, 60, 220)
            for picture, fill in ((image, colour), (mask, 8 if is_cat else 12)):
                draw = ImageDraw.Draw(picture)
                (draw.ellipse if is_cat else draw.rectangle)(box, fill)
            image.save(devkit / f"JPEGImages/{image_id}.jpg")
            if split != "test":
                write_palette_png(devkit / f"SegmentationClass/{image_id}.png", np.array(mask))
                rows.append(f"{image_id},{'cat' if is_cat else 'dog'}")
            if split == "train":
                saliency = Image.fromarray(np.where(np.array(mask), 200, 10).astype(np.uint8))
                saliency.save(root / f"saliency/DSS/{image_id}_sal.png")
    (root / "lists/labels.csv").write_text("\n".join(rows))
    return root


def test_a_real_run_ends_in_an_archive_that_passes(mini_voc, tmp_path, capsys):
    """Lists of others at a place of their own, saliency with names of its own, one stage.

    The test images come after all has been trained, and nothing is trained again.
    """
    lists = {f"{split}_list": f"$LISTS/{split}.txt" for split in ("train", "val")}
    voc = lists | {"labels": "$LISTS/labels.csv", "scored_list": "$LISTS/train.txt"}
    voc |= {"counts": {"train": 8, "val": 2, "test": 3}}
    maps = {"folder": "$MAPS", "pattern": "DSS/{image_id}_sal.png"}
    overlay = tmp_path / "mini.yaml"
    overlay.write_text(
        json.dumps(
            TINY_RUN
            | {
                "dataset": {"name": "mini", "format": "voc", "root": "$VOC_ROOT", "voc": voc},
                "saliency": {"source": "maps", "maps": maps},
                "stages": 1,
                "shards": 2,
            }
        )
    )
    folders = {"VOC_ROOT": str(mini_voc), "LISTS": str(mini_voc / "lists")}
    folders |= {"MAPS": str(mini_voc / "saliency")}
    (tmp_path / "run").mkdir()
    workspace = Workspace.create(tmp_path / "run", [overlay], **folders)
    pseudo = "results/mini/auxsegnet/seed0/stage0/evaluation/pseudo_labels.csv"
    workspace.make(pseudo, "results/mini/auxsegnet/seed0/stage0/train/model.pt")
    later = {"dataset": {"voc": {"test_list": "$LISTS/test.txt"}}}
    jobs = workspace.counts("--", "voc_submission", pseudo, overlays=[later])
    made_once = {"index_test_images": 1, "make_voc_submission": 1, "voc_submission": 1}
    assert jobs == {"segment": 2, "segment_crf": 2} | made_once
    workspace.make("voc_submission", pseudo, overlays=[later])
    archive = workspace.folder / "results/mini/submission/auxsegnet_seed0_stage0.tar.gz"
    photographs = mini_voc / "VOCdevkit/VOC2012/JPEGImages"
    words = [archive, "--list", mini_voc / "lists/test.txt", "--images", photographs]
    words.append("--any-count")
    assert check_voc_submission.main(list(map(str, words))) == 0
    assert capsys.readouterr().out.startswith("ok: 3 masks")
    table = (workspace.folder / pseudo).read_text()
    assert re.search(r",8,8,VOCdevkit/VOC2012/SegmentationClass,miss$", table, re.M)
    # A data set that has moved is the same setting, and so is a list.
    moved = mini_voc.rename(mini_voc.with_name("moved"))
    try:
        folders = {"VOC_ROOT": moved, "LISTS": moved / "lists", "MAPS": mini_voc / "saliency"}
        folders = {name: str(folder) for name, folder in folders.items()}
        assert workspace.counts("--", "voc_submission", overlays=[later], **folders) == {}
    finally:
        moved.rename(mini_voc)

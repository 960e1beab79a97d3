"""What is found out before a run, and how commands end."""

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from called_here import called
from mxnet_files import write_params
from PIL import Image

from model.backbones import create_backbone
from workflow_scripts import check_run as command
from workflow_scripts.jobs.command import run
from wsss.configuration.resolve import merge, plain, resolve
from wsss.configuration.sections import Dataset, Source
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.reports import check, disk
from wsss.storage.palette import write_palette_png

CAT = np.zeros((24, 40), np.uint8)  # a mask
CAT[8:16, 10:30] = 1


@pytest.fixture
def index(tmp_path):
    """Four noisy photographs of 40x24 with masks: three train, one val."""
    records = []
    random = np.random.default_rng(0)
    for image_id, split in zip("abcd", ["train"] * 3 + ["val"], strict=True):
        noise = random.integers(0, 256, (24, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{image_id}.jpg")
        write_palette_png(tmp_path / f"{image_id}.png", CAT)
        files = (f"{image_id}.jpg", f"{image_id}.png")
        records.append(ImageRecord(image_id, split, True, *files, 40, 24, ("cat",)))
    return DatasetIndex(tmp_path, ("cat",), (1,), tuple(records))


@pytest.fixture
def config(tmp_path):
    """A configuration whose saliency maps and weights are there."""
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


def test_a_sound_run_has_no_problem(config, index, tmp_path):
    findings = check.check_run(config, index, tmp_path / "results/deep")
    assert problems(findings) == {}
    messages = {f.subject: f.message for f in findings}
    assert messages["images"] == "4 readable"
    assert messages["masks"] == "4 readable"
    assert messages["saliency"] == "3 readable"
    assert messages["device"] == "cpu"
    assert "3 train, 1 val" in messages["splits"]
    assert messages["classes"] == "training images of each: cat 3"
    assert not (tmp_path / "results").exists()


def test_classes_are_listed_with_their_images_and_notes_are_told(config, index, tmp_path):
    records = [
        replace(r, labels=ls)
        for r, ls in zip(index.records, [(), ("a b",), ("cat",), ("a b",)], strict=True)
    ]
    index = replace(
        index, classes=("cat", "a b", "Zebra"), mask_values=(1, 2, 3), records=tuple(records)
    )
    findings = check.check_run(config, replace(index, notes=("one thing",)), tmp_path)
    assert findings[0] == check.Finding("note", "data set", "one thing")
    (classes,) = [f.message for f in findings if f.subject == "classes"]
    assert classes == "training images of each: cat 1, a b 1, Zebra 0"


def test_a_negative_needs_no_file_of_another_tool(config, index, tmp_path):
    """Neither a map of saliency nor CAMs nor pseudo labels."""
    given = {"auxsegnet": {}, "given": {"pseudo_labels": given_labels(tmp_path / "labels")}}
    config = changed(config, cam=given_cams(tmp_path / "cams"), variants=given)
    for name in ("maps/a.png", "cams/a.npy", "labels/a_label.png"):
        (tmp_path / name).unlink()
    assert set(problems(check.check_run(config, index, tmp_path))) == {
        *("saliency", "CAMs", "pseudo labels")
    }
    negative = replace(index.records[0], labels=())
    index = replace(index, records=(negative, *index.records[1:]))
    assert problems(check.check_run(config, index, tmp_path)) == {}


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "name", "subject"),
    [
        (truncate, "b.jpg", "images"),
        (Path.unlink, "b.jpg", "images"),
        (truncate, "c.png", "masks"),
        (truncate, "maps/a.png", "saliency"),
        (Path.unlink, "maps/a.png", "saliency"),
        (truncate, "start.pth", "weights"),
        (Path.unlink, "start.pth", "weights"),
        (lambda path: path.write_bytes(b""), "start.pth", "weights"),
    ],
)
def test_a_spoilt_file_is_found_and_named(config, index, tmp_path, spoil, name, subject):
    spoil(tmp_path / name)
    found = problems(check.check_run(config, index, tmp_path))
    assert list(found) == [subject]
    assert Path(name).stem in found[subject]
    assert "\n" not in found[subject]


def test_maps_of_a_collection_are_found_by_their_pattern(config, index, tmp_path):
    config = changed(config, saliency={"maps": {"pattern": "DSS/{image_id}_sal.png"}})
    assert (
        "3 of 3 saliency maps are missing" in problems(check.check_run(config, index))["saliency"]
    )
    (tmp_path / "maps/DSS").mkdir()
    for image_id in "abc":
        (tmp_path / f"maps/{image_id}.png").rename(tmp_path / f"maps/DSS/{image_id}_sal.png")
    assert problems(check.check_run(config, index)) == {}
    truncate(tmp_path / "maps/DSS/b_sal.png")
    assert "b_sal.png" in problems(check.check_run(config, index))["saliency"]


def test_weights_are_known_by_their_content(config, tmp_path):
    """MXNet's as any other: the paper's file is one."""
    path = write_params(tmp_path / "start.params", {"arg:a_weight": np.ones((4, 4), np.float32)})
    backbone = config.backbone.model_copy(update={"weights": str(path)})
    finding = check.check_weights(backbone)
    assert finding.level == "ok" and "start.params" in finding.message
    truncate(path)
    message = check.check_weights(backbone).message
    assert message.startswith(f"backbone.weights: {path}: truncated in array 0")
    path.write_text("<html>404</html>")
    message = check.check_weights(backbone).message
    assert message.startswith(f"backbone.weights: {path}: not a readable") and "\n" not in message


def notes(findings):
    return [f"{f.subject}: {f.message}" for f in findings if f.level == "note"]


def test_masks_without_a_class_are_a_problem(config, index, tmp_path):
    for image_id in "abcd":
        write_palette_png(tmp_path / f"{image_id}.png", 255 * CAT)
    found = problems(check.check_run(config, index, tmp_path))
    assert list(found) == ["masks"] and found["masks"].startswith("none of 4 masks has a pixel of")


def test_saliency_of_zero_and_one_is_a_problem(config, index, tmp_path):
    for image_id in "abc":
        Image.fromarray(CAT).save(tmp_path / f"maps/{image_id}.png")
    found = problems(check.check_run(config, index, tmp_path))
    assert list(found) == ["saliency"] and "in 3 of 3 maps nothing is salient" in found["saliency"]


def test_a_map_in_which_nothing_is_salient_is_a_note(config, index, tmp_path):
    Image.fromarray(CAT).save(tmp_path / "maps/b.png")
    findings = check.check_run(config, index, tmp_path)
    assert problems(findings) == {}
    assert notes(findings) == [
        "saliency: in 1 of 3 maps nothing is salient, no value being above 15 of 255: b"
    ]


def test_nearly_black_photographs_are_told(config, index, tmp_path):
    Image.fromarray(np.full((24, 40, 3), 12, np.uint8)).save(tmp_path / "c.jpg")
    findings = check.check_run(config, index, tmp_path)
    assert problems(findings) == {}
    assert notes(findings) == ["images: 1 nearly black, no value being above 31 of 255: c"]


def test_photographs_that_exif_turns_are_told_where_outlines_are_painted(index, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn, which no size shows
    Image.open(tmp_path / "b.jpg").save(tmp_path / "b.jpg", exif=exif)
    told = [note for note in notes(check.check_images(index, True)) if "EXIF" in note]
    assert len(told) == 1 and told[0].startswith("images: 1 turned by their EXIF orientation: b;")
    assert not [note for note in notes(check.check_images(index)) if "EXIF" in note]


def test_the_largest_photograph_is_told_with_time_and_memory(config, index):
    large = [replace(r, width=4000, height=3000) for r in index.records[:1]]
    index = replace(index, records=(*large, *index.records[1:]))
    (finding,) = check.check_crf(config, index)
    assert finding.level == "ok" and "photograph, a, 4000x3000: 5 s and" in finding.message
    assert "on 1500x1125 of it; up to 13 at once in 16.0 GB (resources.crf)" in finding.message
    whole = changed(config, prediction={"crf": {"long_side": None}})
    (finding,) = check.check_crf(whole, index)
    assert "4000x3000: 32 s and" in finding.message and " of it" not in finding.message
    (finding,) = check.check_crf(changed(whole, resources={"crf": {"mem_mb": 2000}}), index)
    assert finding.level == "note" and "raise resources.crf.mem_mb" in finding.message
    assert not [*check.check_crf(changed(config, prediction={"crf": {"iterations": 0}}), index)]


def test_results_of_another_folder_are_told(config, index, tmp_path):
    """And not those of a data set that has moved, or grown in its place."""
    folder, other = tmp_path / "results/small", tmp_path / "moved"
    shutil.copytree(tmp_path, other)
    assert not [*check.check_earlier(index, folder)]
    write_dataset(index, folder)
    fewer = replace(index, records=index.records[:3])
    for same in (index, fewer, replace(index, root=other)):
        assert not [*check.check_earlier(same, folder)]
    (finding,) = check.check_earlier(replace(fewer, root=other), folder)
    assert finding.level == "note" and f"holds those of {tmp_path}," in finding.message
    (folder / "index.csv").write_text("damaged")
    assert not [*check.check_earlier(replace(fewer, root=other), folder)]


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_home_that_cannot_be_written_is_told(monkeypatch, tmp_path, variable):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, "/proc/none")
    (finding,) = check.check_cache()
    assert finding.level == "problem" and "export XDG_CACHE_HOME=" in finding.message
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not [*check.check_cache()]


def test_many_offenders_become_one_line(config, index, tmp_path):
    for image_id in "abcd":
        truncate(tmp_path / f"{image_id}.jpg")
    message = problems(check.check_run(config, index, tmp_path))["images"]
    assert all(f"{image_id}.jpg" in message for image_id in "abc")
    assert "d.jpg" not in message and message.endswith("(and 1 more)")


def test_missing_weights_of_the_saliency_network(config, index, tmp_path):
    source = Source(u2netp={"weights": str(tmp_path / "none.onnx")})
    found = check.check_saliency("u2netp", source, index.records)
    assert "none.onnx" in problems(found)["saliency"]


def test_what_variants_pick_is_looked_at_and_nothing_else(config, index, tmp_path):
    """Here in vain: a second folder of maps, and a second file of weights."""
    (tmp_path / "empty").mkdir()
    sources = {"dss": {"maps": {"folder": str(tmp_path / "empty")}}, "large": {"u2net": {}}}
    classifiers = {"wide": {"backbone": {"weights": str(tmp_path / "wide.pth")}}}
    shared = {"saliency": {"sources": sources}, "classifiers": classifiers}
    assert problems(check.check_run(changed(config, **shared), index, tmp_path)) == {}
    picks = {"auxsegnet": {}, "other": {"saliency": "dss", "classifier": "wide"}}
    found = problems(check.check_run(changed(config, **shared, variants=picks), index, tmp_path))
    assert list(found) == ["saliency", "weights"]
    assert "sources.dss.maps.folder" in found["saliency"] and "wide.pth" in found["weights"]


def given_cams(folder):
    """The section `cam` for CAM files of the three training images."""
    folder.mkdir()
    for image_id in "abc":
        np.save(folder / f"{image_id}.npy", {0: np.ones((24, 40), np.float32)})
    files = {"folder": str(folder), "pattern": "{image_id}.npy", "normalise": "auto"}
    return {"source": "files", "files": files}


def given_labels(folder):
    """The section `pseudo_labels` for label PNGs of the three training images."""
    folder.mkdir()
    for image_id in "abc":
        write_palette_png(folder / f"{image_id}_label.png", np.ones((24, 40), np.uint8))
    return {"initial": "files", "files": {"folder": str(folder), "pattern": "{image_id}_label.png"}}


def test_files_of_other_tools_are_read(config, index, tmp_path):
    given = {"auxsegnet": {}, "given": {"pseudo_labels": given_labels(tmp_path / "labels")}}
    config = changed(config, cam=given_cams(tmp_path / "cams"), variants=given)
    messages = {f.subject: f.message for f in check.check_run(config, index, tmp_path)}
    assert (messages["CAMs"], messages["pseudo labels"]) == ("3 readable", "3 readable")


def corrected(config, folder, masks):
    """The configuration with corrected masks, by image id."""
    for image_id, mask in masks.items():
        write_palette_png(folder / f"{image_id}.png", mask)
    return changed(config, pseudo_labels={"corrected": str(folder)})


CAT, NOTHING = np.ones((24, 40), np.uint8), np.zeros((24, 40), np.uint8)


def test_corrected_masks_are_read_and_compared_with_their_labels(config, index, tmp_path):
    config = corrected(config, tmp_path / "own", {"a": CAT, "b": CAT, "c": NOTHING, "d": CAT})
    found = [f for f in check.check_run(config, index, tmp_path) if f.subject == "corrected"]
    assert [(f.level, f.message) for f in found] == [
        ("note", "of images that are not trained on, so not used: d"),
        ("ok", "3 readable"),
        ("note", "1 of 3 masks do not show what their images are labelled with: c"),
    ]


def test_corrected_masks_that_contradict_most_labels_are_a_problem(config, index, tmp_path):
    config = corrected(config, tmp_path / "own", {"a": CAT, "b": NOTHING, "c": NOTHING})
    message = problems(check.check_run(config, index, tmp_path))["corrected"]
    assert message.startswith("2 of 3 masks do not show what") and "b, c; values" in message
    other = replace(index, classes=("cat", "dog"), mask_values=(2, 1))
    config = corrected(config, tmp_path / "own", {"b": CAT, "c": CAT})
    assert "a, b, c; values" in problems(check.check_run(config, other, tmp_path))["corrected"]


def test_corrected_masks_without_an_image_are_a_problem_by_name(config, index, tmp_path):
    index = replace(index, records=(*index.records, replace(index.records[0], image_id="cat 01")))
    config = corrected(config, tmp_path / "own", {"a": CAT, "cat_01": CAT, "xyz": CAT})
    message = problems(check.check_run(config, index, tmp_path))["corrected"]
    assert "2 of its masks are called like no image: cat_01 (did you mean cat 01?), xyz" in message


@pytest.mark.parametrize("spoil", [truncate, lambda path: shutil.rmtree(path.parent)])
def test_corrected_masks_that_cannot_be_read_are_a_problem(config, index, tmp_path, spoil):
    config = corrected(config, tmp_path / "own", {"a": CAT})
    spoil(tmp_path / "own/a.png")
    found = problems(check.check_run(config, index, tmp_path))
    assert list(found) == ["corrected"] and str(tmp_path / "own") in found["corrected"]


def test_cams_are_read_as_the_run_reads_them(config, index, tmp_path):
    config = changed(config, cam=given_cams(tmp_path / "cams"))
    np.save(tmp_path / "cams/b.npy", {0: np.full((24, 40), 1e6, np.float32)})
    assert problems(check.check_run(config, index, tmp_path)) == {}
    config = changed(config, cam={"files": {"normalise": "never"}})
    message = problems(check.check_run(config, index, tmp_path))["CAMs"]
    assert "b.npy" in message and "cam.files.normalise" in message


@pytest.mark.parametrize(
    ("spoil", "name", "subject"),
    [
        (truncate, "cams/b.npy", "CAMs"),
        (Path.unlink, "cams/b.npy", "CAMs"),
        (lambda path: np.save(path, {1: np.ones((24, 40))}), "cams/a.npy", "CAMs"),
        (truncate, "labels/a_label.png", "pseudo labels"),
        (Path.unlink, "labels/a_label.png", "pseudo labels"),
        (lambda path: shutil.rmtree(path.parent), "cams/b.npy", "CAMs"),
        (lambda path: shutil.rmtree(path.parent), "labels/b_label.png", "pseudo labels"),
    ],
)
def test_a_spoilt_file_of_another_tool_is_found(config, index, tmp_path, spoil, name, subject):
    given = {"given": {"pseudo_labels": given_labels(tmp_path / "labels")}}
    config = changed(config, cam=given_cams(tmp_path / "cams"), variants=given)
    spoil(tmp_path / name)
    found = problems(check.check_run(config, index, tmp_path))
    assert list(found) == [subject]
    folder = Path(name).parent.name
    assert Path(name).name in found[subject] or f"{folder} is not a folder" in found[subject]
    assert "\n" not in found[subject]


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
    assert check.check_device(name).level == level


def test_no_masks_are_mentioned(index):
    bare = [replace(record, mask=None, scored=False) for record in index.records]
    findings = check.check_images(replace(index, records=tuple(bare)))
    assert [f.level for f in findings if "no masks" in f.message] == ["note"]


def test_full_disk_is_a_problem(config, index, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    message = problems(check.check_run(config, index, tmp_path))["disk"]
    assert "1 kB free" in message and "keep: final" in message


def test_needed_disk_follows_the_run(config, index):
    def total(**changes):
        return sum(disk.disk_needed(changed(config, **changes), index).values())

    assert total(stages=4) > total() > total(stages=1)
    assert total(seeds=[0, 1]) > total()
    assert total(variants={"a": {}, "b": {}}) > total()
    assert total(variants={"a": {"stages": 1}}) == total(stages=1)
    assert total(keep="final") < total()
    assert total(masks={"export": True}) > total()
    everywhere = {"prediction": {"splits": ["val", "train"]}}
    assert total(**everywhere) > total() == total(prediction={"splits": ["val", "test"]})
    more = total(**everywhere) - total()
    assert total(**everywhere, stages=1) - total(stages=1) == pytest.approx(more, abs=5)
    assert total(images={"long_side": 4000}) == total()
    large = replace(index, records=[replace(r, width=400, height=240) for r in index.records])
    small = changed(config, images={"long_side": 64})
    sizes = [sum(disk.disk_needed(one, large).values()) for one in (small, config)]
    assert sizes[0] < sizes[1]
    one, two = {"a": {"stages": 1}}, {"a": {"stages": 1}, "b": {"stages": 1}}
    two_sources = one | {"b": {"stages": 1, "saliency": "centre_prior"}}
    assert total(variants=two_sources) > total(variants=two)
    cams = {"other": {"cam": {"scales": [1.0]}}}  # not trained again
    alike = total(classifiers=cams, variants=two)
    more = total(classifiers=cams, variants=one | {"b": {"stages": 1, "classifier": "other"}})
    trained = {"other": {"classifier": {"epochs": 3}}}
    most = total(classifiers=trained, variants=one | {"b": {"stages": 1, "classifier": "other"}})
    assert most > 1.1 * more and more > alike == total(variants=two)
    # Imported CAMs have the grid of stride 8, whatever the network's.
    backbone = {"output_stride": 16}
    files = {"source": "files", "files": {"folder": "cams"}}
    assert total(cam=files) == total() and total(cam=files, backbone=backbone) > total(
        backbone=backbone
    )


def test_needed_disk_of_the_gallery(config, index):
    """By ratios; three training images and one of val, which are 40x24 pixels large."""

    def gallery(**changes):
        return disk.disk_needed(changed(config, **changes), index)["gallery"]

    assert gallery(stages=4) > gallery() > gallery(keep="final") > 0
    assert gallery(prediction={"splits": ["val", "train"]}) > gallery()
    assert gallery(gallery={"images": 3}) == gallery() > gallery(gallery={"images": 1}) > 0
    train = replace(index, records=[r for r in index.records if r.split == "train"])
    three, one = (
        disk.disk_needed(changed(config, gallery={"images": limit}), train)["gallery"]
        for limit in (3, 1)
    )
    assert three == pytest.approx(3 * one, abs=3)
    large = replace(index, records=[replace(r, width=4000, height=2400) for r in index.records])
    sizes = [
        disk.disk_needed(changed(config, gallery={"long_side": side}), large)["gallery"]
        for side in (1000, 2000)
    ]
    assert 3 < sizes[1] / sizes[0] < 4  # four times the pixels, and maps of one size


def test_the_size_of_the_gallery_is_told(config, index):
    finding = check.check_gallery(changed(config, gallery={"images": 2}), index)
    needed = disk.disk_needed(changed(config, gallery={"images": 2}), index)["gallery"]
    size = disk.readable_bytes(needed)
    assert finding.message == f"about {size} for 3 images of 4; gallery.images: 2 a split"
    assert check.check_gallery(config, index).message.endswith("for 4 images")


def test_needed_disk_counts_images_cells_and_trainings(config, index):
    """By ratios, which do not depend on how well anything packs; bytes are rounded down."""
    one, two = (disk.disk_needed(changed(config, stages=number), index) for number in (1, 2))
    assert two["saliency"] == one["saliency"] > 0
    for kind in ("refined saliency", "pseudo labels", "predictions", "label maps"):
        assert two[kind] == pytest.approx(2 * one[kind], abs=2) and one[kind] > 0
    assert two["checkpoints"] == pytest.approx(one["checkpoints"] * 3 / 2, abs=2)
    network = create_backbone("efficientnet_lite0")
    weights = sum(4 * tensor.numel() for tensor in network.state_dict().values())
    assert 2 * weights < one["checkpoints"] < 3 * weights  # the classifier's and the stage's
    # For 40x24 pixels a grid of 5x3 cells at stride 8, and of 3x2 at stride 16.
    coarse = disk.disk_needed(changed(config, stages=1, backbone={"output_stride": 16}), index)
    expected = one["refined saliency"] * (3 * 2) / (5 * 3)
    assert coarse["refined saliency"] == pytest.approx(expected, abs=2)
    # Masks are painted for four images; one is segmented.
    assert one["ground truth"] == 0
    data = Dataset(name="small", format="coco", root=str(index.root))
    coco = config.model_copy(update={"dataset": data})
    painted = disk.disk_needed(coco, index)["ground truth"]
    assert painted == pytest.approx(4 * one["label maps"], abs=4)


@pytest.fixture
def overlay(config, index, tmp_path):
    """The same as an overlay over config.yaml, for photographs in a folder; JSON is YAML."""
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / folder).mkdir()
        for image_id in "abcd":
            (tmp_path / f"{image_id}.{suffix}").rename(tmp_path / folder / f"{image_id}.{suffix}")
    (tmp_path / "labels.csv").write_text(
        "image_id,labels\n" + "".join(f"{i},cat\n" for i in "abcd")
    )
    (tmp_path / "val.txt").write_text("d\n")
    lists = {"masks": "masks", "val_list": "val.txt"}
    path = tmp_path / "overlay.yaml"
    path.write_text(json.dumps(plain(changed(config, dataset={"folder": lists}))))
    return ["--configfile", str(path), "--results", str(tmp_path / "results")]


def test_the_command_prints_a_table(overlay):
    status, out, err = called(command, *overlay)
    assert status == 0, out + err
    assert out.splitlines()[-1] == "ready to run"
    assert "3 train, 1 val, 0 test; 1 classes" in out
    assert "4 readable" in out
    assert "measuring images" in err
    assert " 0it [" not in err  # a bar for test images that there are none of


def test_problems_make_the_command_fail(overlay, tmp_path, capsys):
    truncate(tmp_path / "images/a.jpg")
    (tmp_path / "start.pth").unlink()
    code = command.main(overlay)
    lines = capsys.readouterr().out.splitlines()
    assert code == 1
    assert sum(line.startswith("problem ") for line in lines) == 2
    assert lines[-1] == "2 problem(s)"


def subjects(capsys):
    """Levels by subject of the printed table."""
    lines = capsys.readouterr().out.splitlines()[:-1]
    known = ("data set", "images", "masks", "splits", "saliency", "weights", "device", "disk")
    return {name: line.split()[0] for line in lines for name in known if line[8:].startswith(name)}


@pytest.mark.parametrize("name", ["masks/b.png", "labels.csv", "val.txt"])
def test_a_data_set_without_index_hides_nothing_else(overlay, tmp_path, capsys, name):
    truncate(tmp_path / name) if name == "masks/b.png" else (tmp_path / name).unlink()
    (tmp_path / "start.pth").unlink()
    assert command.main(overlay) == 1
    assert subjects(capsys) == {
        "data set": "problem",
        "saliency": "note",
        "weights": "problem",
        "device": "ok",
        "disk": "note",
    }


def test_the_source_of_saliency_is_looked_at_without_index(overlay, tmp_path, capsys):
    (tmp_path / "labels.csv").unlink()
    shutil.rmtree(tmp_path / "maps")
    assert command.main(overlay) == 1
    said = capsys.readouterr().out
    assert "problem data set  dataset.folder.labels" in said
    assert "problem saliency  saliency.maps.folder" in said
    assert said.endswith("2 problem(s)\n")


def test_a_wrong_configuration_is_one_error(overlay, tmp_path):
    (tmp_path / "more.yaml").write_text("stagess: 3\n")
    with pytest.raises(InputError, match="stagess: unknown key"):
        command.main([*overlay[:2], str(tmp_path / "more.yaml")])


def test_the_demo_is_not_drawn_for_a_check(tmp_path, capsys):
    """Everything else is looked at: here, whether the disk would do for 160 + 48 images."""
    command.main(["--results", str(tmp_path / "results")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note    images") and "not there yet" in lines[0]
    assert any("computed for 160 training images" in line for line in lines)
    assert any(line.startswith("ok      disk") for line in lines)
    assert not (tmp_path / "results").exists()


# --- how every command ends


def raising(error):
    def main(_arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda _: None, 0),
        (lambda _: 1, 1),
        (raising(InputError("file x is wrong: mend it")), 1),
        (raising(ZeroDivisionError("oh")), 1),
        (raising(KeyboardInterrupt()), 130),
    ],
)
def test_exit_codes(main, code):
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == code


def test_only_unexpected_errors_show_where_they_came_from(capsys):
    with pytest.raises(SystemExit):
        run(raising(InputError("file x is wrong: mend it")))
    assert capsys.readouterr().err == "error: file x is wrong: mend it\n"
    with pytest.raises(SystemExit):
        run(raising(ZeroDivisionError("oh")))
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "in main" in shown
    assert shown.splitlines()[-1] == "error: ZeroDivisionError: oh"

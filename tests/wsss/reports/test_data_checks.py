"""What is found out of a data set before a run."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checked_run import CAT, changed, notes, problems, truncate
from PIL import Image

from wsss.configuration.data_sections import Source
from wsss.datasets.index import write_dataset, write_test_images
from wsss.reports import data_checks
from wsss.reports.check import check_run
from wsss.reports.data_checks import check_quality
from wsss.reports.findings import Finding
from wsss.storage.palette import write_palette_png

NOTHING = np.zeros_like(CAT)


def test_a_sound_run_has_no_problem(config, index, tmp_path):
    findings = check_run(config, index, tmp_path / "results/deep")
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
    findings = check_run(config, replace(index, notes=("one thing",)), tmp_path)
    assert findings[0] == Finding("note", "data set", "one thing")
    told = {f.subject: f.message for f in findings}
    assert told["classes"] == "training images of each: cat 1, a b 1, Zebra 0"
    assert told["quality"].startswith("0 training images of Zebra, the rarest class; new masks of")


def test_quality_is_said_of_the_recipe_that_it_was_measured_with(config, index):
    assert list(check_quality(changed(config, recipe="paper"), index)) == []


def test_a_negative_needs_no_file_of_another_tool(config, index, tmp_path):
    """Neither a map of saliency nor CAMs nor pseudo labels."""
    given = {"auxsegnet": {}, "given": {"pseudo_labels": given_labels(tmp_path / "labels")}}
    config = changed(config, cam=given_cams(tmp_path / "cams"), variants=given)
    for name in ("maps/a.png", "cams/a.npy", "labels/a_label.png"):
        (tmp_path / name).unlink()
    assert set(problems(check_run(config, index, tmp_path))) == {
        *("saliency", "CAMs", "pseudo labels")
    }
    negative = replace(index.records[0], labels=())
    index = replace(index, records=(negative, *index.records[1:]))
    assert problems(check_run(config, index, tmp_path)) == {}


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
    found = problems(check_run(config, index, tmp_path))
    assert list(found) == [subject]
    assert Path(name).stem in found[subject]
    assert "\n" not in found[subject]


def test_maps_of_a_collection_are_found_by_their_pattern(config, index, tmp_path):
    config = changed(config, saliency={"maps": {"pattern": "DSS/{image_id}_sal.png"}})
    assert "3 of 3 saliency maps are missing" in problems(check_run(config, index))["saliency"]
    (tmp_path / "maps/DSS").mkdir()
    for image_id in "abc":
        (tmp_path / f"maps/{image_id}.png").rename(tmp_path / f"maps/DSS/{image_id}_sal.png")
    assert problems(check_run(config, index)) == {}
    truncate(tmp_path / "maps/DSS/b_sal.png")
    assert "b_sal.png" in problems(check_run(config, index))["saliency"]


def test_masks_without_a_class_are_a_problem(config, index, tmp_path):
    for image_id in "abcd":
        write_palette_png(tmp_path / f"{image_id}.png", 255 * CAT)
    found = problems(check_run(config, index, tmp_path))
    assert list(found) == ["masks"] and found["masks"].startswith("none of 4 masks has a pixel of")


def test_saliency_of_zero_and_one_is_a_problem(config, index, tmp_path):
    for image_id in "abc":
        Image.fromarray(CAT).save(tmp_path / f"maps/{image_id}.png")
    found = problems(check_run(config, index, tmp_path))
    assert list(found) == ["saliency"] and "in 3 of 3 maps nothing is salient" in found["saliency"]


def test_a_map_in_which_nothing_is_salient_is_a_note(config, index, tmp_path):
    Image.fromarray(CAT).save(tmp_path / "maps/b.png")
    findings = check_run(config, index, tmp_path)
    assert problems(findings) == {}
    assert notes(findings) == [
        "saliency: in 1 of 3 maps nothing is salient, no value being above 15 of 255: b"
    ]


def test_nearly_black_photographs_are_told(config, index, tmp_path):
    Image.fromarray(np.full((24, 40, 3), 12, np.uint8)).save(tmp_path / "c.jpg")
    findings = check_run(config, index, tmp_path)
    assert problems(findings) == {}
    assert notes(findings) == ["images: 1 nearly black, no value being above 31 of 255: c"]


def test_photographs_that_exif_turns_are_told_where_outlines_are_painted(index, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn, which no size shows
    Image.open(tmp_path / "b.jpg").save(tmp_path / "b.jpg", exif=exif)
    told = [note for note in notes(data_checks.check_images(index, True)) if "EXIF" in note]
    assert len(told) == 1 and told[0].startswith("images: 1 turned by their EXIF orientation: b;")
    assert not [note for note in notes(data_checks.check_images(index)) if "EXIF" in note]


def test_results_of_another_folder_are_told(config, index, tmp_path):
    """And not those of a data set that has moved, or grown in its place."""
    folder, other = tmp_path / "results/small", tmp_path / "moved"
    shutil.copytree(tmp_path, other)
    assert not [*data_checks.check_earlier(index, folder)]
    write_dataset(index, folder)
    fewer = replace(index, records=index.records[:3])
    for same in (index, fewer, replace(index, root=other)):
        assert not [*data_checks.check_earlier(same, folder)]
    (finding,) = data_checks.check_earlier(replace(fewer, root=other), folder)
    assert finding.level == "note" and f"holds those of {tmp_path}," in finding.message
    (folder / "index.csv").write_text("damaged")
    assert not [*data_checks.check_earlier(replace(fewer, root=other), folder)]


def test_results_of_other_photographs_to_predict_are_told(index, tmp_path):
    """And not those of fewer, to which some have come since."""
    folder, other = tmp_path / "results/small", tmp_path / "other"
    shutil.copytree(tmp_path, other)

    def holiday(*names):
        later = [replace(index.records[0], image_id=n, split="test", labels=()) for n in names]
        return replace(index, records=(*index.records, *later))

    write_dataset(index, folder)
    write_test_images(holiday("x", "y"), folder)
    for same in (holiday("x", "y"), holiday("x", "y", "z")):
        assert not [*data_checks.check_earlier(replace(same, root=other), folder)]
    for different in (holiday("x", "z"), index):
        (finding,) = data_checks.check_earlier(replace(different, root=other), folder)
        assert finding.level == "note" and f"holds those of {tmp_path}," in finding.message
        assert not [*data_checks.check_earlier(different, folder)]


def test_many_offenders_become_one_line(config, index, tmp_path):
    for image_id in "abcd":
        truncate(tmp_path / f"{image_id}.jpg")
    message = problems(check_run(config, index, tmp_path))["images"]
    assert all(f"{image_id}.jpg" in message for image_id in "abc")
    assert "d.jpg" not in message and message.endswith("(and 1 more)")


def test_missing_weights_of_the_saliency_network(config, index, tmp_path):
    source = Source(u2netp={"weights": str(tmp_path / "none.onnx")})
    found = data_checks.check_saliency("u2netp", source, index.records)
    assert "none.onnx" in problems(found)["saliency"]


def test_what_variants_pick_is_looked_at_and_nothing_else(config, index, tmp_path):
    """Here in vain: a second folder of maps, and a second file of weights."""
    (tmp_path / "empty").mkdir()
    sources = {"dss": {"maps": {"folder": str(tmp_path / "empty")}}, "large": {"u2net": {}}}
    classifiers = {"wide": {"backbone": {"weights": str(tmp_path / "wide.pth")}}}
    shared = {"saliency": {"sources": sources}, "classifiers": classifiers}
    assert problems(check_run(changed(config, **shared), index, tmp_path)) == {}
    picks = {"auxsegnet": {}, "other": {"saliency": "dss", "classifier": "wide"}}
    found = problems(check_run(changed(config, **shared, variants=picks), index, tmp_path))
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
    messages = {f.subject: f.message for f in check_run(config, index, tmp_path)}
    assert (messages["CAMs"], messages["pseudo labels"]) == ("3 readable", "3 readable")


def corrected(config, folder, masks):
    """The configuration with corrected masks, by image id."""
    for image_id, mask in masks.items():
        write_palette_png(folder / f"{image_id}.png", mask)
    return changed(config, pseudo_labels={"corrected": str(folder)})


def test_corrected_masks_are_read_and_compared_with_their_labels(config, index, tmp_path):
    config = corrected(config, tmp_path / "own", {"a": CAT, "b": CAT, "c": NOTHING, "d": CAT})
    found = [f for f in check_run(config, index, tmp_path) if f.subject == "corrected"]
    assert [(f.level, f.message) for f in found] == [
        ("note", "of images that are not trained on, so not used: d"),
        ("ok", "3 readable"),
        ("note", "1 of 3 masks do not show what their images are labelled with: c"),
    ]


def test_corrected_masks_that_contradict_most_labels_are_a_problem(config, index, tmp_path):
    config = corrected(config, tmp_path / "own", {"a": CAT, "b": NOTHING, "c": NOTHING})
    message = problems(check_run(config, index, tmp_path))["corrected"]
    assert message.startswith("2 of 3 masks do not show what") and "b, c; values" in message
    other = replace(index, classes=("cat", "dog"), mask_values=(2, 1))
    config = corrected(config, tmp_path / "own", {"b": CAT, "c": CAT})
    assert "a, b, c; values" in problems(check_run(config, other, tmp_path))["corrected"]


def test_corrected_masks_of_no_or_nearly_an_image_are_told_by_name(config, index, tmp_path):
    another = replace(index.records[0], image_id="cat 01", image="cat 01.jpg")
    index = replace(index, records=(*index.records, another))
    config = corrected(config, tmp_path / "own", {"A": CAT, "cat_01": CAT, "xyz": CAT})
    found = [*data_checks.check_corrected(config, index)]
    assert [f.level for f in found] == ["problem", "note", "ok"]
    told = "2 of its masks are called like no image: cat_01 (there is cat 01.jpg), xyz; give"
    assert told in found[0].message
    assert found[1].message.endswith("own: taken for nearly the same name: A is a.jpg")


@pytest.mark.parametrize("spoil", [truncate, lambda path: shutil.rmtree(path.parent)])
def test_corrected_masks_that_cannot_be_read_are_a_problem(config, index, tmp_path, spoil):
    config = corrected(config, tmp_path / "own", {"a": CAT})
    spoil(tmp_path / "own/a.png")
    found = problems(check_run(config, index, tmp_path))
    assert list(found) == ["corrected"] and str(tmp_path / "own") in found["corrected"]


def test_cams_are_read_as_the_run_reads_them(config, index, tmp_path):
    config = changed(config, cam=given_cams(tmp_path / "cams"))
    np.save(tmp_path / "cams/b.npy", {0: np.full((24, 40), 1e6, np.float32)})
    assert problems(check_run(config, index, tmp_path)) == {}
    config = changed(config, cam={"files": {"normalise": "never"}})
    message = problems(check_run(config, index, tmp_path))["CAMs"]
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
    found = problems(check_run(config, index, tmp_path))
    assert list(found) == [subject]
    folder = Path(name).parent.name
    assert Path(name).name in found[subject] or f"{folder} is not a folder" in found[subject]
    assert "\n" not in found[subject]


def test_no_masks_are_mentioned(index):
    bare = [replace(record, mask=None, scored=False) for record in index.records]
    findings = data_checks.check_images(replace(index, records=tuple(bare)))
    assert [f.level for f in findings if "no masks" in f.message] == ["note"]

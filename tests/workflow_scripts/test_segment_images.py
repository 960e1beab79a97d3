"""segment_images as a user calls it, against what the workflow makes of the same photographs."""

import csv
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from called_here import called
from PIL import Image
from tiny_network import varied

from model.auxsegnet import AuxSegNet
from workflow_scripts import segment, segment_crf, segment_images
from wsss.configuration.method_sections import SEGMENTATION_CRF
from wsss.configuration.resolve import read_recipe
from wsss.configuration.training_sections import Backbone
from wsss.datasets.index import DatasetIndex, measured, write_dataset
from wsss.datasets.index import ImageRecord as Record
from wsss.errors import InputError
from wsss.method import segmenter
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.checkpoint import network_arguments, read_checkpoint, save_checkpoint
from wsss.storage.palette import voc_palette

CLASSES = ("cat", "dog", "sheep")
WHO = {"dataset": "own", "classes": list(CLASSES), "variant": "auxsegnet", "seed": 0, "stage": 2}
LONG_SIDE = 96
BACKBONE = Backbone(name="efficientnet_lite0", output_stride=8, weights="none")
NETWORK = {"design": "paper", "branches": "all", "affinity": "cross_task", "decoder_channels": 8}
NETWORK |= {"attention_start": "similarity"}
VIEWS = {"scales": [0.75, 1.0], "flip": True, "merge": "mean"}
VIEW_OPTIONS = ["--scales", "0.75", "1", "--flip", "--merge", "mean", "--threads", "1"]
# Photographs of another mode, and the plain 8-bit RGB that each of them shows.
ODD = {"grey.png": "plain_grey", "cmyk.jpg": "plain_cmyk", "turned.jpg": "plain_turned"}
ODD |= {"sixteen.png": "plain_sixteen"}
SIZES = [(1, 1), (1, 9), (9, 1), (3, 200), (7, 7), (41, 83), (400, 16)]
BROKEN = ["broken.jpg", "empty.png", "float.tiff"]


def blobs(height, width, seed=0):
    """Colours that vary slowly, so that neighbours belong together."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def save_odd(folder):
    rgb = Image.fromarray(blobs(60, 90))
    grey = rgb.convert("L")
    grey.save(folder / "grey.png")
    grey.convert("RGB").save(folder / "plain_grey.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    with Image.open(folder / "cmyk.jpg") as stored:
        stored.convert("RGB").save(folder / "plain_cmyk.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying, shown upright: turned clockwise by a viewer
    rgb.save(folder / "turned.jpg", exif=exif, quality=95)
    with Image.open(folder / "turned.jpg") as stored:
        stored.transpose(Image.Transpose.ROTATE_270).save(folder / "plain_turned.png")
    deep = np.array(grey).astype(np.uint16) * 256 + 99
    Image.fromarray(deep).save(folder / "sixteen.png")
    grey.convert("RGB").save(folder / "plain_sixteen.png")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Good, odd, tiny and broken ones, and what is no image."""
    folder = tmp_path_factory.mktemp("photographs")
    save_odd(folder)
    for height, width in SIZES:
        Image.fromarray(blobs(height, width)).save(folder / f"size_{height}x{width}.png")
    Image.fromarray(blobs(130, 170, 1)).save(folder / "with space ä.jpg", quality=95)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    (folder / "empty.png").touch()
    Image.fromarray(np.ones((9, 9), np.float32)).save(folder / "float.tiff")
    (folder / "labels.csv").write_text("image_id,labels\n")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    return folder


@pytest.fixture(scope="module")
def dataset(photographs, tmp_path_factory):
    """The photographs that the workflow takes too: at least 8 pixels a side."""
    names = [p.name for p in sorted(photographs.iterdir()) if p.name not in BROKEN]
    names = [n for n in names if n.startswith(("plain", *ODD, "with")) or "41x" in n or "400x" in n]
    records = [Record(Path(n).stem, "val", False, n, None, 0, 0, ()) for n in names]
    index = measured(DatasetIndex(photographs, CLASSES, (1, 2, 3), tuple(records)))
    folder = tmp_path_factory.mktemp("data") / "own"
    write_dataset(index, folder)
    return folder, index


def network(**changes):
    torch.manual_seed(3)
    arguments = network_arguments(len(CLASSES), BACKBONE, **NETWORK | changes)
    return AuxSegNet(**arguments), arguments


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    """A checkpoint, alone in its folder."""
    path = tmp_path_factory.mktemp("model") / "model.pt"
    who = WHO | {"index_digest": dataset[1].digest}
    made, arguments = network()
    save_checkpoint(
        path, varied(made, blobs(60, 90)), arguments, who, {"images": {"long_side": LONG_SIDE}}
    )
    return path


def expected_labels(folder, dataset, model, crf):
    """Image id -> label map and what is said of it, as the workflow's two commands make them."""
    run = ["--data", str(dataset[0]), "--variant", "auxsegnet", "--seed", "0", "--stage", "2"]
    run += ["--split", "val", "--shard", "0", "--shards", "1"]
    views = json.dumps(VIEWS | {"long_side": LONG_SIDE, "precision": "fp32"})
    predictions, labels = str(folder / "predictions.h5"), folder / "labels.h5"
    network = ["--model", str(model), "--device", "cpu", "--settings", views]
    segment.main([*run, *network, "--output", predictions])
    crf = ["--settings", crf.model_dump_json(), "--predictions", predictions]
    segment_crf.main([*run, *crf, "--output", str(labels)])
    reader = ArtifactReader(labels, "predictions_crf")
    return {image_id: reader.read(image_id) for image_id in reader.ids}


@pytest.fixture(scope="module")
def outcome(photographs, model, tmp_path_factory):
    """A call for the whole folder: exit status, what it said, and where it wrote."""
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    status, _, said = called(segment_images, model, photographs, "--out", out, *VIEW_OPTIONS)
    return status, said, out


def label_of(path):
    with Image.open(path) as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:12] == voc_palette()[:4].flatten().tolist()
        return np.array(mask)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_masks_are_those_of_the_workflow(outcome, dataset, model, tmp_path):
    expected = expected_labels(tmp_path, dataset, model, SEGMENTATION_CRF)
    assert len(expected) == len(dataset[1].records) > 8
    rows = {row["image_id"]: row for row in table(outcome[2] / "masks.csv")}
    for image_id, record in expected.items():
        np.testing.assert_array_equal(label_of(outcome[2] / f"{image_id}.png"), record.array)
        for name in ("confidence", "uncertain"):
            assert rows[image_id][name] == f"{record.attributes[name]:.4f}"
    assert len(np.unique(np.concatenate([r.array.flatten() for r in expected.values()]))) > 1
    order = [float(row["confidence"]) for row in rows.values()]
    assert order == sorted(order) and len(set(order)) > 5


def test_without_crf_too(photographs, dataset, model, tmp_path):
    expected = expected_labels(
        tmp_path, dataset, model, SEGMENTATION_CRF.model_copy(update={"iterations": 0})
    )
    names = {record.image_id: record.image for record in dataset[1].records}
    files = [str(photographs / names[image_id]) for image_id in expected]
    options = ["--out", str(tmp_path / "out"), *VIEW_OPTIONS, "--no-crf", "--device", "cpu"]
    assert segment_images.main([str(model), *files, *options]) == 0
    for image_id, record in expected.items():
        np.testing.assert_array_equal(label_of(tmp_path / "out" / f"{image_id}.png"), record.array)


def test_broken_ones_are_a_line_each_and_the_others_are_made(outcome, photographs):
    status, said, out = outcome
    assert status == 1 and "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(BROKEN)
    for name, line in zip(sorted(BROKEN), sorted(errors), strict=True):
        assert str(photographs / name) in line
    good = {p.stem for p in photographs.glob("*.[pj][np]g") if p.is_file() and p.name[0] != "."}
    good -= {Path(name).stem for name in BROKEN}
    made = {f"{name}.png" for name in good} | {f"{name}_overlay.jpg" for name in good}
    assert {path.name for path in out.iterdir()} == made | {"classes.csv", "masks.csv"}
    assert {row["image_id"] for row in table(out / "masks.csv")} == good


@pytest.mark.parametrize("size", SIZES)
def test_any_size_down_to_one_pixel(outcome, size):
    assert label_of(outcome[2] / f"size_{size[0]}x{size[1]}.png").shape == size


@pytest.mark.parametrize("odd", ODD)
def test_odd_photographs_are_taken_as_what_they_show(outcome, odd):
    twin = label_of(outcome[2] / f"{ODD[odd]}.png")
    np.testing.assert_array_equal(label_of(outcome[2] / f"{Path(odd).stem}.png"), twin)
    assert twin.shape == ((90, 60) if odd == "turned.jpg" else (60, 90))


def test_tables_say_what_the_values_are_and_how_many(outcome):
    out = outcome[2]
    colours = table(out / "classes.csv")
    assert [tuple(row.values()) for row in colours] == [
        ("0", "background", "#000000"),
        ("1", "cat", "#800000"),
        ("2", "dog", "#008000"),
        ("3", "sheep", "#808000"),
    ]
    shown = set()
    for row in table(out / "masks.csv"):
        label = label_of(out / row["mask"])
        shares = dict(part.split("=") for part in row["shares"].split(";") if part)
        assert row["classes"] == ";".join(shares)
        for value, name in enumerate(CLASSES, start=1):
            assert float(shares.get(name, 0)) == pytest.approx((label == value).mean(), rel=1e-3)
        with Image.open(out / row["overlay"]) as overlay:
            assert overlay.format == "JPEG" and overlay.size == label.shape[::-1]
        shown.update(shares)
    assert shown


def test_all_well_is_status_0_and_a_bar(photographs, model, tmp_path, capfd):
    command = [str(model), str(photographs / "plain_grey.png"), "--out", str(tmp_path / "out")]
    command += ["--scales", "1", "--no-crf"]
    assert segment_images.main(command) == 0
    out, said = capfd.readouterr()
    assert out == "" and "1/1" in said and "error" not in said
    assert segment_images.main([*command, str(tmp_path / "gone.png")]) == 1
    assert "gone.png: no such file" in capfd.readouterr().err


# --- refused beforehand


def refused(*arguments):
    with pytest.raises(InputError) as caught:
        segment_images.main([str(argument) for argument in arguments])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_input_is_never_written_over(model, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    elsewhere = tmp_path / "photo.png"
    Image.fromarray(blobs(20, 20)).save(elsewhere)
    before = elsewhere.read_bytes()
    # The photograph itself, a link to it, a second name, another one's overlay, and an input link.
    assert "photo.png" in refused(model, elsewhere, "--out", tmp_path)
    (folder / "photo.png").symlink_to(elsewhere)
    assert "photo.png" in refused(model, elsewhere, "--out", folder)
    assert "photo.png" in refused(model, folder / "photo.png", "--out", folder)
    (folder / "photo.png").unlink()
    os.link(elsewhere, folder / "photo.png")
    assert "photo.png" in refused(model, elsewhere, "--out", folder)
    (folder / "photo.png").unlink()
    (folder / "photo_overlay.jpg").write_bytes(before)
    both = (elsewhere, folder / "photo_overlay.jpg")
    assert "photo_overlay.jpg" in refused(model, *both, "--out", folder)
    assert elsewhere.read_bytes() == before == both[1].read_bytes()
    assert [path.name for path in folder.iterdir()] == ["photo_overlay.jpg"]


def test_folders_without_images_and_names_that_lead_elsewhere(model, photographs, tmp_path):
    (tmp_path / "text.txt").touch()
    assert "no .jpg" in refused(model, tmp_path, "--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "a..b.png"
    Image.fromarray(blobs(9, 9)).save(bad)
    assert "a..b" in refused(model, bad, "--out", tmp_path / "out")
    both = refused(model, tmp_path / "empty", bad, "--out", tmp_path / "out")
    assert "no .jpg" in both and "a..b" in both
    (tmp_path / "p").mkdir()
    for name in ("p.jpg", "p.png", "q.jpg", "q.png"):
        Image.fromarray(blobs(9, 9)).save(tmp_path / "p" / name)
    assert refused(model, tmp_path / "p", "--out", tmp_path / "out").endswith("(and 1 more)")
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_made_is_one_line(model, photographs, no_folder):
    message = refused(model, photographs / "grey.png", "--out", no_folder)
    assert message.startswith(f"--out {no_folder}: the folder cannot be made (")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha", "1.5"], "--alpha"),
        (["--scales", "0"], "--scales"),
        (["--scales", "nan"], "--scales"),
        (["--long-side", "-3"], "--long-side"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_values_out_of_range(model, photographs, tmp_path, options, message):
    said = refused(model, photographs / "grey.png", "--out", tmp_path / "out", *options)
    assert said.startswith(message) and not (tmp_path / "out").exists()


class Exploding:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_files_that_are_no_model(photographs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = photographs / "grey.png"
    settings = {"images": {"long_side": LONG_SIDE}}
    classifier = network(branches="cls", affinity="none")
    save_checkpoint("classifier.pt", *classifier, WHO, settings)
    assert "classifier" in refused("classifier.pt", image, "--out", "out")
    torch.save(network()[0].state_dict(), "other.pt")
    assert "no checkpoint of this workflow" in refused("other.pt", image, "--out", "out")
    Path("pickle.pt").write_bytes(pickle.dumps(Exploding(), protocol=2))
    torch.save({"format": "auxsegnet-checkpoint-1", "model": Exploding()}, "pickle2.pt")
    for name in ("pickle.pt", "pickle2.pt", image):
        assert "not a readable checkpoint" in refused(name, image, "--out", "out")
    assert "no such file" in refused("gone.pt", image, "--out", "out")
    assert not Path("exploded").exists() and not Path("out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": {"num_classes": 3, "backbone": "vgg"}},
        {"model": {}},
        {"identity": {}},
        {"parameters": {}},
    ],
    ids=str,
)
def test_checkpoints_of_another_version(model, photographs, tmp_path, change):
    torch.save(read_checkpoint(model) | change, tmp_path / "model.pt")
    said = refused(tmp_path / "model.pt", photographs / "grey.png", "--out", tmp_path / "out")
    assert said.startswith(str(tmp_path / "model.pt")) and not (tmp_path / "out").exists()


# --- photographs that cannot be segmented, beside others that can


@pytest.fixture
def holiday(tmp_path):
    """A folder with one good photograph."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    save_photograph(folder / "good.jpg")
    return folder


def save_photograph(path):
    with open(path, "wb") as file:  # Pillow takes no name that is not UTF-8
        Image.fromarray(blobs(20, 30)).save(file, "PNG")


def segmented(capfd, model, *paths, out):
    """A call: exit status, the error lines, the ids in masks.csv."""
    words = [model, *paths, "--out", out, "--scales", "1", "--no-crf", "--threads", "1"]
    status = segment_images.main([str(word) for word in words])
    said = capfd.readouterr().err.splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    rows = table(out / "masks.csv")
    results = {name for row in rows for name in (row["mask"], row["overlay"])}
    assert {path.name for path in out.iterdir()} >= results
    counted = f"{len(rows)} segmented, {len(errors)} not"
    assert any(line.startswith(counted) for line in said)
    return status, errors, [row["image_id"] for row in rows]


NOT_UTF8 = os.fsdecode(b"caf\xe9.jpg")
LONG = "\u00e4" * 120 + ".jpg"  # short enough for itself, not for its overlay while it is written


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a..b.jpg", "a..b.jpg"),
        ("IMG 1 .jpg", "IMG 1 .jpg"),
        ("two\nlines.jpg", r"two\nlines.jpg"),
        (NOT_UTF8, r"caf\udce9.jpg"),
        (LONG, LONG),
    ],
)
def test_a_name_that_cannot_be_used_is_a_line(holiday, model, tmp_path, capfd, name, shown):
    save_photograph(holiday / name)
    status, errors, made = segmented(capfd, model, holiday, out=tmp_path / "out")
    assert (status, len(errors), made) == (1, 1, ["good"])
    assert errors[0].startswith(f"error: {holiday / shown}: ")
    assert errors[0].endswith(": rename it")


def test_a_folder_without_images_is_a_line(holiday, model, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    paths = (tmp_path / "empty", holiday)
    status, errors, made = segmented(capfd, model, *paths, out=tmp_path / "out")
    assert (status, len(errors), made) == (1, 1, ["good"])
    assert errors[0].startswith(f"error: {tmp_path / 'empty'}: no .jpg")


def test_what_a_folder_holds_besides_is_told(holiday, model, capfd):
    """Photographs that cannot be read, and folders, but not that of the results."""
    (holiday / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (holiday / "day 2").mkdir()
    save_photograph(holiday / "day 2/more.jpg")
    for _ in range(2):
        words = [model, holiday, "--out", holiday / "out", "--scales", "1", "--no-crf"]
        status = segment_images.main([str(word) for word in words])
        notes = [line for line in capfd.readouterr().err.splitlines() if line.startswith("note: ")]
        assert status == 0 and len(notes) == 2
        assert "1 photographs that cannot be read (IMG_1.HEIC)" in notes[0]
        assert "(day 2/more.jpg): name these folders, too" in notes[1]


def test_two_of_one_name_are_a_line_each(holiday, model, tmp_path, capfd):
    (tmp_path / "other").mkdir()
    files = [holiday / "p.jpg", holiday / "p.png", tmp_path / "other/p.bmp"]
    for file in files:
        save_photograph(file)
    paths = (holiday, tmp_path / "other/p.bmp")
    status, errors, made = segmented(capfd, model, *paths, out=tmp_path / "out")
    assert (status, len(errors), made) == (1, 3, ["good"])
    for file, line in zip(files, errors, strict=True):
        assert line.startswith(f"error: {file}: its results would have the same name as those of")
        assert all(str(other) in line for other in files)
    assert not list((tmp_path / "out").glob("p*"))


def test_the_same_file_twice_is_one_photograph(holiday, model, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links/good.jpg").symlink_to(holiday / "good.jpg")
    paths = (holiday, "holiday/good.jpg", holiday / "good.jpg", "holiday/../links", "gone.jpg")
    status, errors, made = segmented(capfd, model, *paths, "./gone.jpg", out=tmp_path / "out")
    assert (status, errors, made) == (
        1,
        ["error: gone.jpg: no such file or directory"],
        ["good"],
    )


def test_nothing_of_an_earlier_run_stays_for_what_fails_now(holiday, model, tmp_path, capfd):
    out = tmp_path / "out"
    for name in ("bad", "same", "gone"):
        save_photograph(holiday / f"{name}.png")
    assert segmented(capfd, model, holiday, out=out)[::2] == (0, ["bad", "gone", "good", "same"])
    bystanders = ["bad.jpg", "bad_overlay.png", "a..b.png", "another.png"]
    for name in bystanders:
        save_photograph(out / name)
    (holiday / "bad.png").write_bytes(b"no image")
    (holiday / "gone.png").unlink()
    save_photograph(holiday / "same.jpg")
    save_photograph(holiday / "a..b.png")
    paths = (holiday, holiday / "gone.png")
    status, errors, made = segmented(capfd, model, *paths, out=out)
    assert (status, len(errors), made) == (1, 5, ["good"])
    expected = [*bystanders, "good.png", "good_overlay.jpg", "classes.csv", "masks.csv"]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)


def test_an_input_is_never_removed(holiday, model, tmp_path, capfd):
    """Two photographs of one name, one of which is called like the mask of the other."""
    save_photograph(holiday / "p.jpg")
    save_photograph(holiday / "p.png")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    save_photograph(elsewhere / "q.jpg")
    save_photograph(elsewhere / "q.tif")
    (holiday / "q_overlay.jpg").symlink_to(elsewhere / "q.jpg")  # and an input by itself
    (holiday / "q.png").mkdir()
    before = {path: path.read_bytes() for path in (holiday / "p.jpg", holiday / "p.png")}
    paths = (holiday, elsewhere / "q.jpg", elsewhere / "q.tif")
    status, errors, made = segmented(capfd, model, *paths, out=holiday)
    assert (status, len(errors), made) == (1, 4, ["good", "q_overlay"])
    assert {path: path.read_bytes() for path in before} == before
    assert (holiday / "q_overlay.jpg").is_symlink() and (holiday / "q.png").is_dir()
    assert len(list(elsewhere.iterdir())) == 2


# --- settings


def settings_of(model, *options):
    args = segment_images.parse([str(model), "photo.jpg", "--out", "out", *options])
    return segment_images.segmenter_of(args)


def test_the_default_is_the_papers_test_at_the_size_of_the_training(model):
    made = settings_of(model)
    recipe = read_recipe("paper")["prediction"]
    assert made.views | {"scales": list(made.views["scales"])} == recipe
    assert made.viewer.long_side == LONG_SIDE and made.viewer.precision == "fp32"
    assert made.crf == SEGMENTATION_CRF
    changed = settings_of(model, "--long-side", "0", "--precision", "bf16", "--no-crf")
    assert changed.viewer.long_side is None and changed.viewer.precision == "bf16"
    assert changed.crf.iterations == 0
    assert settings_of(model, "--long-side", "99").viewer.long_side == 99


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_large_a_photograph_is_a_line(model, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(segmenter, "predict", fail)
    with pytest.raises(InputError, match=r"20x10 pixels need more memory.*--long-side"):
        settings_of(model)(np.zeros((10, 20, 3), np.uint8))

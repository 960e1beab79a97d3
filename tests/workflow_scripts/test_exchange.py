"""CAMs and pseudo labels to other tools and back, by the commands."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from workflow_scripts import (
    export_cams,
    export_pseudo_labels,
    import_cams,
    make_pseudo_labels,
)
from workflow_scripts.jobs import command
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.storage.artifacts import ArtifactReader, ArtifactWriter


def run(command, *words):
    command.main([str(word) for word in words])


# --- a data set that learns two of the nineteen classes of its masks ----------------------------

CLASSES, VALUES = ("bird", "cat"), (3, 8)
SIZE = (20, 25)  # 3 x 4 at stride 8, 5 x 7 at stride 4
TRUTH = {"a": (0, 1), "b": (1,), "none": ()}  # the ids of the labels


@pytest.fixture
def index(tmp_path):
    (tmp_path / "photographs").mkdir()
    records = [
        ImageRecord(i, "train", False, f"{i}.jpg", None, 25, 20, tuple(CLASSES[k] for k in keys))
        for i, keys in TRUTH.items()
    ]
    made = DatasetIndex(tmp_path / "photographs", CLASSES, VALUES, tuple(records))
    write_dataset(made, tmp_path / "own")
    return made


def artifact(path, kind, index, records, **changes):
    """An artifact `own/<kind>.h5` from image id -> (array, attributes)."""
    who = {"dataset": "own", "index_digest": index.digest, "classes": list(CLASSES)}
    made = {"identity": who | {"seed": 0, "stage": 0} | changes, "parameters": {}, "sources": {}}
    with ArtifactWriter(path, kind, **made, expected=list(records)) as writer:
        for image_id, (array, attributes) in records.items():
            writer.write(image_id, array, **attributes)
    return path


def cams_of(image_id):
    random = np.random.default_rng(len(image_id))
    return random.random((len(TRUTH[image_id]), 3, 4)).astype(np.float16)


@pytest.fixture
def cams(index, tmp_path):
    records = {i: (cams_of(i), {"keys": list(keys), "size": SIZE}) for i, keys in TRUTH.items()}
    return artifact(tmp_path / "own/cams.h5", "cams", index, records)


def segmentation_of(image_id):
    random = np.random.default_rng(len(image_id))
    return random.choice(np.uint8([0, 1, 2, 255]), SIZE)


@pytest.fixture
def labels(index, tmp_path):
    saliency = np.random.default_rng(9).integers(0, 256, SIZE, np.uint8)
    maps = {i: {"saliency": saliency, "segmentation": segmentation_of(i)} for i in TRUTH}
    records = {i: (arrays, {}) for i, arrays in maps.items()}
    return artifact(tmp_path / "own/labels.h5", "pseudo_labels", index, records, variant="x")


def enlarged(maps, size):
    maps = torch.from_numpy(maps.astype(np.float32))[None]
    return F.interpolate(maps, size, mode="bilinear")[0].numpy()


def test_cams_for_psa(cams, tmp_path):
    words = ["--out", tmp_path / "out", "--data", tmp_path / "own", "--threads", 2]
    run(export_cams, cams, "--format", "psa", *words)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.npy", "b.npy", "none.npy"]
    found = np.load(tmp_path / "out/a.npy", allow_pickle=True).item()
    assert list(found) == [2, 7]  # one less than in the masks
    np.testing.assert_allclose(np.stack([*found.values()]), enlarged(cams_of("a"), SIZE), atol=1e-5)
    assert np.load(tmp_path / "out/none.npy", allow_pickle=True).item() == {}


def test_cams_for_irn(cams, tmp_path):
    run(export_cams, cams, "--format", "irn", "--out", tmp_path / "out")
    found = np.load(tmp_path / "out/b.npy", allow_pickle=True).item()
    assert found["keys"].tolist() == [7]
    np.testing.assert_allclose(found["cam"], enlarged(cams_of("b"), (5, 7)), atol=1e-5)
    np.testing.assert_allclose(found["high_res"], enlarged(cams_of("b"), SIZE), atol=1e-5)
    empty = np.load(tmp_path / "out/none.npy", allow_pickle=True).item()
    assert empty["keys"].shape == (0,) and empty["high_res"].shape == (0, *SIZE)


def test_pseudo_labels_have_the_values_of_the_masks(labels, tmp_path):
    out, grey = tmp_path / "labels", tmp_path / "saliency"
    run(export_pseudo_labels, labels, "--out", out, "--saliency", grey)
    for image_id in TRUTH:
        with Image.open(out / f"{image_id}.png") as png:
            assert png.mode == "P" and png.getpalette()[9:12] == [128, 128, 0]
            values, ids = np.array(png), segmentation_of(image_id)
        expected = {0: 0, 1: 3, 2: 8, 255: 255}
        assert {(i, v) for i, v in zip(ids.flat, values.flat, strict=True)} == set(expected.items())
        with Image.open(grey / f"{image_id}.png") as png:
            assert png.mode == "L"
            np.testing.assert_array_equal(
                np.array(png), np.random.default_rng(9).integers(0, 256, SIZE, np.uint8)
            )


def test_pseudo_labels_come_back_exactly(labels, index, tmp_path):
    run(export_pseudo_labels, labels, "--out", tmp_path / "out")
    for record in index.records:
        path = tmp_path / "out" / f"{record.image_id}.png"
        back = index.read_label_map(record, path)
        np.testing.assert_array_equal(back, segmentation_of(record.image_id))


def test_what_cannot_be_exported_is_refused(cams, labels, index, tmp_path):
    out = ["--out", tmp_path / "out"]
    with pytest.raises(InputError, match="holds pseudo_labels, not cams"):
        run(export_cams, labels, "--format", "psa", *out)
    shutil.copy(cams, tmp_path / "elsewhere.h5")
    with pytest.raises(InputError, match=r"elsewhere\.h5: no index\.csv above it"):
        run(export_cams, tmp_path / "elsewhere.h5", "--format", "psa", *out)
    records = {"a": (cams_of("a"), {"keys": [0, 1], "size": (99, 99)})}
    small = artifact(tmp_path / "own/small.h5", "cams", index, records)
    with pytest.raises(InputError, match="image a: its CAMs do not fit the index"):
        run(export_cams, small, "--format", "psa", *out)
    other = artifact(tmp_path / "own/other.h5", "cams", index, {"z": records["a"]})
    with pytest.raises(InputError, match="'z' is not in the index"):
        run(export_cams, other, "--format", "psa", *out)
    later = artifact(tmp_path / "own/later.h5", "cams", index, {}, stage=1, variant="x")
    with pytest.raises(InputError, match="made for stage 1, needed is 0"):
        run(export_cams, cams, later, "--format", "psa", *out)
    with pytest.raises(SystemExit):
        run(export_pseudo_labels, labels, *out, "--saliency", tmp_path / "own/../out")
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_made_is_one_line(cams, labels, tmp_path, no_folder, capsys):
    calls = [
        (export_cams, cams, "--format", "psa", "--out", no_folder),
        (export_cams, cams, "--format", "irn", "--out", no_folder),
        (export_pseudo_labels, labels, "--out", no_folder),
        (export_pseudo_labels, labels, "--out", tmp_path / "out", "--saliency", no_folder),
    ]
    for module, *words in calls:
        with pytest.raises(SystemExit) as ended:
            command.run(module.main, list(map(str, words)))
        said = capsys.readouterr().err
        assert ended.value.code == 1 and "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {no_folder}: the folder cannot be made (")


def import_folder(folder, tmp_path, pattern="{image_id}.npy", normalise="auto"):
    output = tmp_path / "imported.h5"
    files = {"folder": str(folder), "pattern": pattern, "normalise": normalise}
    settings = json.dumps(files)
    data = ["--data", tmp_path / "own", "--settings", settings, "--output", output]
    run(import_cams, *data, "--seed", 0, "--shard", 0, "--shards", 1)
    return ArtifactReader(output, "cams", seed=0, stage=0, split="train")


@pytest.mark.parametrize("style", ["psa", "irn"])
def test_imported_cams_are_the_exported_ones(cams, tmp_path, style):
    """Random cells are the worst case of the interpolations; see test_cam_files for others."""
    run(export_cams, cams, "--format", style, "--out", tmp_path / "out")
    (tmp_path / "out/none.npy").unlink()  # without labels nobody needs it
    back, original = import_folder(tmp_path / "out", tmp_path), ArtifactReader(cams, "cams")
    assert back.ids == original.ids
    for image_id in back.ids:
        one, other = back.read(image_id), original.read(image_id)
        assert one.attributes == other.attributes and one.array.dtype == np.float16
        np.testing.assert_allclose(one.array, other.array, atol=0.13)
        assert np.abs(one.array - other.array).sum() <= 0.04 * one.array.size


def test_what_an_import_did_is_told(index, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "cams"
    folder.mkdir()
    flat = np.full(SIZE, 0.5, np.float32)
    np.save(folder / "cam_a.npy", {2: flat, 7: flat, 11: flat})
    np.save(folder / "cam_b.npy", {7: 4 * flat})
    back = import_folder(folder, tmp_path, "cam_{image_id}.npy")
    assert (back.read("a").array == 0.5).all() and (back.read("b").array == 1).all()
    said = caplog.text
    assert "classes being no labels of their images: 1\n" in said
    assert "taken as they are: 1\n" in said
    assert "divided by their maxima: 1\n" in said
    assert "some images have maps within [0, 1] and some have not" in said
    caplog.clear()
    back = import_folder(folder, tmp_path, "cam_{image_id}.npy", "never")
    assert (back.read("a").array == 0.5).all() and (back.read("b").array == 2).all()
    assert "taken as they are: 2\n" in caplog.text and "some images" not in caplog.text
    back = import_folder(folder, tmp_path, "cam_{image_id}.npy", "always")
    assert (back.read("a").array == 1).all() and (back.read("b").array == 1).all()
    assert "divided by their maxima: 2\n" in caplog.text and "some images" not in caplog.text


@pytest.mark.parametrize("style", ["psa", "irn"])
def test_refined_cams_come_back_as_they_were(index, tmp_path, style):
    """Maxima above 1, and another one well below it in the same image."""
    flat = np.ones((2, 3, 4)) * np.reshape([1.4, 0.42], (2, 1, 1))
    records = {"a": (flat.astype(np.float16), {"keys": [0, 1], "size": SIZE})}
    refined = artifact(tmp_path / "own/c.h5", "cams", index, records, stage=1, variant="x")
    run(export_cams, refined, "--format", style, "--out", tmp_path / "out")
    np.save(tmp_path / "out/b.npy", {7: np.ones(SIZE, np.float32)})
    back = import_folder(tmp_path / "out", tmp_path, normalise="never")
    np.testing.assert_allclose(back.read("a").array, flat, rtol=2e-3)


def test_an_import_that_fails_leaves_nothing(index, tmp_path):
    folder = tmp_path / "cams"
    with pytest.raises(InputError, match=r"cam\.files\.folder: .*cams is not a folder"):
        import_folder(folder, tmp_path)
    folder.mkdir()
    with pytest.raises(InputError, match=r"2 of 2 CAM files are missing .*a\.npy, b\.npy"):
        import_folder(folder, tmp_path)
    flat = np.full(SIZE, 0.5, np.float32)
    np.save(folder / "a.npy", {2: flat, 7: flat})
    np.save(folder / "b.npy", {2: flat})
    with pytest.raises(InputError, match=r"b\.npy .* none of cat, a label of image b \(7 there\)"):
        import_folder(folder, tmp_path)
    assert not list(tmp_path.glob("*imported*"))


def test_given_labels_are_refused_by_name(index, labels, tmp_path):
    own = {"--data": tmp_path / "own", "--seed": 0, "--stage": 0, "--shard": 0, "--shards": 1}
    maps = {i: (np.full(SIZE, 99, np.uint8), {}) for i in TRUTH}
    own |= {"--saliency": artifact(tmp_path / "own/sal.h5", "saliency", index, maps)}
    own |= {"--variant": "x", "--output": tmp_path / "out.h5"}
    run(export_pseudo_labels, labels, "--out", tmp_path / "given")

    def make(folder):
        files = {"folder": str(folder), "pattern": "{image_id}.png"}
        settings = {
            "initial": "files",
            "files": files,
            "background": "off_the_shelf",
            "regions": "pixels",
        }
        words = (own | {"--settings": json.dumps(settings)}).items()
        run(make_pseudo_labels, *(word for pair in words for word in pair))

    (tmp_path / "given/none.png").unlink()  # a negative needs no file
    make(tmp_path / "given")
    made = ArtifactReader(tmp_path / "out.h5", "pseudo_labels")
    np.testing.assert_array_equal(made.read("a").array["segmentation"], segmentation_of("a"))
    assert (made.read("a").array["saliency"] == 99).all()
    assert not any(array.any() for array in made.read("none").array.values())
    with pytest.raises(InputError, match=r"pseudo_labels\.files\.folder: .*gone is not a folder"):
        make(tmp_path / "gone")
    Image.new("L", (20, 25)).save(tmp_path / "given/b.png")
    with pytest.raises(InputError, match=r"b\.png is 20x25, but the index has 25x20"):
        make(tmp_path / "given")
    Image.new("RGB", (25, 20)).save(tmp_path / "given/b.png")
    with pytest.raises(InputError, match=r"b\.png holds colours"):
        make(tmp_path / "given")
    (tmp_path / "given/b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 pseudo labels are missing .*: b\.png; add them"):
        make(tmp_path / "given")
    with pytest.raises(SystemExit):
        run(make_pseudo_labels, *(w for pair in own.items() for w in pair))

"""SBD's MATLAB files become SegmentationClassAug; what cannot be used is refused by name."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from called_here import called
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from workflow_scripts import convert_sbd
from wsss.configuration.data_sections import Dataset, Voc
from wsss.datasets.formats import build_index
from wsss.datasets.sbd import read_segmentation
from wsss.errors import InputError
from wsss.storage.palette import voc_palette, write_palette_png

WIDTH, HEIGHT = 30, 20


def sbd_struct(segmentation):
    """As in SBD: class ids, sparse outlines of the 20 classes, and which of them there are."""
    outlines = np.empty((20, 1), object)
    for number in range(20):
        outlines[number, 0] = csc_matrix(np.asarray(segmentation) == number + 1)
    present = np.setdiff1d(np.unique(segmentation), 0).reshape(-1, 1).astype(np.uint8)
    return {"Boundaries": outlines, "Segmentation": segmentation, "CategoriesPresent": present}


def save_sbd(path, segmentation, name="GTcls", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: sbd_struct(segmentation)}, do_compression=True, **options)
    return path


def segmentation_of(seed, values=21):
    rng = np.random.default_rng(seed)
    return rng.integers(0, values, (HEIGHT, WIDTH)).astype(np.uint8)


@pytest.fixture
def trees(tmp_path):
    """SBD with images a, b, c; VOC with photographs a to d and own masks of b and d."""
    sbd, voc = tmp_path / "benchmark_RELEASE/dataset", tmp_path / "VOCdevkit/VOC2012"
    (voc / "JPEGImages").mkdir(parents=True)
    for image_id in "abcd":
        Image.new("RGB", (WIDTH, HEIGHT)).save(voc / f"JPEGImages/{image_id}.jpg")
    for seed, image_id in enumerate("abc"):
        save_sbd(sbd / f"cls/{image_id}.mat", segmentation_of(seed))
    for seed, image_id in enumerate("bd", 10):
        mask = segmentation_of(seed)
        mask[0] = 255
        write_palette_png(voc / f"SegmentationClass/{image_id}.png", mask)
    return sbd, voc


def convert(sbd, voc, *more):
    convert_sbd.main([str(sbd), "--voc", str(voc), "--threads", "1", *map(str, more)])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_masks_of_sbd_and_vocs_own_unchanged(trees):
    sbd, voc = trees
    convert(sbd, voc)
    out = voc / "SegmentationClassAug"
    assert names(out) == ["a.png", "b.png", "c.png", "d.png"]
    for seed, image_id in ((0, "a"), (2, "c")):
        with Image.open(out / f"{image_id}.png") as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.array(mask), segmentation_of(seed))
            assert mask.getpalette()[: 21 * 3] == voc_palette()[:21].ravel().tolist()
    for image_id in "bd":
        own = voc / f"SegmentationClass/{image_id}.png"
        assert (out / own.name).read_bytes() == own.read_bytes()


def test_the_index_takes_them(trees):
    sbd, voc = trees
    convert(sbd.parent, voc)  # the folder that the archive unpacks to will do
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    masks = "/SegmentationClassAug/{0}.png"
    (lists / "train_aug.txt").write_text(
        "".join(f"/JPEGImages/{i}.jpg {masks.format(i)}\n" for i in "abc")
    )
    (lists / "val.txt").write_text("d\n")
    (voc.parents[1] / "labels.csv").write_text("image_id,labels\na,cat\nb,cat\nc,cat\nd,cat\n")
    section = Voc(scored_list=None, labels="labels.csv", masks="SegmentationClassAug")
    index = build_index(Dataset(name="a", format="voc", root=str(voc.parents[1]), voc=section))
    assert {r.image_id for r in index.records if r.scored} == set("abcd")
    record = index.record("c")
    assert record.mask == "VOCdevkit/VOC2012/SegmentationClassAug/c.png"
    assert np.array_equal(index.read_mask(record), segmentation_of(2))


def test_what_is_there_stays_unless_forced(trees):
    sbd, voc = trees
    out = voc / "elsewhere"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    convert(sbd, voc, "--out", out)
    assert (out / "a.png").read_bytes() == b"mine" and len(names(out)) == 4
    convert(sbd, voc, "--out", out, "--force")
    assert np.array_equal(np.array(Image.open(out / "a.png")), segmentation_of(0))


@pytest.mark.parametrize("folder", ["SegmentationClass", "../../benchmark_RELEASE/dataset/cls"])
def test_sources_are_never_written_over(trees, folder):
    sbd, voc = trees
    before = names(voc / folder)
    with pytest.raises(InputError, match=r"--out .* holds what the masks are made from"):
        convert(sbd, voc, "--out", voc / folder, "--force")
    assert names(voc / folder) == before


def test_an_out_that_cannot_be_made_is_one_line(trees, no_folder):
    with pytest.raises(InputError) as caught:
        convert(*trees, "--out", no_folder)
    assert str(caught.value).startswith(f"--out {no_folder}: the folder cannot be made (")


# --- files that cannot be used


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


UNREADABLE = "is damaged, or holds no struct GTcls with a field Segmentation"
BAD_FILES = {
    "empty": (lambda path: path.write_bytes(b""), UNREADABLE),
    "text": (lambda path: path.write_text("x" * 500), UNREADABLE),
    "version 4": (lambda path: savemat(path, {"GTcls": np.eye(3)}, format="4"), UNREADABLE),
    "HDF5": (lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(600)), UNREADABLE),
    "truncated": (truncated, UNREADABLE),
    "flipped": (flipped, UNREADABLE),
    "no struct": (lambda path: savemat(path, {"GTcls": np.eye(3)}), UNREADABLE),
    "other name": (lambda path: save_sbd(path, segmentation_of(0), "GTinst"), UNREADABLE),
    "other fields": (lambda path: savemat(path, {"GTcls": {"Seg": 1}}), UNREADABLE),
    "two structs": (
        lambda path: savemat(path, {"GTcls": np.zeros((1, 2), [("Segmentation", object)])}),
        UNREADABLE,
    ),
    "text inside": (lambda path: savemat(path, {"GTcls": {"Segmentation": "cat"}}), "no map"),
    "colours": (
        lambda path: savemat(path, {"GTcls": {"Segmentation": np.zeros((HEIGHT, WIDTH, 3))}}),
        "is no map of numbers",
    ),
    "class 21": (lambda path: save_sbd(path, segmentation_of(0, 22)), "holds 21, but"),
    "void": (lambda path: save_sbd(path, np.full((HEIGHT, WIDTH), 255, np.uint8)), "holds 255"),
    "halves": (lambda path: save_sbd(path, np.full((HEIGHT, WIDTH), 0.5)), "holds 0.5"),
    "negative": (lambda path: save_sbd(path, np.full((HEIGHT, WIDTH), -1)), "holds -1"),
    "turned": (
        lambda path: save_sbd(path, segmentation_of(0).T),
        f"is {HEIGHT}x{WIDTH}, its photograph {WIDTH}x{HEIGHT}",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_cannot_be_used_are_named(trees, name):
    sbd, voc = trees
    spoil, complaint = BAD_FILES[name]
    spoil(sbd / "cls/a.mat")
    with pytest.raises(
        InputError, match=rf"1 of 4 masks not made: .*a\.mat.*{complaint}"
    ) as caught:
        convert(sbd, voc)
    assert "\n" not in str(caught.value)
    # The others are there, and nothing half-done.
    assert names(voc / "SegmentationClassAug") == ["b.png", "c.png", "d.png"]


def test_a_mended_file_completes_the_folder(trees):
    sbd, voc = trees
    truncated(sbd / "cls/a.mat")
    with pytest.raises(InputError):
        convert(sbd, voc)
    before = (voc / "SegmentationClassAug/c.png").stat().st_mtime_ns
    save_sbd(sbd / "cls/a.mat", segmentation_of(5))
    convert(sbd, voc)
    assert len(names(voc / "SegmentationClassAug")) == 4
    assert (voc / "SegmentationClassAug/c.png").stat().st_mtime_ns == before


def test_other_ways_to_save_the_same(tmp_path):
    """Not compressed, as doubles, beside another variable."""
    expected = segmentation_of(3)
    struct_of = sbd_struct(expected.astype(float))
    savemat(tmp_path / "double.mat", {"GTcls": struct_of, "other": "x"}, do_compression=False)
    assert np.array_equal(read_segmentation(tmp_path / "double.mat"), expected)


def test_vocs_own_masks_are_looked_at_too(trees):
    sbd, voc = trees
    write_palette_png(voc / "SegmentationClass/b.png", np.full((HEIGHT, WIDTH), 21, np.uint8))
    write_palette_png(voc / "SegmentationClass/d.png", np.zeros((WIDTH, HEIGHT), np.uint8))
    with pytest.raises(InputError, match=r"2 of 4.*b\.png holds values.*d\.png is 20x30"):
        convert(sbd, voc)


def test_missing_folders_and_photographs_are_named(trees, tmp_path):
    sbd, voc = trees
    with pytest.raises(InputError, match=r"holds no cls/<id>\.mat"):
        convert(tmp_path, voc)
    with pytest.raises(InputError, match="SegmentationClass does not exist"):
        convert(sbd, tmp_path)
    (voc / "JPEGImages/a.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 4 masks not made: image .*a\.jpg does not exist"):
        convert(sbd, voc)


def test_the_command_on_two_processes(trees):
    sbd, voc = trees
    command = [sys.executable, "-m", "workflow_scripts.convert_sbd", str(sbd), "--voc", str(voc)]
    done = subprocess.run([*command, "--threads", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 masks in" in done.stderr and "2 of VOC, 2 of SBD" in done.stderr
    truncated(sbd / "cls/c.mat")
    status, _, said = called(convert_sbd, sbd, "--voc", voc, "--threads", 1, "--force")
    assert status == 1 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: 1 of 4 masks not made: ")


def test_a_killed_run_leaves_no_half_mask(trees):
    sbd, voc = trees
    for number in range(1000):
        os.link(voc / "JPEGImages/a.jpg", voc / f"JPEGImages/n{number}.jpg")
        os.link(sbd / "cls/a.mat", sbd / f"cls/n{number}.mat")
    command = [sys.executable, "-m", "workflow_scripts.convert_sbd", str(sbd), "--voc", str(voc)]
    out = voc / "SegmentationClassAug"
    with subprocess.Popen(
        [*command, "--threads", "1"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as run:
        deadline = time.monotonic() + 60
        while not (out.is_dir() and len(names(out)) > 5):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        run.kill()
    done = [path for path in out.glob("n*.png") if not path.name.startswith(".")]
    assert len(done) < 1000  # it was stopped on its way
    for path in done:
        assert np.array_equal(np.array(Image.open(path)), segmentation_of(0))
    convert(sbd, voc)
    assert sorted(p.name for p in out.iterdir() if p.name[0] != ".") == sorted(
        f"{i}.png" for i in [*"abcd", *(f"n{number}" for number in range(1000))]
    )

"""CAMs in the files of PSA and IRN, as those tools write them, and as stage 0 takes them."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from repository import ROOT
from torch.nn import functional as F

from wsss.configuration.method_sections import CamFiles
from wsss.datasets.cam_files import (
    WRITERS,
    ImportedCams,
    as_initial_cams,
    file_classes,
    read_cam_file,
    strided_size,
)
from wsss.datasets.files_per_image import FilesPerImage
from wsss.datasets.index import DatasetIndex, ImageRecord
from wsss.errors import InputError
from wsss.method import cam

SIZE = (45, 62)  # 12 x 16 at stride 4, 6 x 8 at stride 8


def maps(count, size=SIZE, seed=0):
    return np.random.default_rng(seed).random((count, *size)).astype(np.float32)


def save_psa(path, found):
    """As PSA's infer_cls.py: a dict that numpy pickles."""
    np.save(path, found)
    return path


def save_irn(path, keys, strided, high_res):
    """As IRN's make_cam.py: tensors, but for high_res."""
    content = {"keys": torch.tensor(keys), "cam": torch.from_numpy(strided).cpu()}
    np.save(path, content | ({} if high_res is None else {"high_res": high_res}))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "im.npy"


def test_psa_is_read(path):
    values = maps(2)
    found = read_cam_file(save_psa(path, {3: values[0], np.int64(14): values[1]}), SIZE)
    assert list(found) == [3, 14]
    np.testing.assert_array_equal(np.stack([*found.values()]), values)
    assert read_cam_file(save_psa(path, {}), SIZE) == {}


def test_irn_is_read_by_its_finest_maps(path):
    strided, high_res = maps(2, (12, 16)), maps(2)
    found = read_cam_file(save_irn(path, [3, 14], strided, high_res), SIZE)
    assert list(found) == [3, 14]
    np.testing.assert_array_equal(np.stack([*found.values()]), high_res)
    found = read_cam_file(save_irn(path, [3, 14], strided, None), SIZE)
    np.testing.assert_array_equal(np.stack([*found.values()]), strided)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions_become_float32(path, dtype):
    values = maps(1).astype(dtype)
    found = read_cam_file(save_psa(path, {0: values[0]}), SIZE)
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], values[0].astype(np.float32))


@pytest.mark.parametrize("classes", [[], [4], [0, 7, 19]])
def test_other_tools_read_what_is_written(path, classes):
    """The very statements by which PSA and IRN load their files."""
    full, strided = maps(len(classes)), maps(len(classes), (12, 16))
    WRITERS["psa"](path, classes, full, strided)
    cams = np.load(path, allow_pickle=True).item()
    assert list(cams) == classes
    assert all(m.shape == SIZE and m.dtype == np.float32 for m in cams.values())
    WRITERS["irn"](path, classes, full, strided)
    cams = np.load(path, allow_pickle=True).item()
    padded = np.pad(cams["keys"] + 1, (1, 0), mode="constant")
    assert padded.tolist() == [0, *(c + 1 for c in classes)]
    assert torch.equal(cams["cam"], torch.from_numpy(strided))
    np.testing.assert_array_equal(cams["high_res"], full)
    assert list(path.parent.iterdir()) == [path]


class Command:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({0: ones(62, 45)}, r"class 0 has the shape \(62, 45\), its image needs \(45, 62\)"),
        ({0: ones(1, *SIZE)}, "class 0 has the shape"),
        ({0: np.full(SIZE, np.nan, np.float32)}, "class 0 has values that are not finite"),
        ({0: np.full(SIZE, 1e300)}, "class 0 has values that are not finite"),
        ({0: np.ones(SIZE, np.uint8)}, "class 0 is no array of floating-point"),
        ({0: [[1.0]]}, "class 0 is no array of floating-point"),
        ({"cat": ones(*SIZE)}, "its dict has cat"),
        ([ones(*SIZE)], "not a dict"),
        (None, "no dict"),
        ({"keys": np.array([0]), "high_res": ones(2, *SIZE)}, "has keys 0, but 2 maps high_res"),
        ({"keys": np.array([0]), "cam": ones(1, 11, 16)}, r"image needs \(1, 12, 16\)"),
        ({"keys": np.array([0]), "cam": ones(1, 11, 16), "high_res": ones(1, *SIZE)}, "cam has"),
        ({"keys": np.array([0])}, "it has keys, but none of high_res, hr_cam, attn_highres, cam"),
        ({"keys": np.array([0]), "rw": ones(1, *SIZE)}, "it has keys, rw, but none of"),
        ({"keys": np.array([3, 4]), "hr_cam": ones(1, *SIZE)}, "has keys 3, 4, but 1 maps hr_cam"),
        ({"keys": np.array([0.5]), "cam": ones(1, 12, 16)}, "keys are not"),
        ({"keys": "cat", "cam": ones(1, 12, 16)}, "keys are not"),
        ({"keys": torch.tensor([0]), "cam": torch.ones(1, 12, 16).to_sparse()}, "malicious"),
        (Command("true"), r"system.*malicious"),
        ({0: Command("true")}, r"system.*malicious"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)
def test_bad_files_are_one_line_with_their_name(path, content, complaint):
    np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError, match=complaint) as caught:
        read_cam_file(path, SIZE)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_and_missing_files_are_named(path):
    save_irn(path, [0, 2], maps(2, (12, 16)), maps(2))
    whole = path.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"CAM file .*im\.npy cannot be used"):
            read_cam_file(path, SIZE)
    path.unlink()
    with pytest.raises(InputError, match=r"im\.npy cannot be used .*No such file"):
        read_cam_file(path, SIZE)


# --- as CAMs of stage 0 ------------------------------------------------------------------------


def test_unnormalised_maps_become_cams_of_stage_0():
    raw = 9 * maps(3) - 2
    cams, divided = as_initial_cams(raw, SIZE, "auto")
    assert divided and cams.dtype == np.float16 and cams.shape == (3, 6, 8)
    rectified = torch.from_numpy(raw).clamp(min=0)[None]
    grid = F.interpolate(rectified, (6, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(cams, cam.normalise(grid)[0], atol=1e-3)


def test_normalised_maps_keep_their_values():
    values = np.full((1, *SIZE), 0.25, np.float32)
    cams, divided = as_initial_cams(values, SIZE, "auto")
    assert not divided and (cams == 0.25).all()
    cams, divided = as_initial_cams(values - 0.5, SIZE, "auto")
    assert not divided and (cams == 0).all()


def test_no_maps_are_no_cams():
    cams, divided = as_initial_cams([], SIZE, "auto")
    assert cams.shape == (0, 6, 8) and cams.dtype == np.float16 and not divided


def test_maps_are_divided_where_the_setting_says_so():
    low, high = np.full((2, *SIZE), 0.25, np.float32), np.full((2, *SIZE), 0.25, np.float32)
    high[1] = 1.5
    expected = {
        "auto": ((0.25, 0.25), (1, 1)),
        "always": ((1, 1), (1, 1)),
        "never": ((0.25, 0.25), (0.25, 1.5)),
    }
    for normalise, pair in expected.items():
        for values, levels in zip((low, high), pair, strict=True):
            cams, divided = as_initial_cams(values, SIZE, normalise)
            assert cams[:, 0, 0].tolist() == pytest.approx(levels, abs=1e-3)
            assert divided == (tuple(values[:, 0, 0]) != levels)
    assert (as_initial_cams(low - 0.5, SIZE, "never")[0] == 0).all()
    assert (as_initial_cams(low - 0.5, SIZE, "always")[0] == 0).all()


def there_and_back(path, style, cams, size, normalise="auto"):
    """Float16 CAMs after an export to a file and an import from it."""
    maps = torch.from_numpy(cams).float()
    full, strided = (
        F.interpolate(maps[None], to, mode="bilinear")[0].numpy()
        for to in (size, strided_size(size, 4))
    )
    WRITERS[style](path, list(range(len(cams))), full, strided)
    back, _ = as_initial_cams([*read_cam_file(path, size).values()], size, normalise)
    assert back.shape == cams.shape
    return back.astype(np.float32)


def blob(grid, centre, deviation):
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]]
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * deviation**2))


def smooth_maps(grid, deviation, count=20):
    """Maps with the maximum 1 that change over `deviation` cells: blobs, edges and waves."""
    random = np.random.default_rng(0)
    corner = np.array(grid) - 1
    yield blob(grid, np.array(grid) // 2, deviation)
    for _ in range(count):
        yield blob(grid, random.random(2) * corner, deviation)
        several = sum(
            random.uniform(0.3, 1) * blob(grid, random.random(2) * corner, deviation)
            for _ in range(6)
        )
        yield several / several.max()
    y, x = np.mgrid[0 : grid[0], 0 : grid[1]] - corner[:, None, None] / 2
    for angle in np.linspace(0, np.pi, 7):
        along = (x * np.cos(angle) + y * np.sin(angle)) / deviation
        yield 1 / (1 + np.exp(-1.7 * along))  # nearly a Gaussian's integral
        yield (1 + np.cos(along)) / 2


@pytest.mark.parametrize("style", ["psa", "irn"])
def test_smooth_maps_there_and_back_again(path, style):
    """The figure of docs/exchange.md, which is reached: of maps that change over two cells or more.

    Sampling at the centres, half-way between pixels, misses a peak of the interpolation by up to
    1/32 of the second difference per axis, and by a little more where a side is no multiple of 8.
    """
    worst = 0
    for size in ((45, 62), (100, 100), (375, 500), (333, 500)):
        for deviation in (2, 3, 5):
            maps = np.array([*smooth_maps(strided_size(size, 8), deviation)], np.float16)
            back = there_and_back(path, style, maps, size)
            worst = max(worst, np.abs(back - maps.astype(np.float32)).max())
    assert 0.013 < worst <= 0.016
    assert "at most 0.016 of the maximum" in (ROOT / "docs/exchange.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("style", ["psa", "irn"])
@pytest.mark.parametrize("size", [SIZE, (375, 500), (8, 8)])
def test_there_and_back_again(path, style, size):
    """Random cells are as rough as can be."""
    maps = np.random.default_rng(0).random((1, *strided_size(size, 8))).astype(np.float16)
    np.testing.assert_allclose(there_and_back(path, style, maps, size), maps, atol=0.13)


@pytest.mark.parametrize("style", ["psa", "irn"])
def test_refined_maps_there_and_back_again(path, style):
    """Rows of the affinity do not sum to 1: nor do these maps peak at 1."""
    grid = strided_size((375, 500), 8)
    first, second = blob(grid, (20, 20), 5), blob(grid, (30, 50), 5)
    maps = np.array([1.4 * first, 0.42 * second], np.float16)
    back = there_and_back(path, style, maps, (375, 500), "never")
    np.testing.assert_allclose(back, maps, atol=1.4 * 0.016)
    assert back.max((1, 2)).tolist() == pytest.approx([1.4, 0.42], rel=0.016)
    back = there_and_back(path, style, maps, (375, 500), "auto")
    assert back.max((1, 2)).tolist() == pytest.approx([1, 1], abs=1e-3)


# --- the files of a data set -------------------------------------------------------------------


@pytest.fixture
def index(tmp_path):
    """Three images; a data set that learns the third and the eighth class of its masks."""
    labels = {"a": ("cat", "bird"), "b": ("cat",), "none": ()}
    records = [
        ImageRecord(i, "train", False, f"{i}.jpg", None, SIZE[1], SIZE[0], names)
        for i, names in labels.items()
    ]
    return DatasetIndex(tmp_path, ("bird", "cat"), (3, 8), tuple(records))


@pytest.fixture
def imported(index, tmp_path):
    return ImportedCams(
        index, FilesPerImage(tmp_path, "{image_id}_cam.npy", "CAM files", "cam.files"), "auto"
    )


def test_classes_are_those_of_the_masks(index, imported, tmp_path):
    values = maps(3)
    save_psa(tmp_path / "a_cam.npy", {7: values[0], 2: values[1], 19: values[2]})
    keys, cams, _, surplus = imported(index.record("a"))
    assert (file_classes(index), keys, surplus) == ([2, 7], [0, 1], 1)
    np.testing.assert_array_equal(cams, as_initial_cams(values[[1, 0]], SIZE, "auto")[0])


def test_an_image_without_labels_needs_no_file(index, imported):
    keys, cams, divided, surplus = imported(index.record("none"))
    assert (keys, cams.shape, divided, surplus) == ([], (0, 6, 8), False, 0)


def test_missing_files_are_listed_before_any_work(index, imported, tmp_path):
    with pytest.raises(InputError, match=r"2 of 2 CAM files are missing in .*: a_cam\.npy, b_cam"):
        imported.check(index.records)
    save_psa(tmp_path / "a_cam.npy", {})
    with pytest.raises(InputError, match=r"1 of 2 .*: b_cam\.npy; add them, or correct cam\.files"):
        imported.check(index.records)


def test_a_label_without_a_map_is_named(index, imported, tmp_path):
    save_psa(tmp_path / "a_cam.npy", {0: maps(1)[0], 7: maps(1)[0]})
    with pytest.raises(InputError, match=r"a_cam\.npy has .* 0, 7, and none of bird, a label of"):
        imported(index.record("a"))


def test_values_that_are_kept_fit_float16(index, tmp_path):
    files = CamFiles(folder=str(tmp_path), pattern="{image_id}_cam.npy", normalise="never")
    kept = ImportedCams.of_settings(index, files)
    flat = np.ones(SIZE, np.float32)
    save_psa(tmp_path / "b_cam.npy", {7: 1.8 * flat})
    _, cams, divided, _ = kept(index.record("b"))
    assert not divided and cams.max() == np.float16(1.8)
    save_psa(tmp_path / "b_cam.npy", {7: 7e4 * flat})
    with pytest.raises(InputError, match=r"b_cam\.npy: .* 7e\+04 .* cam\.files\.normalise to auto"):
        kept(index.record("b"))
    always = ImportedCams.of_settings(index, files.model_copy(update={"normalise": "always"}))
    assert always(index.record("b"))[1].max() == 1


# --- files that count the background -----------------------------------------------------------


def probabilities(count):
    """As a CRF leaves them: they sum to 1 in each pixel."""
    values = maps(count)
    return values / values.sum(axis=0)


def test_puzzlecam_has_one_key_more_than_maps(path):
    """As its inference_classification.py: keys padded by the background, maps not."""
    strided, full = maps(2, (12, 16)), maps(2)
    keys = np.pad(np.array([3, 14]) + 1, (1, 0))
    np.save(path, {"keys": keys, "cam": torch.from_numpy(strided), "hr_cam": full})
    found = read_cam_file(path, SIZE)
    assert list(found) == [3, 14]
    np.testing.assert_array_equal(np.stack([*found.values()]), full)


def test_clip_es_has_its_maps_by_another_name(path):
    full = maps(2).astype(np.float16)
    np.save(path, {"keys": np.array([3, 14]), "attn_highres": full})
    found = read_cam_file(path, SIZE)
    assert list(found) == [3, 14]
    np.testing.assert_array_equal(np.stack([*found.values()]), full.astype(np.float32))


def settings_in(folder):
    return CamFiles(folder=str(folder), pattern="{image_id}_cam.npy", normalise="never")


def save_with_background(folder, image_id, keys, values, style):
    path = folder / f"{image_id}_cam.npy"
    if style == "dict":
        return save_psa(path, dict(zip(keys, values, strict=True)))
    np.save(path, {"keys": np.array(keys), "high_res": values})


@pytest.mark.parametrize("style", ["dict", "keys"])
def test_maps_of_the_background_are_left_out(index, tmp_path, style):
    """As PSA's infer_cls.py writes its CRF's result: 0, and each class one higher."""
    both, one = probabilities(3), probabilities(2)
    save_with_background(tmp_path, "a", [0, 3, 8], both, style)
    save_with_background(tmp_path, "b", [0, 8], one, style)
    imported = ImportedCams.of_settings(index, settings_in(tmp_path))
    keys, cams, _, surplus = imported(index.record("a"))
    assert (keys, surplus) == ([0, 1], 0)
    np.testing.assert_array_equal(cams, as_initial_cams(both[1:], SIZE, "never")[0])
    np.testing.assert_array_equal(
        imported(index.record("b"))[1], as_initial_cams(one[1:], SIZE, "never")[0]
    )


def two_classes(tmp_path):
    """Its first class is 0 without a background and 1 with one: the keys 0, 1 fit both."""
    labels = {"a": ("bird",), "b": ("bird", "cat"), "c": ("cat",)}
    records = [
        ImageRecord(i, "train", False, f"{i}.jpg", None, SIZE[1], SIZE[0], names)
        for i, names in labels.items()
    ]
    return DatasetIndex(tmp_path, ("bird", "cat"), (1, 2), tuple(records))


def test_keys_that_fit_both_are_decided_by_the_values(tmp_path):
    index, values = two_classes(tmp_path), probabilities(2)
    save_psa(tmp_path / "a_cam.npy", {0: values[0], 1: values[1]})
    _, cams, *_ = ImportedCams.of_settings(index, settings_in(tmp_path))(index.record("a"))
    np.testing.assert_array_equal(cams, as_initial_cams(values[1:], SIZE, "never")[0])
    values = maps(2)
    save_psa(tmp_path / "a_cam.npy", {0: values[0], 1: values[1]})
    _, cams, *_ = ImportedCams.of_settings(index, settings_in(tmp_path))(index.record("a"))
    np.testing.assert_array_equal(cams, as_initial_cams(values[:1], SIZE, "never")[0])


@pytest.mark.parametrize("other", [[0, 2], [0, 1, 2]])
def test_keys_that_fit_both_are_decided_by_the_other_files(tmp_path, other):
    """A background that is no probability: only the labels tell."""
    index, values = two_classes(tmp_path), maps(3)
    save_psa(tmp_path / "a_cam.npy", {0: values[0], 1: values[1]})
    save_psa(tmp_path / "c_cam.npy", dict(zip(other, values, strict=False)))
    _, cams, *_ = ImportedCams.of_settings(index, settings_in(tmp_path))(index.record("a"))
    np.testing.assert_array_equal(cams, as_initial_cams(values[1:2], SIZE, "never")[0])


def test_a_folder_of_both_kinds_is_refused(tmp_path):
    index, values = two_classes(tmp_path), maps(2)
    save_psa(tmp_path / "a_cam.npy", {0: values[0]})
    save_psa(tmp_path / "c_cam.npy", {0: values[0], 2: values[1]})
    imported = ImportedCams.of_settings(index, settings_in(tmp_path))
    with pytest.raises(
        InputError, match=r"a_cam\.npy has the keys 0, where 0 is a class; in other"
    ):
        imported(index.record("a"))
    with pytest.raises(InputError, match=r"c_cam\.npy has the keys 0, 2, where 0 is a background"):
        replace(imported, background=False)(index.record("c"))

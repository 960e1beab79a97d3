"""Pictures: what is in the pixels, and what the commands that draw refuse."""

import csv

import cv2
import numpy as np
import pytest
from PIL import Image

from workflow_scripts import draw_curves, draw_strip
from wsss.datasets.index import DatasetIndex, ImageRecord, write_dataset
from wsss.errors import InputError
from wsss.reports import curves, drawing
from wsss.reports.chosen_images import choose
from wsss.reports.drawing import Tile
from wsss.storage.artifacts import ArtifactWriter
from wsss.storage.palette import voc_palette, write_palette_png

CLASSES = ("cat", "dog")
SIZE = (30, 40)

# --- maps ----------------------------------------------------------------------------------------


def test_colourise_uses_the_colours_of_voc():
    labels = np.array([[0, 1, 2, 15]], np.uint8)
    # VOC's published colours of background, aeroplane, bicycle and person.
    assert drawing.colourise(labels).tolist() == [
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]
    ]


def test_the_colours_of_80_classes_can_be_told_apart():
    palette = drawing.class_palette()
    np.testing.assert_array_equal(palette[:21], voc_palette()[:21])
    labels = np.arange(81, dtype=np.uint8)[None]
    grey = np.uint8(drawing.IGNORED_COLOURS)[None]
    pictures = np.concatenate([drawing.colourise(labels), grey], axis=1)
    colours = cv2.cvtColor(np.float32(pictures / 255), cv2.COLOR_RGB2LAB)[0]
    differences = np.linalg.norm(colours[:, None] - colours, axis=-1)
    # 2 is just seen side by side. VOC's palette would have 2.6; its own 21 colours have 8.7.
    for value in range(21, 81):
        assert np.delete(differences[value], value).min() > 20


def test_ignored_pixels_are_hatched_grey():
    picture = drawing.colourise(np.full((20, 20), 255, np.uint8))
    colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
    assert len(colours) == 2
    assert all(red == green == blue > 128 for red, green, blue in colours)


def test_overlay_leaves_background_and_blends_objects():
    image = np.full((9, 9, 3), 100, np.uint8)
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1
    tinted = drawing.overlay(image, labels, 0.5)
    assert (tinted[labels == 0] == 100).all()
    assert tinted[4, 4].tolist() == [114, 50, 50]  # half way from 100 to (128, 0, 0)
    assert tinted[2, 2].tolist() == [128, 0, 0]  # the outline
    assert (image == 100).all()


def test_heat_rises_from_blue_to_red():
    low, middle, high = drawing.heat(np.array([[0.1, 0.5, 0.95]]))[0].astype(int)
    assert low[2] > low[0] and high[0] > high[2] and middle[1] > max(middle[0], middle[2])
    assert (drawing.heat(np.array([[-1.0, 2.0]])) == drawing.heat(np.array([[0.0, 1.0]]))).all()


def test_fitted_size_fills_the_box_with_the_shape_of_the_image():
    assert drawing.fitted_size((300, 400), (100, 100)) == (75, 100)
    assert drawing.fitted_size((400, 300), (100, 100)) == (100, 75)
    assert drawing.fitted_size((1, 5000), (100, 100)) == (1, 100)


# --- legends and panels --------------------------------------------------------------------------


def test_legend_names_what_occurs():
    assert drawing.legend_entries([255, 2, 0, np.uint8(1)], CLASSES) == [
        (0, "background"),
        (1, "cat"),
        (2, "dog"),
        (255, "ignored"),
    ]
    assert drawing.class_name(7, CLASSES) == "unknown class 7"


def test_legend_shows_each_colour_and_breaks_lines():
    entries = [(i, f"class number {i}") for i in range(1, 9)]
    wide, narrow = drawing.legend(entries, 1600), drawing.legend(entries, 300)
    assert wide.shape[1] == 1600 and narrow.shape[1] == 300
    assert narrow.shape[0] > wide.shape[0]
    for picture in (wide, narrow):
        colours = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
        swatches = drawing.colourise(np.arange(1, 9, dtype=np.uint8)[None])[0]
        assert {tuple(c) for c in swatches.tolist()} <= colours


def test_panels_align_columns_and_centre_pictures():
    red = np.zeros((50, 80, 3), np.uint8) + np.uint8([255, 0, 0])
    narrow = np.zeros((50, 40, 3), np.uint8) + np.uint8([0, 0, 255])
    picture = drawing.panels([[Tile(red, "a"), Tile(red, "b" * 99)], [Tile(red), Tile(narrow)]], 80)
    assert picture.shape[1] == 2 * drawing.MARGIN + 2 * 80 + drawing.GAP
    is_red = (picture == [255, 0, 0]).all(axis=2)
    is_blue = (picture == [0, 0, 255]).all(axis=2)
    assert is_red.sum() == 3 * red.shape[0] * red.shape[1]
    assert is_blue.sum() == narrow.shape[0] * narrow.shape[1]
    centre_of_blue = np.flatnonzero(is_blue.any(axis=0)).mean()
    second_column = np.flatnonzero(is_red[:80].any(axis=0))[80:]
    assert centre_of_blue == pytest.approx(second_column.mean(), abs=0.5)


def test_panels_take_empty_places_and_rows_of_different_length():
    tile = Tile(np.zeros((10, 10, 3), np.uint8))
    assert drawing.panels([[tile, Tile(None), tile], [tile]], 10).shape[2] == 3


def test_tile_width_keeps_a_panel_within_its_width():
    for columns in (1, 5, 12):
        width = drawing.panel_tile_width(columns, 1600)
        tiles = [Tile(np.zeros((4, width, 3), np.uint8))] * columns
        assert 1600 - columns < drawing.panels([tiles], width).shape[1] <= 1600


def test_save_picture_keeps_to_the_limit_and_leaves_nothing_behind(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    drawing.save_picture(tmp_path / "free.png", noise)
    drawing.save_picture(tmp_path / "small.png", noise, max_bytes=60_000)
    assert np.array_equal(np.array(Image.open(tmp_path / "free.png")), noise)
    assert (tmp_path / "small.png").stat().st_size <= 60_000
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        drawing.save_picture(tmp_path / "picture.gif", noise)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["free.png", "small.png"]


# --- curves --------------------------------------------------------------------------------------


def write_log(path, epochs, **losses):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "epoch", "learning_rate", "loss", *losses])
        for step in range(1, 2 * epochs + 1):
            row = [value / step for value in losses.values()]
            writer.writerow([step, step / 2, 0.01 / step, sum(row), *row])


def test_curves_lie_one_run_after_the_other(tmp_path):
    write_log(tmp_path / "classifier.csv", 3, classification=0.7)
    write_log(tmp_path / "stage.csv", 2, classification=0.2, segmentation=1.0)
    logs = {name: curves.read_log(tmp_path / f"{name}.csv") for name in ("classifier", "stage")}
    losses, rates = curves.draw_curves(logs).axes
    spans = {}
    for line in losses.get_lines():
        epochs = line.get_xdata()
        spans.setdefault(line.get_label(), []).append((epochs[0], epochs[-1]))
    assert spans["classification"] == [(0.5, 3.0), (3.5, 5.0)]
    assert spans["segmentation"] == [(3.5, 5.0)]
    assert spans["total"] == [(3.5, 5.0)]  # a classifier's total is its only loss
    assert {text.get_text() for text in losses.texts} == {"classifier", "stage"}
    assert rates.get_lines()[0].get_ydata()[0] == 0.01


def test_a_run_of_no_steps_is_left_out_of_the_curves(tmp_path):
    (tmp_path / "classifier.csv").write_text("step,epoch,learning_rate,loss\n")
    write_log(tmp_path / "stage.csv", 2, classification=0.2, segmentation=1.0)
    logs = {name: curves.read_log(tmp_path / f"{name}.csv") for name in ("classifier", "stage")}
    assert set(map(len, logs["classifier"].values())) == {0}
    losses, rates = curves.draw_curves(logs).axes
    assert [text.get_text() for text in losses.texts] == ["stage"]
    assert rates.get_xlim() == (0, 2)
    with pytest.raises(InputError, match="no rows"):
        curves.draw_curves({"classifier": logs["classifier"]})


def test_draw_curves_writes_the_same_picture_twice(tmp_path):
    write_log(tmp_path / "log.csv", 2, classification=0.7)
    for name in ("a.png", "b.png"):
        arguments = ["--logs", f"stage 0={tmp_path}/log.csv", "--output", str(tmp_path / name)]
        draw_curves.main(arguments)
    assert Image.open(tmp_path / "a.png").width > 500
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "without epoch"),
        ("a,b\n1,2\n", "without epoch"),
        ("step,epoch,learning_rate,loss\n1,1,many,2\n", "not a readable log"),
        ("step,epoch,learning_rate,loss\n1,1\n", "not a readable log"),
        ("step,epoch,learning_rate,loss\n1,nan,1,2\n", "epoch is nan"),
        ("step,epoch,learning_rate,loss\n1,1,1,2\n2,inf,1,2\n", "epoch is inf"),
        ("step,epoch,learning_rate,loss\n1,1e30,1,2\n", "epoch is not in 0"),
        ("step,epoch,learning_rate,loss\n1,-5,1,2\n", "epoch is not in 0"),
        ("step,epoch,learning_rate,loss\n1,1,-inf,2\n", "learning_rate is -inf"),
        ("step,epoch,learning_rate,loss\n1,1,1,nan\n2,2,1,nan\n", "loss is nan"),
        ("epoch,learning_rate,loss,saliency\n1,1,1,nan\n", "saliency is nan"),
    ],
)
def test_draw_curves_refuses_what_is_no_log(tmp_path, content, message):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"log\.csv: .*{message}"):
        draw_curves.main(["--logs", f"a={path}", "--output", str(tmp_path / "out.png")])
    assert not (tmp_path / "out.png").exists()


def test_draw_curves_refuses_logs_without_or_with_one_name(tmp_path):
    write_log(tmp_path / "log.csv", 1, classification=0.7)
    path, output = tmp_path / "log.csv", ["--output", str(tmp_path / "out.png")]
    with pytest.raises(InputError, match=r"NAME=LOG\.CSV"):
        draw_curves.main(["--logs", str(path), *output])
    with pytest.raises(InputError, match="twice"):
        draw_curves.main(["--logs", f"a={path}", f"a={path}", *output])


# --- the strip -----------------------------------------------------------------------------------


def truth(number):
    label = np.zeros(SIZE, np.uint8)
    label[5:20, 5:20] = 1 + number % 2
    if number == 2:
        label[10:25, 22:38] = 2
    return label


@pytest.fixture
def dataset(tmp_path):
    """Three train and two val images with masks; returns the index and the common arguments."""
    records = []
    for number, split in enumerate(["train"] * 3 + ["val"] * 2):
        name = f"{split}_{number}"
        Image.new("RGB", SIZE[::-1], (90, 90 + number, 90)).save(tmp_path / f"{name}.png")
        write_palette_png(tmp_path / f"{name}_mask.png", truth(number))
        labels = tuple(CLASSES[i - 1] for i in np.unique(truth(number)) if i)
        image, mask = f"{name}.png", f"{name}_mask.png"
        records.append(ImageRecord(name, split, True, image, mask, *SIZE[::-1], labels))
    index = DatasetIndex(tmp_path, CLASSES, (1, 2), tuple(records))
    write_dataset(index, tmp_path / "tiny")
    return index, ["--data", str(tmp_path / "tiny")]


def artifact(path, kind, index, split, arrays, **identity):
    """Write `arrays(number, record)` -> (array, attributes) for every record of a split."""
    records = [(n, r) for n, r in enumerate(index.records) if r.split == split]
    who = {"dataset": "tiny", "index_digest": index.digest, "classes": list(CLASSES), "seed": 0}
    with ArtifactWriter(
        path,
        kind,
        identity={**who, "split": split, **identity},
        parameters={},
        sources={},
        expected=[record.image_id for _, record in records],
    ) as writer:
        for number, record in records:
            array, attributes = arrays(number, record)
            writer.write(record.image_id, array, **attributes)
    return str(path)


def strip_files(index, folder, stage):
    def cams(number, record):
        keys = [CLASSES.index(name) for name in record.labels]
        return np.full((len(keys), 4, 5), 0.5, np.float16), {"keys": keys, "size": SIZE}

    def pseudo(number, record):
        labels = truth(number)
        return {"saliency": labels, "segmentation": np.where(labels, labels, 255)}, {}

    def plain(number, record):
        return {"unrefined": truth(number), "refined": truth(number)}, {"keys": [0], "size": SIZE}

    def crf(number, record):
        return truth(number), {}

    made = {"cams": cams, "pseudo_labels": pseudo, "predictions": plain, "predictions_crf": crf}
    arguments = []
    for kind, arrays in made.items():
        split = "val" if "predictions" in kind else "train"
        path = artifact(folder / f"{kind}{stage}.h5", kind, index, split, arrays, stage=stage)
        arguments += [f"--{kind.replace('_', '-')}", f"{stage}={path}"]
    return arguments


def test_strip_shows_both_blocks(tmp_path, dataset):
    index, common = dataset
    files = strip_files(index, tmp_path, 0) + strip_files(index, tmp_path, 1)
    output = tmp_path / "strip.png"
    draw_strip.main([*common, *files, "--images", "2", "--output", str(output)])
    both = Image.open(output)
    assert both.width == draw_strip.WIDTH
    colours = {colour for _, colour in both.convert("RGB").getcolors(2**20)}
    assert {(128, 0, 0), (0, 128, 0)} <= colours
    train_only = [*common, *files, "--ids", "train_0", "--output", str(tmp_path / "one.png")]
    draw_strip.main(train_only)
    assert Image.open(tmp_path / "one.png").height < both.height / 2


def test_strip_prefers_images_with_several_classes_then_new_classes(dataset):
    index, _ = dataset
    chosen = choose(index.split("train"), [], 3, [])
    # train_2 has both classes; neither of the others shows a new one.
    assert [record.image_id for record in chosen] == ["train_2", "train_0", "train_1"]
    assert choose(index.split("train"), [], 1, []) == chosen[:1]
    only = [{"train_0", "train_1"}, {"train_1"}]  # what two readers hold
    assert [r.image_id for r in choose(index.split("train"), only, 3, [])] == ["train_1"]


def test_strip_refuses_wrong_stage_unknown_id_and_nothing(tmp_path, dataset):
    index, common = dataset
    files = strip_files(index, tmp_path, 0)
    output = ["--output", str(tmp_path / "strip.png")]
    with pytest.raises(InputError, match="made for stage 0, needed is 1"):
        draw_strip.main([*common, "--cams", f"1={tmp_path}/cams0.h5", *output])
    with pytest.raises(InputError, match="STAGE=FILE"):
        draw_strip.main([*common, "--cams", f"{tmp_path}/cams0.h5", *output])
    with pytest.raises(InputError, match="nobody"):
        draw_strip.main([*common, *files, "--ids", "nobody", *output])
    with pytest.raises(InputError, match="nothing to draw"):
        draw_strip.main([*common, *output])
    assert not (tmp_path / "strip.png").exists()

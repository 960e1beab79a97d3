"""What figures of scores show, asked of the figure; and their files."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wsss.reports.drawing import class_palette
from wsss.reports.figure_files import save_figure, save_page
from wsss.reports.score_figures import (
    draw_classes,
    draw_confusion,
    draw_sizes,
    draw_stages,
    draw_sweep,
)

NAMES = ["background", "cat", "dog"]


def summary(**columns):
    """A summary of two stages and two runs; columns that are not given are empty."""
    names = ("pseudo_precision", "pseudo_recall", "pseudo_miou")
    names += tuple(f"val_miou_{kind}" for kind in ("unrefined", "refined", "crf"))
    values = {name: columns.get(name, [np.nan] * 2) for name in names}
    values |= {f"{name}_std": [1.0, 2.0] for name in names}
    return pd.DataFrame({"stage": [0, 1], **values})


def lines_of(axes):
    """Label -> values of what is drawn as lines."""
    bars = {c.get_label(): c.lines[0].get_ydata() for c in axes.containers}
    plain = {line.get_label(): line.get_ydata() for line in axes.lines}
    lines = {**plain, **bars}
    return {name: list(v) for name, v in lines.items() if not name.startswith("_")}


def test_stages_with_the_paper_s_curve_beside():
    table = summary(pseudo_miou=[40, 50], pseudo_recall=[42, 52], val_miou_crf=[60, 61])
    paper = [{"precision": 85.6, "recall": 42.9, "mIoU": 40.6}]
    left, right = draw_stages(table, paper, "demo").axes
    drawn = lines_of(left)
    assert drawn["mIoU"] == [40, 50] and drawn["recall"] == [42, 52]
    assert drawn["mIoU, the paper"] == [40.6] and drawn["precision, the paper"] == [85.6]
    assert "precision" not in drawn  # nothing is known of it
    assert lines_of(right) == {"with the CRF": [60, 61]}
    assert not any("paper" in name for name in lines_of(draw_stages(table, [], "demo").axes[0]))


def classes(**more):
    ids = [0, 1, 2, np.nan]
    names = [*NAMES, "mean"]
    ious = [90.0, np.nan, 30.0, 60.0]
    return pd.DataFrame(
        {"class_id": ids, "class": names, "iou": ious, "iou_std": [1, 2, 3, 4]} | more
    )


def test_classes_are_bars_in_the_colours_of_the_label_maps():
    figure = draw_classes(classes(paper=[91.0, 50.0, 40.0, 69.0]), "demo")
    (axes,) = figure.axes
    bars = [bar for c in axes.containers if hasattr(c, "patches") for bar in c.patches]
    assert [bar.get_width() for bar in bars] == [90, 0, 30]
    expected = class_palette()[:3] / 255
    np.testing.assert_allclose([bar.get_facecolor()[:3] for bar in bars], expected)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["90.0", "", "30.0"]  # what is not known is no zero
    marks = next(line for line in axes.lines if line.get_label() == "the paper")
    assert list(marks.get_xdata()) == [91, 50, 40]
    assert any(line.get_label() == "mean 60.0" for line in axes.lines)


def test_confusions_are_shares_of_the_true_class():
    table = pd.DataFrame(
        {
            "truth": ["cat", "cat", "dog", "dog", "dog"],
            "predicted": ["cat", "dog", "dog", "cat", "background"],
            "pixels": [3, 1, 1, 1, 8],
        }
    )
    axes = draw_confusion(table, NAMES, "demo").axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shown[1:], [[0, 75, 25], [80, 10, 10]])
    assert np.isnan(shown[0]).all()  # no pixel is background
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES
    assert sorted(text.get_text() for text in axes.texts) == ["10", "10", "25", "75", "80"]


def test_many_classes_have_no_numbers_in_their_cells():
    names = [f"class {i}" for i in range(81)]
    table = pd.DataFrame({"truth": names, "predicted": names, "pixels": 1})
    assert not draw_confusion(table, names, "demo").axes[0].texts


def test_sizes_by_stage():
    sizes = ["small", "medium", "large", "all"]
    rows = [
        {
            "stage": stage,
            "size": size,
            "instances": 10 + i,
            "iou": 10 * stage + i,
            "iou_std": np.nan,
        }
        for stage in (0, 2)
        for i, size in enumerate(sizes)
    ]
    (axes,) = draw_sizes(pd.DataFrame(rows), "demo").axes
    heights = {c.get_label(): [bar.get_height() for bar in c.patches] for c in axes.containers}
    assert heights == {"stage 0": [0, 1, 2, 3], "stage 2": [20, 21, 22, 23]}
    assert axes.get_xticklabels()[1].get_text() == "medium\n11 objects"


def test_a_sweep_says_what_it_is_tuned_on_and_frames_the_run():
    pairs = [(cam, saliency) for cam in (0.1, 0.2) for saliency in (0.06, 0.3)]
    rows = [
        {
            "cam_threshold": cam,
            "saliency_threshold": saliency,
            "iou": i,
            "precision": 9,
            "recall": 8,
        }
        for i, (cam, saliency) in enumerate(pairs)
    ]
    figure = draw_sweep(pd.DataFrame(rows), (0.2, 0.06), "demo")
    assert "tuned on ground truth" in figure.get_suptitle()
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0, 1], [2, 3]])
    (frame,) = axes.patches
    assert (frame.get_x(), frame.get_y()) == (-0.5, 0.5)  # column 0.06, row 0.2


def test_without_ground_truth_figures_are_empty(tmp_path):
    """As of photographs of one's own: nothing is known, and nothing fails."""
    nothing = pd.DataFrame({"truth": [], "predicted": [], "pixels": []})
    unknown = classes().assign(iou=np.nan, iou_std=np.nan)
    sizes = pd.DataFrame(
        {"stage": 0, "size": ["small", "medium", "large", "all"], "instances": 0, "iou": np.nan}
    ).assign(iou_std=np.nan)
    sweep = pd.DataFrame(
        {"cam_threshold": [0.1, 0.2], "saliency_threshold": 0.06, "iou": np.nan}
    ).assign(precision=np.nan, recall=np.nan)
    figures = {
        "confusion": draw_confusion(nothing, NAMES, "demo"),
        "classes": draw_classes(unknown, "demo"),
        "sizes": draw_sizes(sizes, "demo"),
        "sweep": draw_sweep(sweep, (0.2, 0.06), "demo"),
        "stages": draw_stages(summary(), [], "demo"),
    }
    for name, figure in figures.items():
        save_figure(tmp_path / f"{name}.png", figure, nothing)
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert not any(texts), name


@pytest.mark.parametrize("kind", ["figure", "page"])
def test_files_of_a_figure_lie_beside_each_other_and_repeat(tmp_path, kind):
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    data = pd.DataFrame({"loss": [0.000123456], "name": ["a"]})
    for folder in ("first", "second"):
        path = tmp_path / folder / "x.png"
        if kind == "figure":
            figure = Figure()
            figure.subplots().plot([1, 2])
            save_figure(path, figure, data)
        else:
            save_page(path, picture, data)
    for name in ("x.png", "x.pdf", "x.csv"):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second and first
    assert (tmp_path / "first/x.csv").read_text() == "loss,name\n0.000123456,a\n"
    assert (tmp_path / "first/x.pdf").read_bytes().startswith(b"%PDF")
    if kind == "page":
        with Image.open(tmp_path / "first/x.png") as image:
            np.testing.assert_array_equal(np.asarray(image), picture)

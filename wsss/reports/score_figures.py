"""Scores as figures: by stage, by class, by size, what is taken for what, and by threshold.

Data frames are drawn as they are written beside the figure. All scores are in percent.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from wsss.method.evaluation import ALL_SIZES
from wsss.method.object_sizes import SIZES
from wsss.reports.drawing import class_palette

DPI = 110
# Okabe and Ito's colours, which stay apart for colour-blind readers.
STYLES = {
    "pseudo_precision": ("precision", "#D55E00", "^"),
    "pseudo_recall": ("recall", "#0072B2", "s"),
    "pseudo_miou": ("mIoU", "#000000", "o"),
    "val_miou_unrefined": ("unrefined", "#999999", "v"),
    "val_miou_refined": ("refined", "#009E73", "o"),
    "val_miou_crf": ("with the CRF", "#000000", "D"),
}
PAPER_COLUMNS = {"pseudo_precision": "precision", "pseudo_recall": "recall", "pseudo_miou": "mIoU"}
LABELLED = 25  # classes up to which the cells of a confusion matrix have numbers
TUNED = "tuned on ground truth"


def draw_stages(
    summary: pd.DataFrame, paper: Sequence[Mapping[str, float]], headline: str
) -> Figure:
    """Pseudo labels by stage (the paper's Figure 6), and predictions by stage.

    Args:
        summary: of `summarise`.
        paper: precision, recall, mIoU of the paper's pseudo labels by stage, where it has any.
        headline: what the figure is of.
    """
    figure = Figure(figsize=(10, 4.8), dpi=DPI, layout="constrained")
    figure.suptitle(headline)
    left, right = figure.subplots(1, 2)
    for axes, prefix in ((left, "pseudo_"), (right, "val_")):
        for column, style in STYLES.items():
            if column.startswith(prefix) and summary[column].notna().any():
                _draw_score(axes, summary, column, style)
    for column, name in PAPER_COLUMNS.items() if paper else ():
        label, colour, _ = STYLES[column]
        values = [stage[name] for stage in paper]
        left.plot(range(len(values)), values, ":", color=colour, label=f"{label}, the paper")
    left.set_title("pseudo labels of the training images", fontsize=10)
    right.set_title("mIoU of the validation images", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("stage")
        axes.set_xticks(summary["stage"])
        axes.set_ylabel("percent")
        finish(axes)
        if axes.lines:
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
            axes.legend(frameon=False, fontsize=9, ncols=3, **place)
    return figure


def _draw_score(axes, summary, column, style):
    label, colour, marker = style
    deviation = summary[f"{column}_std"].fillna(0)
    axes.errorbar(
        summary["stage"],
        summary[column],
        yerr=deviation if deviation.any() else None,
        color=colour,
        marker=marker,
        markersize=5,
        capsize=3,
        label=label,
    )


def finish(axes: Axes) -> None:
    """Lines across for the eye, and no frame on top and right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)


def draw_classes(table: pd.DataFrame, headline: str) -> Figure:
    """IoU of each class as bars in the colours of the label maps, the mean as a line.

    Args:
        table: class_id, class, iou, iou_std, and `paper` where the paper reports it; the mean is
            the row without an id.
        headline: what the figure is of.
    """
    classes = table[table["class_id"].notna()].reset_index(drop=True)
    mean = table.loc[table["class_id"].isna(), "iou"].iloc[0]
    height = 1.4 + 0.26 * len(classes)
    figure = Figure(figsize=(7.5, height), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    colours = class_palette()[classes["class_id"].astype(int)] / 255
    deviation = classes["iou_std"].fillna(0)
    axes.barh(
        classes["class"],
        classes["iou"].fillna(0),
        xerr=deviation if deviation.any() else None,
        color=colours,
        edgecolor="#444444",
        linewidth=0.5,
    )
    for row, iou in classes["iou"].items():  # at the edge, where no mark of the paper's can lie
        axes.text(107, row, _number(iou), ha="right", va="center", fontsize=8)
    if "paper" in classes:
        axes.plot(classes["paper"], classes.index, "D", color="#D55E00", label="the paper")
    if not np.isnan(mean):
        axes.axvline(mean, color="#000000", linewidth=1, label=f"mean {mean:.1f}")
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.set_ylim(len(classes) - 0.4, -0.6)  # the first class on top
    axes.set_xlim(0, 108)
    axes.set_xlabel("IoU in percent")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(headline)
    return figure


def _number(value):
    return "" if np.isnan(value) else f"{value:.1f}"


def draw_confusion(table: pd.DataFrame, names: Sequence[str], headline: str) -> Figure:
    """What the pixels of a true class are taken for, in percent of them.

    Args:
        table: truth, predicted, pixels.
        names: background and the classes, in the order of their ids.
        headline: what the figure is of.
    """
    counts = table.pivot_table("pixels", "truth", "predicted", "sum", fill_value=0)
    counts = counts.reindex(index=names, columns=names, fill_value=0)
    shares = 100 * counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
    side = 2.6 + 0.36 * len(names) if len(names) <= LABELLED else 2.6 + 0.15 * len(names)
    figure = Figure(figsize=(side + 0.8, side), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(shown, ax=axes, shrink=0.7, label="percent of the true class")
    small = len(names) > LABELLED
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6 if small else 9)
    axes.set_yticks(range(len(names)), names, fontsize=6 if small else 9)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    for (row, column), share in np.ndenumerate(shares.to_numpy()) if not small else ():
        if share >= 0.5:
            colour = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, size=8)
    figure.suptitle(headline)
    return figure


def draw_sizes(table: pd.DataFrame, headline: str) -> Figure:
    """IoU of small, medium, large and all objects, a bar a stage.

    Args:
        table: stage, size, instances, iou, iou_std; means over classes.
        headline: what the figure is of.
    """
    sizes, stages = [*SIZES, ALL_SIZES], sorted(table["stage"].unique())
    figure = Figure(figsize=(7.5, 3.8), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(stages)
    for number, stage in enumerate(stages):
        rows = table[table["stage"] == stage].set_index("size").loc[sizes]
        deviation = rows["iou_std"].fillna(0)
        bars = axes.bar(
            np.arange(len(sizes)) + (number - (len(stages) - 1) / 2) * width,
            rows["iou"].fillna(0),
            width * 0.92,
            yerr=deviation if deviation.any() else None,
            color=STAGE_COLOURS[number],
            label=f"stage {stage}",
        )
        axes.bar_label(bars, [_number(iou) for iou in rows["iou"]], padding=2, fontsize=8)
    counts = table[table["stage"] == stages[0]].set_index("size")["instances"]
    labels = [f"{size}\n{counts[size]:,.0f} objects" for size in sizes]
    axes.set_xticks(range(len(sizes)), labels)
    axes.set_ylabel("IoU in percent")
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    axes.margins(y=0.12)
    finish(axes)
    figure.suptitle(headline)
    return figure


STAGE_COLOURS = ("#BBBBBB", "#56B4E9", "#0072B2", "#004D80", "#001F33")


def draw_sweep(table: pd.DataFrame, used: tuple[float, float], headline: str) -> Figure:
    """mIoU, precision and recall of pseudo labels at pairs of thresholds.

    Args:
        table: of `sweep_table`.
        used: CAM and saliency threshold of the run.
        headline: what the figure is of.
    """
    figure = Figure(figsize=(13, 4.6), dpi=DPI, layout="constrained")
    names = {"iou": "mIoU", "precision": "precision", "recall": "recall"}
    for axes, (column, name) in zip(figure.subplots(1, 3), names.items(), strict=True):
        grid = table.pivot(index="cam_threshold", columns="saliency_threshold", values=column)
        _draw_grid(axes, grid, used)
        best = grid.max().max()
        axes.set_title(name if np.isnan(best) else f"{name}, at most {best:.1f}", fontsize=10)
    figure.suptitle(f"{headline}: {TUNED}. Framed: the thresholds of the run")
    return figure


def _draw_grid(axes, grid, used):
    axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    axes.set_xticks(range(len(grid.columns)), [f"{value:g}" for value in grid.columns], fontsize=8)
    axes.set_yticks(range(len(grid.index)), [f"{value:g}" for value in grid.index], fontsize=8)
    axes.set_xlabel("saliency threshold")
    axes.set_ylabel("CAM threshold")
    low, high = grid.min().min(), grid.max().max()
    for (row, column), value in np.ndenumerate(grid.to_numpy()) if low <= high else ():
        colour = "black" if value > (low + high) / 2 else "white"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour, size=7)
    row, column = (
        np.flatnonzero(np.isclose(ticks, value))
        for ticks, value in zip((grid.index, grid.columns), used, strict=True)
    )
    if len(row) and len(column):
        corner = (column[0] - 0.5, row[0] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", linewidth=2))

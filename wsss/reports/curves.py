"""Losses and learning rates of trainings, as curves."""

import csv
import math
from pathlib import Path

from matplotlib.figure import Figure

from wsss.errors import InputError, reason_of

MOST_EPOCHS = 1_000_000
# Okabe and Ito's colours, which stay apart for colour-blind readers.
LOSS_STYLES = {
    "loss": ("total", "#000000", "-"),
    "classification": ("classification", "#D55E00", "-"),
    "saliency": ("saliency", "#0072B2", "--"),
    "refined_saliency": ("saliency, refined", "#0072B2", "-"),
    "segmentation": ("segmentation", "#009E73", "--"),
    "refined_segmentation": ("segmentation, refined", "#009E73", "-"),
}


def read_log(path: str | Path) -> dict[str, list[float]]:
    """The columns of a log.csv, which are empty for a run of no steps.

    Raises:
        InputError: the file is missing, no log, or holds something that is no number, or none
            that can be drawn.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header, rows = reader.fieldnames or (), list(reader)
        names = rows[0] if rows else header
        columns = {name: [float(row[name]) for row in rows] for name in names}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason_of(error)}); remake it") from error
    except (csv.Error, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable log ({error}); remake it") from error
    missing = [name for name in ("epoch", "learning_rate", "loss") if name not in columns]
    if missing:
        raise InputError(f"{path}: no training log (without {', '.join(missing)}); remake it")
    for name, values in columns.items():
        strange = [value for value in values if not math.isfinite(value)]
        if strange and name in ("epoch", "learning_rate", *LOSS_STYLES):
            raise InputError(f"{path}: no training log ({name} is {strange[0]}); remake it")
    if not all(0 <= epoch < MOST_EPOCHS for epoch in columns["epoch"]):
        raise InputError(f"{path}: no training log (epoch is not in 0..{MOST_EPOCHS}); remake it")
    return columns


def draw_curves(logs: dict[str, dict[str, list[float]]]) -> Figure:
    """Losses of several runs one after the other, learning rate below.

    Args:
        logs: name -> columns of `read_log`, in the order of the runs. A run of no steps is left
            out.

    Raises:
        InputError: no run has made a step.
    """
    logs = {name: columns for name, columns in logs.items() if columns["epoch"]}
    if not logs:
        raise InputError("no curves to draw: these logs have no rows; give one of a training")
    figure = Figure(figsize=(max(7.0, 2.6 * len(logs) + 2.0), 5.2), dpi=110, layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    start = 0.0
    for name, columns in logs.items():
        end = start + math.ceil(max(columns["epoch"]))
        _draw_run(losses, rates, columns, start)
        for axes in (losses, rates):
            axes.axvline(end, color="#999999", linewidth=0.8, linestyle=":")
        losses.annotate(
            name,
            ((start + end) / 2, 1),
            (0, 4),
            xycoords=losses.get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
        )
        start = end
    _finish_axes(figure, losses, rates, start)
    return figure


def _draw_run(losses, rates, columns, start):
    epochs = [start + epoch for epoch in columns["epoch"]]
    parts = [name for name in LOSS_STYLES if name in columns]
    if "loss" in parts and len(parts) == 2:  # the only loss is the total
        parts.remove("loss")
    for name in parts:
        label, colour, line = LOSS_STYLES[name]
        losses.plot(epochs, columns[name], line, color=colour, linewidth=1.4, label=label)
    rates.plot(epochs, columns["learning_rate"], color="#555555", linewidth=1.4)


def _finish_axes(figure, losses, rates, end):
    losses.set_yscale("log")
    losses.yaxis.set_major_formatter("{x:g}")
    losses.set_ylabel("loss")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("epochs, one run after the other")
    rates.set_xlim(0, end)
    rates.set_ylim(bottom=0)
    rates.yaxis.set_major_formatter("{x:g}")
    for axes in (losses, rates):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    drawn = {line.get_label(): line for line in losses.get_lines()}  # runs repeat the labels
    labels = [label for label, *_ in LOSS_STYLES.values() if label in drawn]
    handles = [drawn[label] for label in labels]
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)

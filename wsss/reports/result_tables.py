"""Tables of results over seeds: numbers for programs, and Markdown for people."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wsss.configuration.experiments import MEAN, Cell, ResultTable, Run
from wsss.method.comparison import (
    Summary,
    class_ious,
    difference_of,
    image_weights,
    miou,
    summary_of,
)
from wsss.storage.files import atomic_path

HOW_TO_READ = (
    "Percent. A score is a mean over seeds, ± the standard deviation, and in parentheses the"
    " number of runs. A difference Δ is paired by seed, and in brackets is its 95 % bootstrap"
    " interval over images: what hangs on the images that happened to be scored."
)
OF_PAPER = "paper"

# What gives the overlaps of a run by seed: (N, 2, C + 1) each, images in one order for all runs.
Overlaps = Callable[[Run], dict[int, np.ndarray]]


@dataclass(frozen=True)
class FilledCell:
    """A cell with its value, None where there is none; `paper` likewise."""

    summary: Summary | None
    is_difference: bool
    paper: float | None


FilledRow = tuple[tuple[str, ...], list[FilledCell]]


def filled_rows(table: ResultTable, overlaps: Overlaps, classes: Sequence[str]) -> list[FilledRow]:
    """Heads and cells of each row; where classes are rows, of each class and their mean.

    Args:
        table: what is to be filled.
        overlaps: what gives those of a run.
        classes: names of the object classes, without background.
    """
    scores = {run: _scores_of(overlaps(run), table.by_class) for run in table.runs()}
    if not table.by_class:
        return [(row.heads, _filled(row.cells, scores, MEAN, MEAN)) for row in table.rows]
    (row,) = table.rows
    names = ["background", *classes]
    rows = [((name,), _filled(row.cells, scores, i, name)) for i, name in enumerate(names)]
    return [*rows, ((MEAN,), _filled(row.cells, scores, MEAN, MEAN))]


def _scores_of(seeds, by_class):
    """Score -> a frame with a column a seed and the rows of `image_weights`; classes by id."""
    weights = image_weights(len(next(iter(seeds.values()))))
    found = {MEAN: {seed: miou(overlap, weights) for seed, overlap in seeds.items()}}
    if by_class:
        ious = {seed: class_ious(overlap, weights) for seed, overlap in seeds.items()}
        count = len(next(iter(ious.values()))[0])
        found |= {i: {seed: iou[:, i] for seed, iou in ious.items()} for i in range(count)}
    return {score: pd.DataFrame(columns) for score, columns in found.items()}


def _filled(cells: Iterable[Cell], scores, score, name):
    return [
        FilledCell(_summary(cell, scores, score), cell.minus is not None, cell.paper.get(name))
        for cell in cells
    ]


def _summary(cell, scores, score):
    if cell.run is None:
        return None
    own = scores[cell.run][score]
    return difference_of(own, scores[cell.minus][score]) if cell.minus else summary_of(own)


def numbers(table: ResultTable, rows: Sequence[FilledRow]) -> pd.DataFrame:
    """The table for programs: each column with its companions.

    A score has `_std` and `_runs`, a difference also `_low` and `_high`; `_paper` where the paper
    has one.
    """
    with_paper = _columns_with_paper(rows)
    records = []
    for heads, cells in rows:
        record = dict(zip(table.heads, heads, strict=True))
        for column, cell, paper in zip(table.columns, cells, with_paper, strict=True):
            record |= _companions(column, cell)
            if paper:
                record[f"{column}_{OF_PAPER}"] = cell.paper
        records.append(record)
    return pd.DataFrame(records)


def _companions(column, cell):
    summary = cell.summary
    if summary is None:
        return {}
    found = {column: summary.mean, f"{column}_std": summary.std, f"{column}_runs": summary.runs}
    if cell.is_difference:
        found |= {f"{column}_low": summary.low, f"{column}_high": summary.high}
    return found


def _columns_with_paper(rows):
    by_column = zip(*(cells for _, cells in rows), strict=True)
    return [any(cell.paper is not None for cell in cells) for cells in by_column]


def markdown(table: ResultTable, rows: Sequence[FilledRow], about: Sequence[str]) -> str:
    """The table for people.

    Args:
        table: whose title, heads, columns and notes are taken.
        rows: of `filled_rows`.
        about: lines on the data set, for below the table.
    """
    with_paper = _columns_with_paper(rows)
    header = [*table.heads]
    for column, paper in zip(table.columns, with_paper, strict=True):
        header += [column, OF_PAPER] if paper else [column]
    lines = [[*heads, *_texts(cells, with_paper)] for heads, cells in rows]
    notes = [HOW_TO_READ, *table.notes, *about]
    if any(with_paper):
        notes.append("paper: Xu et al., ICCV 2021.")
    listed = [f"- {note}" for note in notes]
    return "\n".join([f"# {table.title}", "", *markdown_table(header, lines), "", *listed, ""])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '∣') for cell in line)} |" for line in lines]


def _texts(cells, with_paper):
    texts = []
    for cell, paper in zip(cells, with_paper, strict=True):
        texts.append(_text(cell))
        if paper:
            texts.append("" if cell.paper is None else f"{cell.paper:.1f}")
    return texts


def _text(cell):
    """`56.9 ± 0.4 (3)`, or of a difference `+3.9 ± 0.2 (3) [+2.1, +5.6]`."""
    summary = cell.summary
    if summary is None or np.isnan(summary.mean):
        return ""
    sign = "+" if cell.is_difference else ""
    spread = "" if np.isnan(summary.std) else f" ± {summary.std:.1f}"
    text = f"{summary.mean:{sign}.1f}{spread} ({summary.runs})"
    return f"{text} [{summary.low:+.1f}, {summary.high:+.1f}]" if cell.is_difference else text


def write_text(path: str | Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

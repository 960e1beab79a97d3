"""docs/RESULTS.md and docs/RECIPE.md against the tables that the runs wrote."""

import re

import numpy as np
import pandas as pd
import pytest
from repository import ROOT

from wsss.method.evaluation import SUMMARY_COLUMNS
from wsss.reports.data_checks import REACHED

DOCS = ROOT / "docs"
TEXT = "".join((DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("RESULTS", "RECIPE"))


# A table that a paragraph introduces by the CSV file it shows.
INTRODUCED = re.compile(r"\(results/([\w.-]+\.csv)\)[^\n]*:\n\n((?:\|.*\n)+)")


def figures(cells):
    """The numbers of a row from left to right, without those of a standard deviation."""
    return [
        float(number) for cell in cells for number in re.findall(r"-?[\d.]+", cell.split("±")[0])
    ]


@pytest.mark.parametrize(("file", "printed"), INTRODUCED.findall(TEXT))
def test_printed_figures_are_those_of_the_file(file, printed):
    table = pd.read_csv(DOCS / "results" / file)
    head, _, *rows = [row.strip("|").split("|") for row in printed.splitlines()]
    if len(head) == table.shape[1]:  # as it is
        numeric = [kind.kind in "if" for kind in table.dtypes]
        found = np.hstack([figures(np.array(row)[numeric]) for row in rows])
        expected = table.loc[:, numeric].stack().dropna().to_numpy()  # cells that are not empty
    elif "order" in table:
        found = [figures(row) for row in rows]
        of_confidence = table[table["order"] == "confidence"]
        expected = of_confidence.drop(columns=["variant", "order", "images"]).to_numpy()
    elif "trial" in table:
        columns = ["steps", "cpu_seconds", "label_precision", "label_recall"]
        trials = table[[*columns, "unrefined", "refined", "crf"]].to_numpy()
        # Behind labels and learning rate; pixel masks have no precision and recall.
        found = [figures(row[2:]) for row in rows]
        found = [f if len(f) == trials.shape[1] else [*f[:2], 100, 100, *f[2:]] for f in found]
        expected = [trials[np.abs(trials - f).sum(axis=1).argmin()] for f in found]
    elif "stage" in table:
        found = [figures(row) for row in rows]
        expected = table[["stage", *SUMMARY_COLUMNS]].to_numpy()
    else:
        # network, variant, the paper's score, and from there on those of the file; the first
        # row is the one that the others are compared with.
        found = [figures(row[3:]) for row in rows]
        found[0] += [0, 0, 0]
        expected = table[["miou", "difference", "low", "high"]].to_numpy()
    # One decimal of two: 58.55 may be printed as 58.5 or 58.6.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.051)


def test_what_to_expect_is_what_the_runs_reached():
    """The last stage of each run, in the guide and in what `make check` says."""
    tuning = pd.read_csv(DOCS / "results/tuning-stages.csv").query("weights == 'mean'")
    animals = pd.read_csv(DOCS / "results/voc2012-animals.csv").assign(photographs=640)
    last = pd.concat([tuning, animals]).groupby("photographs").last()
    guide = (DOCS / "photographs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d) \| \d+ \| ([\d.]+) \| ([\d.]+) \|$", guide, re.M)
    rows = np.array(rows, float)
    np.testing.assert_array_equal(rows[:, [0, 2]], np.c_[last.index, last["stage"] + 1])
    scores = last[["pseudo_miou", "val_miou_crf"]]
    np.testing.assert_allclose(rows[:, 3:], scores, rtol=0, atol=0.051)
    of_check = [(each, round(miou)) for each, miou in rows[:, [1, 4]]]
    assert list(REACHED.items()) == of_check[: len(REACHED)]

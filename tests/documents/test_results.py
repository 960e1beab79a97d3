"""docs/RESULTS.md and docs/RECIPE.md against the tables that the runs wrote."""

import re

import numpy as np
import pandas as pd
import pytest
from repository import ROOT

from wsss.method.evaluation import SUMMARY_COLUMNS

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

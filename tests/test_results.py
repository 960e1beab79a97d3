"""docs/RESULTS.md against the tables that the runs wrote."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wsss.evaluation import SUMMARY_COLUMNS

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "RESULTS.md").read_text(encoding="utf-8")


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
    rows = [row.strip("|").split("|") for row in printed.splitlines()[2:]]
    if "stage" in table:
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


def test_refinement_is_at_work_in_the_mean_of_three_data_seeds():
    table = pd.read_csv(DOCS / "results" / "demo_seeds.csv").set_index("stage")
    assert (table["runs"] == 3).all()
    # Seen: 1.9 and 1.2 points; and 0.9 to 1.7 points.
    assert table.loc[1, "pseudo_miou"] > table.loc[0, "pseudo_miou"] + 1.5
    assert table.loc[2, "pseudo_miou"] > table.loc[1, "pseudo_miou"] + 0.9
    assert (table["val_miou_refined"] > table["val_miou_unrefined"] + 0.5).all()

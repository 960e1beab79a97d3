"""docs/RELIABILITY.md: the tests that it names exist, and its figures are those that were made."""

import csv
import re

from workspace import ROOT

TEXT = (ROOT / "docs/RELIABILITY.md").read_text(encoding="utf-8")


def rows_after(text):
    """Cells of the first table after a text."""
    table = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(text) :], re.MULTILINE)[0]
    lines = [line.strip().strip("|").split("|") for line in table.splitlines()]
    return [[cell.strip() for cell in line] for line in (lines[0], *lines[2:])]


def test_every_row_names_its_test():
    _, *rows = rows_after("# When something goes wrong")
    assert len(rows) >= 10
    for row in rows:
        names = re.findall(r"`(test_\w+\.py)`", row[-1])
        assert names and all(list((ROOT / "tests").rglob(name)) for name in names), row


def test_kills_are_those_of_the_file():
    with open(ROOT / "docs/results/kills.csv", newline="") as file:
        expected = list(csv.reader(file))
    header, *printed = rows_after("(results/kills.csv)")
    assert [name.replace(" ", "_") for name in header] == expected[0]
    assert printed == expected[1:]
    kills = [dict(zip(expected[0], row, strict=True)) for row in expected[1:]]
    assert sum(int(row["kills"]) for row in kills if row["signal"] == "SIGKILL") >= 20
    assert all(row["identical"] == "True" for row in kills)

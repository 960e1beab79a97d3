"""The tests that FIDELITY.md and RELIABILITY.md name exist; figures are those that were made."""

import ast
import csv
import re
from functools import cache

import pytest
from repository import ROOT

TEXTS = {
    name: (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("FIDELITY.md", "RELIABILITY.md", "BENCHMARKS.md")
}
NAMED = sorted(
    {
        reference
        for text in TEXTS.values()
        for reference in re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", text)
    }
)


@cache
def functions_of(file):
    """Names of the functions in a file of tests, wherever below `tests` it lies."""
    (path,) = (ROOT / "tests").rglob(file)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def tables(text):
    """The tables of a text, each a list of rows of cells; the first is the heading."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [line.strip().strip("|").split("|") for line in table.splitlines()]
        yield [[cell.strip() for cell in line] for line in (lines[0], *lines[2:])]


@pytest.mark.parametrize(("file", "function"), NAMED)
def test_a_named_test_exists(file, function):
    assert functions_of(file) if function == "" else function in functions_of(file)


@pytest.mark.parametrize(("name", "least"), [("FIDELITY.md", 40), ("RELIABILITY.md", 30)])
def test_every_row_is_held_by_a_test(name, least):
    held = [table[1:] for table in tables(TEXTS[name]) if table[0][-1] == "test"]
    rows = [row for table in held for row in table]
    assert len(rows) > least
    assert [row for row in rows if not re.search(r"`test_\w+\.py(::\w+)?`", row[-1])] == []


def test_kills_are_those_of_the_file():
    with open(ROOT / "docs/results/kills.csv", newline="") as file:
        expected = list(csv.reader(file))
    text = TEXTS["RELIABILITY.md"]
    header, *printed = next(tables(text[text.index("(results/kills.csv)") :]))
    assert [name.replace(" ", "_") for name in header] == expected[0]
    assert printed == expected[1:]


def test_benchmarks_are_those_of_the_file():
    with open(ROOT / "docs/results/benchmarks.csv", newline="") as file:
        expected = list(csv.DictReader(file))
    (printed,) = tables(TEXTS["BENCHMARKS.md"])
    assert [(row[0], row[-1]) for row in printed[1:]] == [
        (row["part"], f"{float(row['ratio']):.2f}") for row in expected
    ]

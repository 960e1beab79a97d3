"""docs/FIDELITY.md names tests: each must be there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "FIDELITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)::(\w+)`", TEXT)))
ROWS = [row for row in TEXT.splitlines() if row.startswith("|") and "---" not in row]


@pytest.mark.parametrize(("file", "function"), NAMED)
def test_a_named_test_exists(file, function):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert function in functions


def test_every_row_is_held_by_a_test():
    headings = [row for row in ROWS if row.endswith("| test |")]
    rows = [row for row in ROWS if row not in headings]
    assert len(rows) > 30
    assert [row for row in rows if not row.rstrip("| ").endswith("`")] == []

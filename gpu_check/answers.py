"""What was asked and answered, as lines on the terminal, a table in plain text and JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from wsss.storage.files import atomic_path

MARKS = {True: "ok", False: "NO", None: "--"}


@dataclass(frozen=True)
class Answer:
    """One line of the table.

    `ok` is None where there are only figures, and nothing to be right or wrong.
    """

    question: str
    answer: str
    ok: bool | None = None
    figures: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{MARKS[self.ok]}  {self.question}: {self.answer}"


def write_answers(path: str | Path, answers: Iterable[Answer]) -> None:
    """Write the JSON file, and the table beside it as .txt.

    Called after each answer: a machine that is lent for minutes may be gone before the last one.
    """
    answers = list(answers)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps([asdict(answer) for answer in answers], indent=1) + "\n")
    with atomic_path(Path(path).with_suffix(".txt")) as temporary:
        temporary.write_text(table(answers))


def table(answers: Iterable[Answer]) -> str:
    """The answers with their questions in a column of one width."""
    answers = list(answers)
    width = max((len(answer.question) for answer in answers), default=0)
    lines = [f"{MARKS[a.ok]}  {a.question:<{width}}  {a.answer}" for a in answers]
    return "\n".join(lines) + "\n"

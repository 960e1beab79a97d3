"""What a check before a run says: lines of a table."""

from dataclasses import dataclass

SHOWN = 3  # offenders named per check


@dataclass(frozen=True)
class Finding:
    """A line of the report; `level` is ok, note or problem."""

    level: str
    subject: str
    message: str

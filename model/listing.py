"""How a line for people names many things."""

from collections.abc import Iterable
from typing import Any


def listed(items: Iterable[Any], limit: int = 5, separator: str = ", ") -> str:
    """Join the first few items of a collection for an error line: ``a, b, c (and 7 more)``."""
    items = [str(item) for item in items]
    shown = separator.join(items[:limit])
    return shown if len(items) <= limit else f"{shown} (and {len(items) - limit} more)"

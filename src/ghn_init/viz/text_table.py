"""A table as plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

Cell = str | int | float | None


def printable(text: str) -> str:
    """The text with control characters, but for line breaks, as escapes: names may hold some that move the cursor."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def shown(value: Cell) -> str:
    """A cell's text in one line: integers in groups of three digits, other numbers to three digits."""
    if value is None or isinstance(value, str):
        return printable(value or "").replace("\n", "\\n")
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A line for each row; columns are aligned, two spaces apart, those of numbers to the right.

    Args:
        rows: The titles, then the rest, all of one length.
    """
    columns = list(zip(*rows, strict=True))
    right = [any(isinstance(value, int | float) for value in column[1:]) for column in columns]
    widths = [max(map(_width, map(shown, column))) for column in columns]
    return [
        "  ".join(
            (width - _width(text)) * " " + text if number else text + (width - _width(text)) * " "
            for text, width, number in zip(map(shown, row), widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _width(text: str) -> int:
    """Columns of a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)

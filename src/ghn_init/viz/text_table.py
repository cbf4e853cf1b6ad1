"""A table as plain text."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float | None


def shown(value: Cell) -> str:
    """A cell's text: integers in groups of three digits, other numbers to three digits."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """A line for each row; columns are aligned, two spaces apart, those of numbers to the right.

    Args:
        rows: The titles, then the rest, all of one length.
    """
    columns = list(zip(*rows, strict=True))
    right = [any(isinstance(value, int | float) for value in column[1:]) for column in columns]
    widths = [max(map(len, map(shown, column))) for column in columns]
    return [
        "  ".join(
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(map(shown, row), widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]

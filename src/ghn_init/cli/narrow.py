"""Tables for narrow terminals: short figures, and the columns that matter most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(number: int) -> str:
    """Two digits or more: 4,925,566 → 4.9 M, 22,050,664 → 22 M; the space is one that no line breaks at."""
    for size, unit in UNITS:
        value = number / size
        if value >= 0.9995:
            return f"{value:.{1 if value < 9.95 else 0}f}\u00a0{unit}"
    return str(number)


def fitting(columns: dict[str, Sequence[str]], least: Iterable[str], width: int) -> dict[str, Sequence[str]]:
    """Columns of which no figure breaks in a terminal.

    Args:
        columns: Title → cells; the first are names, which may fold, titles break at spaces.
        least: Titles of those that may be left out, the least important first.
        width: Of the terminal, in characters.
    """
    left = dict(columns)
    names, *_ = left
    for title in least:
        needed = {one: max(map(len, (*one.split(), *cells))) for one, cells in left.items()}
        if sum(needed.values()) - max(0, needed[names] - width // 4) + 2 * len(needed) <= width:
            break
        left.pop(title, None)
    return left

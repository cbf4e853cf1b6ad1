"""How much room text takes, without a font: it is set in a monospaced one, and SVG's `textLength` holds it to that."""

from __future__ import annotations

from unicodedata import combining, east_asian_width

SIZE = 12
"""Of the font, in pixels."""
ADVANCE = 0.602
"""Of a character, in sizes of the font; DejaVu Sans Mono's, Menlo's and Liberation Mono's."""


def width(text: str, size: float = SIZE) -> float:
    """Pixels that a text takes."""
    return round(sum(_cells(letter) for letter in text) * ADVANCE * size, 1)


def shortened(text: str, cells: int) -> str:
    """A text of at most so many cells; the end of a dotted name says more than its middle."""
    if sum(map(_cells, text)) <= cells:
        return text
    tail = cells * 2 // 3
    return f"{text[: cells - tail - 1]}…{text[-tail:]}" if text.isascii() else _cut(text, cells - 1) + "…"


def _cut(text: str, cells: int) -> str:
    while sum(map(_cells, text)) > cells:
        text = text[:-1]
    return text


def _cells(letter: str) -> int:
    return 0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1

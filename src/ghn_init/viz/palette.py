"""Colours: of primitives, and of what happened to parameters. Told apart by colour-blind people, on light and dark pages.

Okabe & Ito's palette, "Color universal design", 2008, with lighter and darker kinds of one colour for kin. Text is on these
alone, never on the page.
"""

from __future__ import annotations

PRIMITIVE_COLOURS = {
    "input": "#334155",
    "conv": "#0072b2",
    "sep_conv": "#56b4e9",
    "dil_conv": "#a6d8f5",
    "bias": "#b9c9d6",
    "bn": "#009e73",
    "ln": "#7fd1b9",
    "msa": "#d55e00",
    "cse": "#cc79a7",
    "pos_enc": "#f0e442",
    "sum": "#ffffff",
    "concat": "#c3c8cf",
    "max_pool": "#e69f00",
    "avg_pool": "#f2c14e",
    "glob_avg": "#f7dca0",
}
"""In the order of the legend."""

NO_PARAMETER = "no parameter"
STATE_COLOURS = {
    "predicted": "#0072b2",
    "predicted, tiled": "#56b4e9",
    "kept": "#e69f00",
    NO_PARAMETER: "#ffffff",
}

OTHER = "#d7dbe0"
"""Of a collapsed module, which holds several primitives."""
BOX = "#64748b"
"""Of titles, borders and, much lighter, the insides of boxes; stands out from white and from black."""
EDGE = "#7d8794"
DARK, LIGHT = "#111827", "#ffffff"


def ink(fill: str) -> str:
    """The text colour of the higher contrast (WCAG 2) on a fill."""
    red, green, blue = (int(fill[k : k + 2], 16) / 255 for k in (1, 3, 5))
    luminance = sum(w * _linear(c) for w, c in zip((0.2126, 0.7152, 0.0722), (red, green, blue), strict=True))
    return LIGHT if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.06 else DARK


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else float(((channel + 0.055) / 1.055) ** 2.4)

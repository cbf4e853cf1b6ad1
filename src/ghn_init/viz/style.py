"""The style of all pictures, and how one is begun and finished. Needs the extra `viz`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1f6f8b", "#d95f02", "#7570b3", "#66a61e", "#e7298a", "#a6761d", "#666666", "#1b9e77")
"""In the order in which series take them; told apart by colour-blind people too (ColorBrewer's Dark2, the first one darker)."""

QUIET = "#999999"
"""For what is not data: chance level, references."""


def figure(width: float, height: float, panels: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side, drawn without pyplot: no global state, no window.

    Args:
        width: In inches.
        height: In inches.
        panels: How many.
        options: As for `Figure.subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, list(made.subplots(1, panels, squeeze=False, **options)[0])


def finish(made: Figure, axes: list[Axes], path: str | Path) -> None:
    """Quiet frames and grids, then the file."""
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    made.savefig(path, dpi=150)

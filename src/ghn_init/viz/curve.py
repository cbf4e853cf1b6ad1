"""The learning curve of a run. Needs the extra `viz`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from ghn_init.viz.style import COLOURS, figure, finish


def draw(path: Path, picture: Path, window: int = 200) -> None:
    """Draws accuracy and loss of a curve against the step, as medians over `window` steps. Needs the extra `viz`.

    A mean would show the loss of the one network in a hundred that has a loss of hundreds.
    """
    with path.open() as file:
        rows = list(csv.DictReader(file))
    window = max(min(window, len(rows) // 4), 1)
    steps = [int(row["step"]) for row in rows][window - 1 :: window]
    made, panels = figure(7, 3, panels=2)
    for axes, column, label in zip(panels, ("accuracy", "loss"), ("accuracy, %", "loss, nats"), strict=True):
        factor = 100 if column == "accuracy" else 1
        axes.plot(steps, medians([factor * float(row[column]) for row in rows], window), color=COLOURS[0])
        axes.set(xlabel=f"step (medians over {window})", ylabel=label)
    finish(made, panels, picture)


def medians(values: Sequence[float], window: int) -> list[float]:
    """Of each `window` values; what is left over at the end is left out."""
    return [median(values[k : k + window]) for k in range(0, len(values) - window + 1, window)]

"""Accuracy against network size, a panel for networks in and one for those out of distribution. Needs the extra `viz`."""

from __future__ import annotations

from pathlib import Path

from ghn_init.evaluation.results import Evaluation
from ghn_init.viz.style import COLOURS, QUIET, figure, finish

_INSIDE = ("train", "val", "test")


def draw(evaluation: Evaluation, path: str | Path) -> None:
    """Draws the results with predicted parameters."""
    made, panels = figure(8, 3.4, panels=2, sharey=True)
    inside = [split for split in evaluation.splits if split in _INSIDE]
    outside = [split for split in evaluation.splits if split not in _INSIDE]
    for axes, splits, title in zip(panels, (inside, outside), ("in distribution", "out of distribution"), strict=True):
        for split, colour in zip(splits, COLOURS, strict=False):
            rows = [r for r in evaluation.results if r.split == split]
            points = ([r.params / 1e6 for r in rows], [r.accuracy for r in rows])
            axes.scatter(*points, s=14, alpha=0.75, color=colour, linewidths=0, label=f"{split} ({len(rows)})")
        axes.set(xscale="log", xlabel="parameters, millions", title=title)
        axes.axhline(100 / evaluation.classes, color=QUIET, linewidth=0.8, linestyle=":")
        if splits:
            axes.legend(fontsize="small", loc="lower right")  # in a frame: its markers are no networks
    panels[0].set_ylabel("accuracy without training, %")
    finish(made, panels, path)

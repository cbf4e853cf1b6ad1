"""The curves of a race. Needs the extra `viz`."""

from __future__ import annotations

import statistics
from pathlib import Path

from ghn_init.comparison.result import Comparison
from ghn_init.viz.style import COLOURS, figure, finish


def draw(comparison: Comparison, path: str | Path) -> None:
    """Mean validation accuracy against the step for each init, with bands of a standard deviation over the seeds."""
    made, (axes,) = figure(6.5, 3.8)
    for k, name in enumerate(comparison.inits):
        runs = comparison.of(name)
        columns = list(zip(*(run.accuracies for run in runs), strict=True))
        means = [statistics.fmean(column) for column in columns]
        spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        colour = COLOURS[k % len(COLOURS)]
        axes.plot(runs[0].steps, means, marker="o", markersize=3, color=colour, label=f"{name} ({means[-1]:.1f})")
        lower, upper = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
        axes.fill_between(runs[0].steps, lower, upper, color=colour, alpha=0.12, linewidth=0)
    axes.set(xlabel="step", ylabel="validation accuracy, %")
    axes.legend(frameon=False, fontsize="small")
    finish(made, [axes], path)

"""Accuracy against cost, of a ranking. Needs the extra `viz`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ghn_init.ranking.result import Ranked, Ranking
from ghn_init.viz.style import COLOURS, QUIET, figure, finish


def front(rows: Sequence[Ranked]) -> list[Ranked]:
    """The Pareto front: networks than which none is cheaper, or as cheap, and better; the cheapest first."""
    found: list[Ranked] = []
    for row in sorted(rows, key=lambda row: (row.macs, -row.score)):
        if not found or row.score > found[-1].score:
            found.append(row)
    return found


def draw(ranking: Ranking, path: str | Path) -> None:
    """Scores with their intervals against multiply-accumulates, and the front; networks that were dropped early are pale."""
    made, (axes,) = figure(6.5, 4.2)
    most = max(row.steps for row in ranking.rows)
    for row in ranking.rows:
        colour = COLOURS[0] if row.steps == most else QUIET
        low, high = row.interval
        axes.errorbar([row.macs], [row.score], [[row.score - low], [high - row.score]], fmt="o", markersize=4, color=colour)
        axes.annotate(row.name, (row.macs, row.score), xytext=(4, 4), textcoords="offset points", fontsize="x-small")
    best = front([row for row in ranking.rows if row.steps == most])
    axes.plot([row.macs for row in best], [row.score for row in best], color=COLOURS[0], linewidth=1)
    axes.set(xlabel="multiply-accumulates per image", ylabel="accuracy after few steps, %", xscale="log")
    finish(made, [axes], path)

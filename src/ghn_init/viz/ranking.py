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
    """Scores with their intervals (95 %) against multiply-accumulates, and the front; networks that were dropped are pale."""
    made, (axes,) = figure(6.5, 4.2)
    most = max(row.steps for row in ranking.rows)
    last, dropped = ([row for row in ranking.rows if (row.steps == most) is kept] for kept in (True, False))
    for rows, colour, label in (
        (last, COLOURS[0], f"up to {most} steps" if most else "before training"),
        (dropped, QUIET, "dropped after fewer steps"),
    ):
        if rows:
            macs, scores = [row.macs for row in rows], [row.score for row in rows]
            errors = [[row.score - row.interval[0] for row in rows], [row.interval[1] - row.score for row in rows]]
            axes.errorbar(macs, scores, errors, fmt="o", markersize=4, color=colour, label=label)
    for row in ranking.rows:
        axes.annotate(row.name, (row.macs, row.score), xytext=(4, 4), textcoords="offset points", fontsize="x-small")
    best = front(last)
    label = "none is cheaper and better"
    axes.plot([row.macs for row in best], [row.score for row in best], color=COLOURS[0], linewidth=1, label=label)
    axes.set(xlabel="multiply-accumulates per image", ylabel="score: mean of accuracies, %", xscale="log")
    axes.margins(x=0.2)  # names stand on the right of their points
    axes.legend(frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    finish(made, [axes], path)

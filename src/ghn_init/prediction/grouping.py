"""A report's rows in groups that fit a screen: by module, then by what happens to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ghn_init.prediction.report import Row

MOST = 24
"""Groups that are looked at with ease."""

SHOWN = 2
"""Reasons that a table has room for."""

GROUP_COLUMNS = ("module", "parameters", "elements", "what", "why")

TILED = "predicted, tiled"
STATES = ("predicted", "fitted", "written", "kept")


@dataclass(frozen=True)
class Group:
    """Parameters below one module that are all predicted, all kept, all fitted to data, or all written as chosen.

    Attributes:
        module: Dotted name; empty for the whole model.
        state: `predicted`, `kept`, `fitted` or `written`.
        tiled: How many of them are larger than what is decoded, which is repeated.
        reasons: Why they are kept, or what is approximated or done besides → of how many, the most frequent ones first.
        names: Dotted names, in the model's order.
        numel: Their elements together.
    """

    module: str
    state: str
    tiled: int
    reasons: Mapping[str, int]
    names: tuple[str, ...]
    numel: int

    @property
    def cells(self) -> tuple[str, int, int, str, str]:
        """Module, parameters, elements, what happens to them, and why, as a table shows them."""
        state = f"{self.state}, {self.tiled} tiled" if self.tiled else self.state
        first = list(self.reasons.items())[:SHOWN]
        shown = [f"{reason}{f' ({count})' if count < len(self.names) else ''}" for reason, count in first]
        more = [f"{len(self.reasons) - SHOWN} more reasons"] if len(self.reasons) > SHOWN else []
        return self.module or "(model)", len(self.names), self.numel, state, "; ".join(shown + more)


def grouped(rows: Sequence[Row], most: int = MOST) -> tuple[Group, ...]:
    """Groups at the finest level of modules that has at most so many of them.

    Args:
        rows: A report's.
        most: Groups; where every level has more, the whole model is one module.
    """
    deepest = max((row.name.count(".") for row in rows), default=0)
    found = _at(rows, 0)
    for depth in range(1, deepest + 1):
        finer = _at(rows, depth)
        if len(finer) > most:
            break
        found = finer
    return found


def _at(rows: Sequence[Row], depth: int) -> tuple[Group, ...]:
    """Groups by the first `depth` parts of modules' names."""
    modules: dict[str, list[Row]] = {}
    for row in rows:
        modules.setdefault(".".join(row.name.split(".")[:-1][:depth]), []).append(row)
    found = []
    for module, members in modules.items():
        for state in STATES:
            if own := [row for row in members if row.state.startswith(state)]:
                found.append(_group(module, state, own))
    return tuple(found)


def _group(module: str, state: str, rows: Sequence[Row]) -> Group:
    reasons = dict(Counter(row.said for row in rows if row.said).most_common())
    names, numel = tuple(row.name for row in rows), sum(row.numel for row in rows)
    return Group(module, state, sum(row.state == TILED for row in rows), reasons, names, numel)

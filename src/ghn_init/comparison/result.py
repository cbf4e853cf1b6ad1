"""The outcome of a race between inits: who is ahead, and whether that may be chance; as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from ghn_init.comparison.interval import half_width


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        init: It began with.
        lr: Peak learning rate.
        weight_decay: Of the optimiser.
        seed: Of model, images and init.
        steps: After which it was measured,
        accuracies: in percent of the validation data, and
        losses: mean of the training batches since the last measurement.
        images: That validated; 0 where it is not known.
    """

    init: str
    lr: float
    weight_decay: float
    seed: int
    steps: tuple[int, ...]
    accuracies: tuple[float, ...]
    losses: tuple[float, ...] = ()
    images: int = 0

    @property
    def final(self) -> float:
        """At the end."""
        return self.accuracies[-1]


@dataclass(frozen=True)
class Comparison:
    """The outcome of a race.

    Attributes:
        runs: Those that count: each init at its best learning rate and weight decay, one per seed.
        tuning: Those that chose them.
        left_out: Name → why an init was not raced.
    """

    runs: tuple[Run, ...]
    tuning: tuple[Run, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def of(self, init: str) -> list[Run]:
        """An init's runs, by seed."""
        return [run for run in self.runs if run.init == init]

    @property
    def inits(self) -> list[str]:
        """Best mean first."""
        names = list(dict.fromkeys(run.init for run in self.runs))
        return sorted(names, key=lambda name: -self.mean(name))

    def mean(self, init: str) -> float:
        """Mean final accuracy, in percent."""
        return statistics.fmean(run.final for run in self.of(init))

    def deviation(self, init: str) -> float:
        """Standard deviation over the seeds; 0 for one seed."""
        finals = [run.final for run in self.of(init)]
        return statistics.stdev(finals) if len(finals) > 1 else 0.0

    def behind(self, init: str) -> tuple[float, float]:
        """Points by which an init is behind the first, and half the 95 % interval of these paired differences.

        The half is infinite for one seed, which tells nothing of chance, and so do seeds that change nothing in both runs.
        """
        pairs = list(zip(self.of(self.inits[0]), self.of(init), strict=True))
        gaps = [a.final - b.final for a, b in pairs]
        apart = {(a.losses, b.losses) if a.losses else a.seed: gap for (a, b), gap in zip(pairs, gaps, strict=True)}
        return statistics.fmean(gaps), half_width(list(apart.values()), pairs[0][0].images)

    @property
    def alike(self) -> list[str]:
        """Inits of which several seeds gave one and the same run: of one model, on batches in one order."""
        different = {name: {run.losses or run.seed for run in self.of(name)} for name in self.inits}
        return [name for name, runs in different.items() if len(runs) == 1 < len(self.of(name))]

    @property
    def winner(self) -> str | None:
        """The best init where the 95 % interval of its paired differences to each other one lies above zero; else None."""
        best, *others = self.inits
        surely = all(gap > half for gap, half in map(self.behind, others))
        return best if surely else None

    @property
    def verdict(self) -> str:
        """The winner, or that there is none, in words, and of how many seeds; which init was left out."""
        winner, seeds = self.winner, len(self.of(self.inits[0]))
        told = f"winner: {winner}" if winner else "no winner: the first is not surely ahead of all others (95 %)"
        told = f"{told}; {seeds} seed{'s' if seeds > 1 else ', which tells nothing of chance'}"
        if self.alike:
            told += (
                f"; {' and '.join(self.alike)}: the same run with each seed, whose chance is in no interval; pass a function "
                f"that makes the model, and a loader that shuffles"
            )
        return "; ".join([told, *(f"{name}: {why}" for name, why in self.left_out.items())])

    def table(self) -> list[tuple[str, ...]]:
        """Rows of words, the heading first: accuracies ± their deviations, what is behind and whether that may be chance."""
        rows: list[tuple[str, ...]] = [("init", "accuracy, %", "behind the first", "learning rate", "weight decay")]
        for name in self.inits:
            first, (gap, half) = self.of(name)[0], self.behind(name)
            spread = f" ± {self.deviation(name):.1f}" if len(self.of(name)) > 1 else ""
            behind = "" if name == self.inits[0] else f"{gap:.1f}{f' ± {half:.1f}' if half < math.inf else ''}"
            chance = " (noise)" if behind and half < math.inf and gap <= half else ""
            figures = (f"{self.mean(name):.1f}{spread}", behind + chance, f"{first.lr:g}", f"{first.weight_decay:g}")
            rows.append((name, *figures))
        return rows

    def __str__(self) -> str:
        rows = [f"{name:32}{''.join(f'{figure:>20}' for figure in figures)}" for name, *figures in self.table()]
        return "\n".join([*rows, self.verdict])

"""A ranking of networks, as a table and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ghn_init.errors import ComparisonError
from ghn_init.ranking.calibration import Calibration
from ghn_init.trials.halving import after_steps

HEADER = ("network", "score, %", "95 %", "after each rung, %", "steps", "predicted, %", "parameters", "MACs", "ms/image")
NAMED = 5
"""Ties that the summary names; the table marks all."""


@dataclass(frozen=True)
class Ranked:
    """One network.

    Attributes:
        name: The candidate's.
        score: Mean of the accuracies, in percent.
        interval: Its 95 % (Wilson's), in percent.
        steps: Of training up to there.
        accuracies: On the validation images after each rung that it came to, in percent.
        tied: Whether the first is not surely ahead of it: by the exact sign test on the same images, 95 % for all pairs of
            networks together, after the last rung that both came to.
        parameters: Number of elements.
        macs: Multiply-accumulates of convolutions and linear layers, for one image.
        predicted: What was predicted of it, in words; empty where nothing was.
        share: Elements that were predicted, in percent of all.
        expected: Accuracy that known ones let expect, in percent; None without them.
        milliseconds: Of an image's forward pass, as measured in passing.
        seconds: That its measurements took.
    """

    name: str
    score: float
    interval: tuple[float, float]
    steps: int
    accuracies: tuple[float, ...]
    tied: bool
    parameters: int
    macs: int
    predicted: str
    share: float = 0.0
    expected: float | None = None
    milliseconds: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row under `HEADER`."""
        low, high = self.interval
        rungs = " → ".join(f"{accuracy:.1f}" for accuracy in self.accuracies)
        name = f"{self.name} (tied)" if self.tied else self.name
        size = (f"{self.share:.1f}", f"{self.parameters:,}", f"{self.macs:,}", f"{self.milliseconds:.2f}")
        return (name, f"{self.score:.1f}", f"{low:.1f}–{high:.1f}", rungs, str(self.steps), *size)


@dataclass(frozen=True)
class Ranking:
    """Networks, best first. `print` it: a table.

    Attributes:
        rows: One each.
        steps: Of training, of all networks together.
        images: That these steps saw, one by one.
        val_images: That judged.
        seconds: What all of it took.
        calibration: By known accuracies, which then make the order; None without.
    """

    rows: tuple[Ranked, ...]
    steps: int
    images: int
    val_images: int
    seconds: float = field(compare=False)
    calibration: Calibration | None = None

    @property
    def order(self) -> list[str]:
        """Names, best first."""
        return [row.name for row in self.rows]

    @property
    def scores(self) -> dict[str, float]:
        """Name → mean of the accuracies after the rungs that it came to, in percent."""
        return {row.name: row.score for row in self.rows}

    @property
    def best(self) -> str:
        """The first's name."""
        return self.rows[0].name

    @property
    def summary(self) -> str:
        """How many others the first is surely ahead of and after how many steps, and what all of it cost."""
        cost = f"{self.steps} steps on {self.images:,} images" if self.steps else "no training"
        return f"first: {self.best}, {self._sure}; {cost}, {self.seconds:.1f} s"

    @property
    def _sure(self) -> str:
        first, *others = self.rows
        ties = [row.name for row in others if row.tied]
        where = f"on the same {self.val_images:,} images"
        after = Counter(min(row.steps, first.steps) for row in others if not row.tied)
        steps = ", ".join(f"{number} {after_steps(steps)}" for steps, number in sorted(after.items(), reverse=True))
        more = f" and {len(ties) - NAMED} more" if len(ties) > NAMED else ""
        not_of = f", not of {', '.join(ties[:NAMED])}{more}" if ties else ""
        if not after:
            return f"not surely ahead of {', '.join(ties[:NAMED])}{more} {where}"
        count = f"{after.total()} of {len(others)} others" if len(others) > 1 else "the other"
        return f"surely ahead of {count} {where} ({steps}){not_of}"

    def table(self) -> list[Sequence[str]]:
        """Header and rows, as text."""
        if self.calibration is None:
            return [HEADER, *(row.cells for row in self.rows)]
        expected = [f"{row.expected:.1f}" for row in self.rows if row.expected is not None]
        cells = [(*row.cells, value) for row, value in zip(self.rows, expected, strict=True)]
        return [(*HEADER, "expected, %"), *cells]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `json` takes it."""
        known = None if self.calibration is None else asdict(self.calibration)
        rows = [{**asdict(row), "interval": list(row.interval), "accuracies": list(row.accuracies)} for row in self.rows]
        plain = {name: getattr(self, name) for name in ("steps", "images", "val_images", "seconds")}
        return {"rows": rows, **plain, "calibration": known}

    def to_frame(self) -> Any:
        """A `pandas.DataFrame`: a row per network, best first; columns as in `to_dict`, but `low` and `high` for `interval`.

        Raises:
            ComparisonError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ComparisonError(
                f"a data frame needs pandas ({error}): pip install pandas, or take to_dict(), which needs nothing."
            ) from error
        rows = []
        for row in self.rows:
            values = asdict(row)
            low, high = values.pop("interval")
            rows.append({"name": values.pop("name"), "score": values.pop("score"), "low": low, "high": high, **values})
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Ranking of {len(self.rows)} networks; {self.summary}"

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in
                enumerate(zip(line, widths, strict=True))) for line in lines]  # fmt: skip
        calibrated = [] if self.calibration is None else [str(self.calibration)]
        return "\n".join([*text, self.summary, *calibrated])

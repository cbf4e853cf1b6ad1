"""A ranking of networks, as a table and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ghn_init.ranking.calibration import Calibration

HEADER = ("network", "score, %", "after each rung, %", "steps", "parameters", "MACs", "ms/image")


@dataclass(frozen=True)
class Ranked:
    """One network.

    Attributes:
        name: The candidate's.
        score: Accuracy on the validation images after the last rung that it came to, in percent.
        error: Its standard error, in percentage points.
        steps: Of training up to there.
        accuracies: After each rung, in percent.
        tied: Whether the first is not surely ahead of it (exact sign test on the same images after as many steps, 95 %).
        parameters: Number of elements.
        macs: Multiply-accumulates of convolutions and linear layers, for one image.
        predicted: What was predicted of it; empty where nothing was.
        expected: Accuracy that known ones let expect, in percent; None without them.
        milliseconds: Of an image's forward pass, as measured in passing.
        seconds: That its measurements took.
    """

    name: str
    score: float
    error: float
    steps: int
    accuracies: tuple[float, ...]
    tied: bool
    parameters: int
    macs: int
    predicted: str
    expected: float | None = None
    milliseconds: float = field(default=0.0, compare=False)
    seconds: float = field(default=0.0, compare=False)

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row under `HEADER`."""
        rungs = " → ".join(f"{accuracy:.1f}" for accuracy in self.accuracies)
        name = f"{self.name} (tied)" if self.tied else self.name
        size = (f"{self.parameters:,}", f"{self.macs:,}", f"{self.milliseconds:.2f}")
        return (name, f"{self.score:.1f} ± {self.error:.1f}", rungs, str(self.steps), *size)


@dataclass(frozen=True)
class Ranking:
    """Networks, best first. `print` it: a table.

    Attributes:
        rows: One each.
        steps: Of training, of all networks together.
        images: That these steps saw, one by one.
        seconds: What all of it took.
        calibration: By known accuracies, which then make the order; None without.
    """

    rows: tuple[Ranked, ...]
    steps: int
    images: int
    seconds: float = field(compare=False)
    calibration: Calibration | None = None

    @property
    def order(self) -> list[str]:
        """Names, best first."""
        return [row.name for row in self.rows]

    @property
    def scores(self) -> dict[str, float]:
        """Name → accuracy after the last rung that it came to, in percent."""
        return {row.name: row.score for row in self.rows}

    @property
    def best(self) -> str:
        """The first's name."""
        return self.rows[0].name

    @property
    def summary(self) -> str:
        """What it cost, and how far the first is sure."""
        ties = [row.name for row in self.rows if row.tied]
        sure = f"not surely ahead of {', '.join(ties)}" if ties else "surely ahead of all that had as many steps"
        cost = f"{self.steps} steps on {self.images:,} images, {self.seconds:.1f} s"
        return f"first: {self.best}, {sure}; {cost}"

    def table(self) -> list[Sequence[str]]:
        """Header and rows, as text."""
        if self.calibration is None:
            return [HEADER, *(row.cells for row in self.rows)]
        expected = [f"{row.expected:.1f}" for row in self.rows if row.expected is not None]
        cells = [(*row.cells, value) for row, value in zip(self.rows, expected, strict=True)]
        return [(*HEADER, "expected, %"), *cells]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `json` and `pandas.DataFrame(ranking.to_dict()["rows"])` take it."""
        known = None if self.calibration is None else asdict(self.calibration)
        rows = [{**asdict(row), "accuracies": list(row.accuracies)} for row in self.rows]
        return {"rows": rows, "steps": self.steps, "images": self.images, "seconds": self.seconds, "calibration": known}

    def __repr__(self) -> str:
        return f"Ranking of {len(self.rows)} networks; {self.summary}"

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in
                enumerate(zip(line, widths, strict=True))) for line in lines]  # fmt: skip
        calibrated = [] if self.calibration is None else [str(self.calibration)]
        return "\n".join([*text, self.summary, *calibrated])

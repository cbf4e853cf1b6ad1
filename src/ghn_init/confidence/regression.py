"""A ridge regression from clues to a measure, with an interval that held on families which took no part in its fit.

The strength is that of least error on families left out; where that isn't surely less than the error of the mean, the mean is
expected. The interval holds for a share `level` of left-out networks ("cross-conformal": Vovk, Annals of Mathematics and
Artificial Intelligence 2015; Barber et al., Annals of Statistics 2021).
"""

# Axes: N networks, F clues

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

STRENGTHS = tuple(10 ** (k / 3 - 1) for k in range(13))
"""Of the ridge, as shares of the number of networks."""
BLOCK = "embedding "
"""Clues whose name begins so are coordinates of one thing, and weigh as one clue together."""
ROUNDING = 1e-4
"""Shares of the range by which a clue may lie outside of it: files hold six digits."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a network that was not run.

    Attributes:
        value: In percent or percentage points.
        low: A share `level` of networks lies between this
        high: and that.
        level: 0 to 1.
        told: What it is, in words that go behind the number.
        beyond: In what the network lies outside of all that were measured; the interval holds for none of these.
    """

    value: float
    low: float
    high: float
    level: float
    told: str
    beyond: tuple[str, ...] = ()

    def __str__(self) -> str:
        interval = f"{100 * self.level:.0f} % of networks like those measured: {self.low:.0f} to {self.high:.0f}"
        told = f"{self.value:.0f} {self.told} ({interval})"
        return (
            f"not known, unlike all that were measured in {', '.join(self.beyond)}; the nearest: {told}"
            if self.beyond
            else told
        )


@dataclass(frozen=True)
class Regression:
    """Expected measure = level + Σ slope · (clue − mean), each clue held within what the fit has seen.

    Attributes:
        names: Of the clues.
        mean: Of each.
        lowest: Seen by the fit.
        highest: Seen by the fit.
        slope: Of each, per unit.
        offset: Where every clue is at its mean.
        errors: Sizes of the errors on left-out networks, ascending; nine at least for an interval of 90 %.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    slope: tuple[float, ...]
    offset: float
    errors: tuple[float, ...]

    def expect(self, clues: Mapping[str, float], told: str, level: float) -> Expectation:
        """What is expected of a network with these clues.

        Args:
            clues: By name, these and others.
            told: What is expected, in words.
            level: Share of networks that the interval is to hold.
        """
        value, beyond = self.offset, []
        for name, mean, low, high, slope in zip(self.names, self.mean, self.lowest, self.highest, self.slope, strict=True):
            within = min(max(clues[name], low), high)
            value += slope * (within - mean)
            if abs(within - clues[name]) > ROUNDING * (high - low) and not name.startswith(BLOCK):
                beyond.append(name)
        rank = ceil(level * (len(self.errors) + 1))
        half = self.errors[rank - 1] if rank <= len(self.errors) else inf  # too few errors to say
        return Expectation(value, value - half, value + half, level, told, tuple(beyond))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Regression:
        """What `dataclasses.asdict` gave, also by way of JSON.

        Raises:
            KeyError: A value is missing.
            ValueError: Sizes differ, or there are no errors.
            TypeError: Values are no numbers, or names no texts.
        """
        names = tuple(values["names"])
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"names are {names!r}")
        lists = {name: numbers(values[name]) for name in ("mean", "lowest", "highest", "slope", "errors")}
        if any(len(value) != len(names) for name, value in lists.items() if name != "errors") or not lists["errors"]:
            raise ValueError(f"{len(names)} names go with { ({name: len(value) for name, value in lists.items()}) }")
        (offset,) = numbers([values["offset"]])
        return cls(names, **{**lists, "errors": tuple(sorted(lists["errors"]))}, offset=offset)


def numbers(values: Any) -> tuple[float, ...]:
    """A file's list of numbers.

    Raises:
        TypeError: It is something else, or they are not finite.
    """
    if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) and isfinite(value) for value in values):
        raise TypeError(f"{values!r:.60} are no numbers")
    return tuple(values)


def fit(clues: Sequence[Mapping[str, float]], measured: Sequence[float], groups: Sequence[str]) -> Regression:
    """Fits one.

    Args:
        clues: Of each network.
        measured: Of each network.
        groups: Its family.
    """
    names = tuple(clues[0])
    X = torch.tensor([[row[name] for name in names] for row in clues], dtype=torch.float64)
    y = torch.tensor(measured, dtype=torch.float64)
    left_out = {strength: _left_out(X, y, groups, names, strength) for strength in (*STRENGTHS, inf)}
    best = min(STRENGTHS, key=lambda strength: float((left_out[strength] - y).square().mean()))
    if not _surely_less((left_out[best] - y).square(), (left_out[inf] - y).square(), groups):
        best = inf
    mean, slope, offset = _solve(X, y, names, best)
    errors = (left_out[best] - y).abs().sort().values
    return Regression(
        names,
        tuple(mean.tolist()),
        tuple(X.amin(0).tolist()),
        tuple(X.amax(0).tolist()),
        tuple(slope.tolist()),
        float(offset),
        tuple(errors.tolist()),
    )


def _surely_less(errors: Tensor, others: Tensor, groups: Sequence[str]) -> bool:
    """Whether (N,) errors are less by more than the standard error of that, families being what is drawn."""
    less = (others - errors).tolist()
    sums = torch.tensor(
        [sum(d for d, own in zip(less, groups, strict=True) if own == group) for group in dict.fromkeys(groups)]
    )
    return float(sums.mean()) > float(sums.std() / sqrt(len(sums)))


def _left_out(X: Tensor, y: Tensor, groups: Sequence[str], names: Sequence[str], strength: float) -> Tensor:
    """(N,) what is expected of each network by a fit without its family."""
    found = torch.empty_like(y)
    for group in dict.fromkeys(groups):
        own = torch.tensor([other == group for other in groups])
        mean, slope, offset = _solve(X[~own], y[~own], names, strength)
        low, high = X[~own].amin(0), X[~own].amax(0)
        found[own] = offset + (X[own].clamp(low, high) - mean) @ slope
    return found


def _solve(X: Tensor, y: Tensor, names: Sequence[str], strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """(F,) means, (F,) slopes, and the offset."""
    block = sum(name.startswith(BLOCK) for name in names)
    weight = torch.tensor([1 / sqrt(block) if name.startswith(BLOCK) else 1.0 for name in names], dtype=torch.float64)
    mean = X.mean(0)
    deviation = (X - mean).square().mean(0).sqrt()
    if strength == inf:
        return mean, torch.zeros_like(mean), y.mean()
    scale = torch.where(deviation > 1e-9, weight / deviation, 0.0)
    Z = (X - mean) * scale
    ridge = strength * len(y) * torch.eye(Z.shape[1], dtype=torch.float64)
    return mean, torch.linalg.solve(Z.T @ Z + ridge, Z.T @ (y - y.mean())) * scale, y.mean()

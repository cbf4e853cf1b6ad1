"""From scores to accuracies, where those of some candidates are known: ridge regression in closed form."""

# Axes: N candidates, M known ones, F features

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from ghn_init.errors import ComparisonError
from ghn_init.heads.ridge import regress
from ghn_init.ranking.measure import Look

LEAST_KNOWN = 4


@dataclass(frozen=True)
class Calibration:
    """What known accuracies say of the others.

    Attributes:
        accuracies: Name → expected accuracy, in percent; of all candidates.
        error: Root of the mean squared leave-one-out error on the known ones, in percentage points.
        spread: The same where the mean of the others is the guess: what `error` has to be compared with.
        known: How many are.
    """

    accuracies: Mapping[str, float]
    error: float
    spread: float
    known: int

    def __str__(self) -> str:
        return (
            f"calibrated on {self.known} known accuracies: leave-one-out error {self.error:.2f} points, where guessing the "
            f"mean has {self.spread:.2f}"
        )


def check_known(known: Mapping[str, float], names: Sequence[str]) -> None:
    """Refuses known accuracies that can't calibrate.

    Raises:
        ComparisonError: They are no mapping, of no candidate, no numbers, too few, fractions, or no percent.
    """
    if not isinstance(known, Mapping):
        raise ComparisonError(f"known is a {type(known).__name__}; expected a mapping of candidates' names to accuracies.")
    strange = [name for name in known if name not in names]
    if strange:
        raise ComparisonError(
            f"the accuracy of {strange[0]!r} is known, which is no candidate; there are {', '.join(names[:5])}."
        )
    for name, value in known.items():
        if not isinstance(value, Real):
            raise ComparisonError(f"the known accuracy of {name!r} is {value!r}; expected a number, in percent.")
    broken = {name: value for name, value in known.items() if not math.isfinite(value)}
    if broken or len(known) < LEAST_KNOWN:
        raise ComparisonError(
            f"{len(known)} accuracies are known, of which {len(broken)} are not finite; a calibration needs {LEAST_KNOWN} "
            f"finite ones at least."
        )
    for name, value in known.items():
        if not 0 <= value <= 100:
            raise ComparisonError(f"the known accuracy of {name!r} is {value:g}; expected percent, from 0 to 100.")
    if all(value <= 1 for value in known.values()):
        raise ComparisonError(
            f"the {len(known)} known accuracies go from {min(known.values()):g} to {max(known.values()):g}; expected percent, "
            f"as scores are: multiply fractions by 100."
        )


def calibrate(scores: Mapping[str, float], looks: Mapping[str, Look], known: Mapping[str, float]) -> Calibration:
    """Expected accuracies of all candidates, by ridge regression on score, log parameters, log cost and the graph's embedding.

    Its strength is that of least leave-one-out error. What `error` says of it has, for each that is left out, a strength that
    the others chose: with the one that all have chosen it would look too good.

    Args:
        scores: Name → score after as many steps for all, in percent.
        looks: Name → size, cost and embedding.
        known: Names of some → accuracy, in percent.
    """
    names = list(scores)
    features = _features(scores, looks)
    own = features[torch.tensor([names.index(name) for name in known], device="cpu")]
    targets = torch.tensor(list(known.values()), dtype=torch.float64, device="cpu")[:, None]
    M = len(known)
    others = [torch.arange(M, device="cpu") != k for k in range(M)]
    left_out = torch.cat([_expected(own[rest], targets[rest], own[~rest]) for rest in others])
    guessed = torch.stack([targets[rest].mean(0) for rest in others])
    accuracies = dict(zip(names, _expected(own, targets, features).flatten().tolist(), strict=True))
    return Calibration(accuracies, _root_mean_square(targets - left_out), _root_mean_square(targets - guessed), M)


def _expected(known: Tensor, targets: Tensor, features: Tensor) -> Tensor:
    """(N, 1) accuracies for (N, F) features, by (M, F) known ones with (M, 1) accuracies."""
    mean, level = known.mean(0), targets.mean()
    coefficients, _, _ = regress(known - mean, targets - level, 1 / len(known))
    return (features - mean) @ coefficients + level


def _root_mean_square(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())


def _features(scores: Mapping[str, float], looks: Mapping[str, Look]) -> Tensor:
    """(N, F) float64, each of unit variance over all candidates; the embedding's D count as one."""
    single = [[score, math.log(max(looks[n].parameters, 1)), math.log(max(looks[n].macs, 1))] for n, score in scores.items()]
    embeddings = torch.stack([looks[name].embedding.double() for name in scores])
    D = embeddings.shape[1]
    numbers = torch.tensor(single, dtype=torch.float64, device="cpu")
    return torch.cat([_standardised(numbers), _standardised(embeddings) / math.sqrt(D)], 1)


def _standardised(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    deviation = centred.square().mean(0).sqrt()
    varies = deviation > 1e-7 * values.abs().amax(0)
    return centred * torch.where(varies, 1 / deviation, 0.0)

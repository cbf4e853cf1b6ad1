"""Whether one of two is ahead on the same images: the exact sign test; standard errors and intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

from torch import Tensor

LEVEL = 0.025
"""Of one side: as an interval of 95 % has it."""
_QUANTILE = NormalDist().inv_cdf(1 - LEVEL)


def accuracy(right: Tensor) -> float:
    """In percent, of (N,) bool, or shares of several judgements in which an image was told rightly."""
    return 100 * float(right.double().mean())


def accuracy_error(right: Tensor) -> float:
    """Its standard error, in percentage points."""
    return share_error(float(right.double().mean()), len(right))


def share_error(share: float, images: int) -> float:
    """Standard error of a share of so many images, in percentage points.

    Two images of either kind are added (Agresti and Coull, The American Statistician 1998); else it would be none at 0 and 1.
    """
    share = (share * images + 2) / (images + 4)
    return 100 * math.sqrt(share * (1 - share) / (images + 4))


def accuracy_interval(right: Tensor) -> tuple[float, float]:
    """Of 95 %, in percent: Wilson's score interval (JASA 1927), which has a width at 0 and at 100 % too.

    Of shares it is that of a single judgement with this mean, which varies more.
    """
    N, share = len(right), float(right.double().mean())
    spread = _QUANTILE**2 / N
    centre = (share + spread / 2) / (1 + spread)
    half = _QUANTILE / (1 + spread) * math.sqrt(share * (1 - share) / N + spread / (4 * N))
    return 100 * min(max(centre - half, 0.0), share), 100 * max(min(centre + half, 1.0), share)  # but for rounding


def difference(right: Tensor, other: Tensor) -> tuple[float, float]:
    """Points by which the first of two is ahead, and their standard error over the N images."""
    gaps = right.double() - other.double()
    error = float(gaps.std()) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
    return 100 * float(gaps.mean()), 100 * error


def surely_ahead(right: Tensor, other: Tensor, among: int = 1) -> bool:
    """By the sign test on the images that one of two tells rightly more often (McNemar, Psychometrika 1947), exact.

    Where the first is one that did best on these very images, chance had more than one try: `among` is the number of
    comparisons that this one was taken from. Were all equally good, all together would be wrong in 2.5 % of cases at most
    (Bonferroni); in 5 %, where either of two could have been the first.
    """
    won, lost = int((right > other).sum()), int((other > right).sum())
    decided = won + lost
    as_many = sum(math.comb(decided, k) for k in range(won, decided + 1))  # of 2 ** decided, were both equally good
    return among * as_many / 2**decided < LEVEL

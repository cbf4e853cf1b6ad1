"""Whether one of two is ahead: Student's t interval of the mean of paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t distribution for 1, 2, … 30 degrees of freedom; the last serves for more, and errs by 4 %."""


def half_width(differences: Sequence[float]) -> float:
    """Half the width of the mean's 95 % interval, in the differences' unit; infinite for fewer than two."""
    if len(differences) < 2:
        return math.inf
    quantile = T95[min(len(differences) - 1, len(T95)) - 1]
    return quantile * statistics.stdev(differences) / math.sqrt(len(differences))

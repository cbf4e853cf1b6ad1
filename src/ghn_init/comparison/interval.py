"""Whether one of two is ahead: Student's t interval of the mean of paired differences between accuracies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ghn_init.trials.paired import share_error

T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t distribution for 1, 2, … 30 degrees of freedom; the last serves for more, and errs by 4 %."""

Z95 = 1.96
"""The same of the normal distribution."""


def half_width(differences: Sequence[float], images: int = 0) -> float:
    """Half the width of the mean's 95 % interval, in points; infinite for fewer than two.

    Accuracies on few images are coarse: differences of few seeds may be equal by chance, which would make a width of 0. It is
    no smaller than that of the share of images that one of two alone tells rightly, which are at least as many as the mean
    says. More seeds don't make it smaller, since they are judged on the same images.

    Args:
        differences: In points, of each seed.
        images: That both accuracies are of; 0 where it is not known.
    """
    if len(differences) < 2:
        return math.inf
    quantile = T95[min(len(differences) - 1, len(T95)) - 1]
    of_seeds = quantile * statistics.stdev(differences) / math.sqrt(len(differences))
    of_images = Z95 * share_error(abs(statistics.fmean(differences)) / 100, images) if images else 0.0
    return max(of_seeds, of_images)

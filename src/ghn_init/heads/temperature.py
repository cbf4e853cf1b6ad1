"""How sure a classifier may be: the factor of its scores that minimises cross-entropy."""

# Axes: N images, K classes

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

RANGE = (1e-3, 1e3)
"""Bounds of the temperature."""


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature, by which scores are divided to become logits (Guo et al., ICML 2017, arXiv 1706.04599, section 4.2).

    Cross-entropy is convex in the factor 1 / temperature: its slope is brought to zero by bisection. The targets are smoothed
    by one image's weight: N images that were all told right don't say how rare errors are, and without it the factor would
    have no bound.

    Args:
        scores: (N, K) float64, of images that the classifier was not fitted on.
        labels: (N,) int64.
    """
    N, K = scores.shape
    smoothing = 1 / (N + 1)
    targets = (1 - smoothing) * F.one_hot(labels, K) + smoothing / K
    wanted = (targets * scores).sum()

    def too_sure(temperature: float) -> bool:
        return bool(((scores / temperature).softmax(1) * scores).sum() > wanted)

    low, high = map(math.log, RANGE)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if too_sure(math.exp(middle)) else (low, middle)
    return math.exp((low + high) / 2)

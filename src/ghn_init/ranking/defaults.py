"""What a ranking does unless it is told otherwise; in a file of its own, which needs nothing."""

from __future__ import annotations

from typing import Literal

From = Literal["predicted+fitted", "predicted", "default"]
"""Where networks start: with predicted parameters and a fitted head, or a random one, or as they are made."""
FITTED: From = "predicted+fitted"
FITTED_IMAGES = 1000
"""That heads are fitted to, where they are, unless some classes are not among them."""

STEPS, RUNGS, BATCH_SIZE = 50, 2, 32
RATES: dict[From, float] = {"predicted+fitted": 0.004, "predicted": 0.02, "default": 0.05}
"""Start → peak learning rate. A fitted head falls at the rates that random ones take."""
VAL_IMAGES = 2000


def training_images(start: From, steps: int, batch_size: int) -> int:
    """That a network sees at most: in so many steps, and when its head is fitted."""
    return max(steps * batch_size, FITTED_IMAGES if start == FITTED else 0)

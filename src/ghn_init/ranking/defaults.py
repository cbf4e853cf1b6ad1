"""What a ranking does unless it is told otherwise; in a file of its own, which needs nothing."""

from __future__ import annotations

from typing import Literal

From = Literal["predicted", "predicted+fitted", "default"]
"""Where networks start: with predicted parameters and a random head, or a fitted one, or as they are made."""

STEPS, RUNGS, RATE, BATCH_SIZE = 100, 2, 0.02, 32
VAL_IMAGES = 2000

"""Learning rate over a run."""

from __future__ import annotations

from math import cos, pi


def warmup_cosine(step: int, steps: int, warmup: int) -> float:
    """Factor on the peak learning rate: linear from 0 to 1 over `warmup` steps, then half a cosine to 0.01 at `steps`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + cos(pi * progress))

"""Learning rate over a run."""

from __future__ import annotations

from math import cos, pi


def warmup_cosine(step: int, steps: int, warmup: int, cooldown: float = 1.0) -> float:
    """Factor on the peak learning rate: up from 0 over `warmup` steps, then 1, then half a cosine to 0.01 at `steps`.

    Args:
        step: 0, 1, …
        steps: Of the whole run.
        warmup: Steps of the linear rise.
        cooldown: The cosine's share of what follows the warm-up; with less than 1, the run can still be prolonged before it.
    """
    if step < warmup:
        return (step + 1) / warmup
    start = steps - cooldown * (steps - warmup)
    progress = min(max(step - start, 0.0) / max(steps - start, 1), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + cos(pi * progress))

"""Random choices that are the same on every machine and in every Python: made of `random()` alone, which Python promises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """A stream of choices that depends on `key` alone."""

    def __init__(self, key: str) -> None:
        self._random = random.Random(key).random

    def integer(self, low: int, high: int) -> int:
        """One of low, …, high."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self._random() < probability

"""Whole numbers among the arguments of verbs."""

from __future__ import annotations

import operator


def whole(name: str, value: object, least: int, error: type[Exception]) -> int:
    """The number, where it is a whole one and large enough.

    Args:
        name: Of the argument.
        value: An int, or what can be an index: NumPy's and PyTorch's whole numbers; no bool.
        least: The smallest that will do.
        error: What is raised otherwise.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise error(f"{name} is {value!r}; expected a whole number, {least} at least.")
    return number


def whole_seed(seed: object, error: type[Exception]) -> int:
    """The number, where PyTorch's generators can be seeded with it; they take an int alone.

    Args:
        seed: As for `whole`.
        error: What is raised otherwise.
    """
    number = whole("seed", seed, 0, error)
    if number >= 2**63:
        raise error(f"seed is {seed!r}; expected a whole number below 2**63.")
    return number

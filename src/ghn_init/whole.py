"""Whole numbers that a user passes."""

from __future__ import annotations

import operator
from typing import Any


def whole(name: str, value: object, least: int, error: type[Exception]) -> int:
    """The number as an int.

    Args:
        name: Of the argument.
        value: As it was passed: an int, or what has `__index__`, as NumPy's integers; no bool.
        least: That it may be.
        error: Which is raised otherwise.

    Raises:
        Exception: `error`: it is something else, or smaller.
    """
    given: Any = value
    try:
        number = None if isinstance(value, bool) else operator.index(given)
    except TypeError:
        number = None
    if number is None or number < least:
        raise error(f"{name} is {value!r}; expected a whole number, {least} at least.")
    return number

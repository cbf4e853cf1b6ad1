"""Numbers and switches of a recipe or an objective, NumPy's among them, as Python's own, which JSON can hold."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

from ghn_init.errors import TrainingError


def whole(name: str, value: Any) -> int:
    """An integer.

    Raises:
        TrainingError: It is something else.
    """
    try:
        return int(operator.index(value))
    except TypeError as error:
        raise TrainingError(f"{name} is {value!r}; expected a whole number.") from error


def real(name: str, value: Any) -> float:
    """A float, or an integer in its place.

    Raises:
        TrainingError: It is something else.
    """
    if not isinstance(value, Real):
        raise TrainingError(f"{name} is {value!r}; expected a number.")
    return value if isinstance(value, int) else float(value)


def switch(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        TrainingError: It is something else.
    """
    if isinstance(value, bool):
        return value
    import numpy as np  # here, since `ghn-init train --help` comes by this file

    if not isinstance(value, np.bool_):
        raise TrainingError(f"{name} is {value!r}; expected True or False.")
    return bool(value)

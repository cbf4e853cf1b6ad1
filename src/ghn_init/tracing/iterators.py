"""Copies of iterators, to be used up in their place: none of Python's own can be put back."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from types import MethodWrapperType
from typing import Any

ADVANCING = frozenset(
    {
        *map(type, (iter([]), iter(()), iter(""), iter(b""), iter(bytearray()), iter(range(0)), iter(range(1 << 70)))),
        *map(type, (iter(set()), iter({}), iter({}.values()), iter({}.items()))),
        *(reversed, type(reversed([])), enumerate, zip, map, filter),
        *(value for value in vars(itertools).values() if isinstance(value, type) and issubclass(value, Iterator)),
        MethodWrapperType,  # `itertools.count().__next__`
    }
)
"""Types of iterators that may be copied; generators and files can't."""


class Copies:
    """One copy of each iterator, wherever it is held."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def instead(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """The values, with copies in the place of iterators."""
        return tuple(self._copy(value) if type(value) in ADVANCING else value for value in values)

    def _copy(self, value: Any) -> Any:
        """A copy at the same place, or the iterator itself where Python has none (those of `itertools` from 3.14)."""
        if isinstance(value, MethodWrapperType):
            owner = value.__self__
            return getattr(self._copy(owner), value.__name__) if type(owner) in ADVANCING else value
        if id(value) not in self._made:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    self._made[id(value)] = self._rebuilt(*value.__reduce__())
            except Exception:  # what it is made of can't be copied
                self._made[id(value)] = value
        return self._made[id(value)]

    def _rebuilt(self, make: Any, arguments: tuple[Any, ...], state: Any = None) -> Any:
        """From what pickle would keep; iterators in it are copied, items are not."""
        result = make(*self.instead(arguments))
        if isinstance(state, tuple):  # what `cycle` has seen is in a list that grows
            state = tuple(list(each) if type(each) is list else each for each in self.instead(state))
        if state is not None:
            result.__setstate__(state)
        return result

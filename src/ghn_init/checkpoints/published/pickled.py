"""Evaluates a pickle of plain values: numbers, strings, tuples, lists, dicts, and calls that the caller allows by name.

Python's unpickler imports what a pickle names. Here a name stays a name: nothing is imported, and a call that is not in the
table is an error. `pickletools.genops` splits the bytes into operations and runs none of them.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

LONGEST = 2_000_000
"""Operations in one pickle; the published files need a few thousand."""
MOST_ARGUMENTS = 8
"""Of one call; PyTorch's tensors have up to seven."""


class PickleError(ValueError):
    """The pickle holds what none of the published files hold."""


@dataclass(frozen=True, slots=True)
class Name:
    """A function or class that the pickle mentions; it is never looked up."""

    module: str
    name: str

    def __post_init__(self) -> None:
        if type(self.module) is not str or type(self.name) is not str:
            raise PickleError("a name that is no string")

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Calls = Mapping[str, Callable[..., Any]]

_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def evaluate(stream: io.BytesIO | mmap.mmap, calls: Calls, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value of the pickle at the stream's position; the stream is left behind it.

    Args:
        stream: The bytes.
        calls: Dotted name → what stands in for it.
        persistent: Gives the value of a persistent id.

    Raises:
        PickleError: An operation or a call that is not allowed.
        ValueError: The bytes are no pickle.
    """
    stack: list[Any] = []
    marks: list[int] = []  # the stack's heights at the marks
    memo: dict[int, Any] = {}

    def top() -> Any:
        if len(stack) <= (marks[-1] if marks else 0):
            raise PickleError("an operation without its values")
        return stack[-1]

    def pop() -> Any:
        value = top()
        del stack[-1]
        return value

    def since_mark() -> list[Any]:
        if not marks:
            raise PickleError("an operation without its mark")
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    argument: Any
    for number, (operation, argument, _) in enumerate(pickletools.genops(cast(BinaryIO, stream))):
        kind = operation.name
        if number > LONGEST:
            raise PickleError(f"more than {LONGEST:,} operations")
        if kind in _VALUES:
            stack.append(argument)
        elif kind in _CONSTANTS:
            stack.append(_CONSTANTS[kind])
        elif kind in _TUPLES:
            items = [pop() for _ in range(_TUPLES[kind])]
            stack.append(tuple(reversed(items)))
        elif kind in ("PROTO", "FRAME"):
            continue
        elif kind == "STOP":
            return pop()
        elif kind == "MARK":
            marks.append(len(stack))
        elif kind == "EMPTY_TUPLE":
            stack.append(())
        elif kind == "EMPTY_LIST":
            stack.append([])
        elif kind == "EMPTY_DICT":
            stack.append({})
        elif kind == "TUPLE":
            stack.append(tuple(since_mark()))
        elif kind == "APPEND":
            item = pop()
            _extend(top(), [item])
        elif kind == "APPENDS":
            items = since_mark()
            _extend(top(), items)
        elif kind == "SETITEM":
            value, key = pop(), pop()
            _update(top(), [key, value])
        elif kind == "SETITEMS":
            items = since_mark()
            _update(top(), items)
        elif kind == "MEMOIZE":
            memo[len(memo)] = top()
        elif kind in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = top()
        elif kind in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif kind == "GLOBAL":
            stack.append(Name(*argument.split(" ")))
        elif kind == "STACK_GLOBAL":
            name, module = pop(), pop()
            stack.append(Name(module, name))
        elif kind == "BINPERSID" and persistent is not None:
            stack.append(persistent(pop()))
        elif kind == "REDUCE":
            arguments, name = pop(), pop()
            stack.append(_called(calls, name, arguments))
        elif kind == "BUILD":
            _ignore_attributes(pop(), top())
        else:
            raise PickleError(f"operation {kind}, which no published file has")
    raise PickleError("no end")


def _called(calls: Calls, name: Any, arguments: Any) -> Any:
    if not isinstance(name, Name) or str(name) not in calls:
        shown = f"{str(name)!r:.80}" if isinstance(name, Name) else reprlib.repr(name)
        raise PickleError(f"it calls {shown}; allowed are {', '.join(calls)}")
    if type(arguments) is not tuple or len(arguments) > MOST_ARGUMENTS:
        raise PickleError(f"{name} with the arguments {reprlib.repr(arguments)}")
    return calls[str(name)](*arguments)


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise PickleError(f"items for a {type(target).__name__}")
    target.extend(items)


def _update(target: Any, items: list[Any]) -> None:
    if type(target) is not dict:
        raise PickleError(f"keys for a {type(target).__name__}")
    keys = items[::2]
    if not all(type(key) is str for key in keys):  # hashing nested tuples that share parts can take forever
        raise PickleError("a key that is no string")
    target.update(zip(keys, items[1::2], strict=True))


def _ignore_attributes(state: Any, target: Any) -> None:
    """A state dict's `_metadata` (module versions) comes as attributes of its dict; nothing needs it."""
    if type(target) is not dict or not isinstance(state, dict) or set(state) - {"_metadata"}:
        raise PickleError(f"attributes for a {type(target).__name__}")

"""Puts a model and the random number generators back as they were, however a run ends."""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSet
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Restore = Callable[[], None]

_PLAIN = (
    nn.Module, Tensor, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, complex,
    torch.device, torch.dtype, torch.Size,
)  # fmt: skip
"""What is not looked into: immutable, restored elsewhere, or not the model's own."""


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores on exit what the modules' attributes hold (training flags, caches, hooks, helper objects), and random states."""
    seen: set[int] = set()
    restores = [restore for module in model.modules() for restore in _restores(vars(module), seen)]
    restores += [_random_states()]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Encoder layers in eval mode would hide their parameters in one fused operation.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for restore in restores:
            restore()


def _random_states() -> Restore:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return restore


def _restores(root: Any, seen: set[int]) -> Iterator[Restore]:
    """What has to be called to give `root`, and all that it holds, its present content back."""
    stack = [root]
    while stack:
        value = stack.pop()
        if value is None or isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        restore, inside = _restore(value)
        if restore is not None:
            yield restore
        stack.extend(inside)


def _restore(value: Any) -> tuple[Restore | None, Iterable[Any]]:
    """What gives one container, array or generator its content back, and what it holds."""
    if isinstance(value, MutableMapping):
        items = list(value.items())
        return lambda: _refill(value, items, list(value.items()), lambda: _set_items(value, items)), [v for _, v in items]
    if isinstance(value, list | deque):
        members = list(value)
        return lambda: _refill(value, members, list(value), lambda: value.extend(members)), members
    if isinstance(value, MutableSet):
        members = list(value)
        return lambda: _refill(value, members, list(value), lambda: _add(value, members)), ()
    if isinstance(value, tuple):
        return None, value
    if isinstance(value, np.ndarray):
        copy = value.copy()
        return (lambda: np.copyto(value, copy)) if value.flags.writeable else None, ()
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: _call(value.set_state, state), ()
    if isinstance(value, random.Random):
        drawn = value.getstate()
        return lambda: value.setstate(drawn), ()
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits), ()
    return None, [getattr(value, "__dict__", None)]


def _refill(container: Any, before: list[Any], now: list[Any], fill: Restore) -> None:
    """Gives a container its former content back; the container itself stays the same object."""
    if len(before) != len(now) or any(not _same(a, b) for a, b in zip(before, now, strict=True)):
        container.clear()
        fill()


def _same(a: Any, b: Any) -> bool:
    """Identity; for a mapping's items, of key and value."""
    return a is b or (type(a) is tuple and len(a) == len(b) == 2 and a[0] is b[0] and a[1] is b[1])


def _set_items(mapping: MutableMapping[Any, Any], items: list[tuple[Any, Any]]) -> None:
    for key, item in items:
        mapping[key] = item


def _add(members: MutableSet[Any], items: list[Any]) -> None:
    for item in items:
        members.add(item)


def _call(function: Callable[..., Any], *args: Any) -> None:
    function(*args)

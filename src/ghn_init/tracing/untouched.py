"""Puts a model and the random number generators back as they were, however a run ends."""

from __future__ import annotations

import contextlib
import operator
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, MutableSet
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


_FREQUENT = frozenset({type(None), bool, int, float, str, nn.Parameter, Tensor})
"""The same, for a quick look."""


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
        if type(value) in _FREQUENT or isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        restore, inside = _restore(value)
        if restore is not None:
            yield restore
        stack.extend(inside)


def _restore(value: Any) -> tuple[Restore | None, Iterable[Any]]:
    """What gives one container, array or generator its content back, and what it holds."""
    if isinstance(value, dict | MutableMapping):
        keys, items = list(value), list(value.values())
        return lambda: _refill_mapping(value, keys, items), items
    if isinstance(value, list | deque):
        members = list(value)
        return lambda: _refill(value, members, value.extend), members
    if isinstance(value, MutableSet):
        members = list(value)
        return lambda: _refill(value, members, lambda items: [value.add(item) for item in items]), ()
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


def _refill_mapping(mapping: MutableMapping[Any, Any], keys: list[Any], items: list[Any]) -> None:
    """Gives a mapping its former content back; the mapping itself stays the same object."""
    if not (_same(keys, mapping) and _same(items, mapping.values())):
        mapping.clear()
        for key, item in zip(keys, items, strict=True):
            mapping[key] = item


def _refill(container: Any, members: list[Any], fill: Callable[[list[Any]], Any]) -> None:
    """Likewise a list, deque or set."""
    if not _same(members, container):
        container.clear()
        fill(members)


def _same(before: list[Any], now: Collection[Any]) -> bool:
    return len(before) == len(now) and all(map(operator.is_, before, now))


def _call(function: Callable[..., Any], *args: Any) -> None:
    function(*args)

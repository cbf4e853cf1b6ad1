"""Puts a model and the random number generators back as they were, however a run ends.

By a snapshot of what attributes refer to, not by a copy of the model: that would double its memory, and objects that can't be
copied are common. Parameters and buffers need none, as the run is on stand-ins; plain tensors that it writes into are the
recorder's to restore.
"""

from __future__ import annotations

import contextlib
import operator
import random
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterator, MutableMapping, MutableSet
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.tracing.holders import slots_in

Snapshot = tuple[Callable[[Any, Any], Any], Any, Any]
"""A function, a container, array or generator, and the content that the function gives it back."""

_PLAIN = (
    nn.Module, Tensor, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, complex,
    torch.device, torch.dtype, torch.Size,
)  # fmt: skip
"""What is not looked into: immutable, restored elsewhere, or not the model's own."""


_FREQUENT = frozenset({type(None), bool, int, float, str, nn.Parameter, Tensor})
"""The same, for a quick look."""

_EMPTY: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores on exit what the modules' attributes hold (training flags, caches, hooks, helper objects), and random states."""
    seen: set[int] = set()
    snapshots = [snapshot for module in model.modules() for snapshot in _snapshots(vars(module), seen)]
    restore_random_states = _random_states()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Encoder layers in eval mode would hide their parameters in one fused operation.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for restore, value, content in snapshots:
            restore(value, content)
        restore_random_states()


class Draws:
    """Tells whether random numbers were drawn since."""

    def __init__(self) -> None:
        self._before = self._states()

    def made(self) -> bool:
        """Whether any were."""
        now = self._states()
        return not (now[:-1] == self._before[:-1] and torch.equal(now[-1], self._before[-1]))

    @staticmethod
    def _states() -> tuple[Any, ...]:
        numpy: Any = np.random.get_state()  # noqa: NPY002
        return random.getstate(), numpy[1].tobytes(), numpy[2], torch.get_rng_state()


def _random_states() -> Callable[[], None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return restore


def _snapshots(root: Any, seen: set[int]) -> Iterator[Snapshot]:
    """What gives `root`, and all that it holds, its present content back."""
    stack = [root]
    while stack:
        value = stack.pop()
        if type(value) in _FREQUENT or isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict | MutableMapping):
            content = (tuple(value), tuple(value.values())) if value else _EMPTY
            yield _set_mapping, value, content
            stack.extend(content[1])
        elif isinstance(value, list | deque | MutableSet):
            members = tuple(value)
            yield _set_members, value, members
            stack.extend(members)
        elif isinstance(value, tuple):
            stack.extend(value)
        elif isinstance(value, np.ndarray):
            if value.flags.writeable:
                yield np.copyto, value, value.copy()
        elif isinstance(value, torch.Generator):
            yield torch.Generator.set_state, value, value.get_state()
        elif isinstance(value, random.Random):
            yield random.Random.setstate, value, value.getstate()
        elif isinstance(value, np.random.RandomState):
            yield np.random.RandomState.set_state, value, value.get_state()
        elif isinstance(value, np.random.Generator):
            yield _set_bits, value.bit_generator, value.bit_generator.state
        elif isinstance(value, np.random.BitGenerator):
            yield _set_bits, value, value.state
        elif isinstance(value, bytearray | array):
            yield _set_buffer, value, value[:]
        else:
            stack.append(getattr(value, "__dict__", None))
            names = slots_in(value)
            if names:
                slots = {name: getattr(value, name) for name in names}
                yield _set_slots, value, slots
                stack.extend(slots.values())


def _set_mapping(mapping: MutableMapping[Any, Any], content: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Gives a mapping its former content back; the mapping itself stays the same object."""
    keys, items = content
    # What is as it was is left alone: writing to a mapping of one's own class may have effects.
    if not (_same(keys, mapping) and _same(items, mapping.values())):
        mapping.clear()
        for key, item in zip(keys, items, strict=True):
            mapping[key] = item


def _set_members(container: Any, members: tuple[Any, ...]) -> None:
    """Likewise a list, deque or set."""
    if not _same(members, container):
        container.clear()
        for member in members:
            (container.add if isinstance(container, MutableSet) else container.append)(member)


def _set_bits(generator: np.random.BitGenerator, bits: Any) -> None:
    generator.state = bits


def _set_buffer(buffer: Any, content: Any) -> None:
    """Likewise a bytearray or an array of numbers."""
    buffer[:] = content


def _set_slots(value: Any, content: dict[str, Any]) -> None:
    """Likewise an object's slots, those that had nothing before among them."""
    for name in slots_in(value):
        if name not in content:
            object.__delattr__(value, name)
    for name, item in content.items():
        if getattr(value, name, _ABSENT) is not item:
            object.__setattr__(value, name, item)


_ABSENT = object()


def _same(before: tuple[Any, ...], now: Collection[Any]) -> bool:
    """By identity: an `==` of the user's objects may be anything, as it is for tensors and arrays."""
    return len(before) == len(now) and all(map(operator.is_, before, now))

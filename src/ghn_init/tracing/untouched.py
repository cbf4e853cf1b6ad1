"""Puts a model and the random number generators back as they were, however a run ends.

By a snapshot of what attributes refer to, not by a copy of the model: that would double its memory, and objects that can't be
copied are common. Parameters and buffers need none, as the run is on stand-ins; plain tensors that it writes into are the
recorder's to restore.
"""

from __future__ import annotations

import contextlib
import functools
import io
import operator
import pickle
import queue
import random
import threading
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, MutableMapping, MutableSet
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.tracing.alone import ALONE
from ghn_init.tracing.holders import slots_in
from ghn_init.tracing.iterators import ADVANCING, Copies

_Give = Callable[[Any, Any], Any]
Snapshot = tuple[_Give, Any, Any]
"""A function, a container, array or generator, and the content that the function gives it back."""

_PLAIN = (
    nn.Module, Tensor, type, ModuleType, str, bytes, int, float, complex, torch.device, torch.dtype, torch.Size,
)  # fmt: skip
"""What is not looked into: immutable, restored elsewhere, or not the model's own."""


_FREQUENT = frozenset({type(None), bool, int, float, str, nn.Parameter, Tensor})
"""The same, for a quick look."""

_BARE = frozenset({dict, OrderedDict})
"""Most containers of a model: PyTorch's own, without attributes and mostly empty."""

_BOUND = (MethodType, BuiltinFunctionType, MethodWrapperType)
"""Functions of an object, which they may change."""

_GENERATORS = (torch.Generator, random.Random, np.random.RandomState, np.random.Generator, np.random.BitGenerator)
"""Of random numbers."""

_MOST = 1_000_000
"""Elements of a container or an array. Larger ones are data, which a forward pass leaves alone; owners of hooks hold some."""

_CONTAINERS = (dict, list, tuple, deque, set, bytearray, array)
_EMPTY: tuple[tuple[Any, ...], tuple[Any, ...]] = ((), ())


@contextlib.contextmanager
def untouched(model: nn.Module, *others: Any) -> Iterator[Before]:
    """Restores on exit what the modules' attributes hold (training flags, caches, hooks, helper objects), and random states.

    Likewise what `others` hold, inputs that cache what is computed from them, say. What it gives can tell whether the model's
    own generators were used.
    """
    with ALONE:
        before = Before()
        before.note(others)
        for module in model.modules():
            before.note(vars(module))
        restore_random_states = _random_states()
        fast_path = torch.backends.mha.get_fastpath_enabled()
        # Encoder layers in eval mode would hide their parameters in one fused operation.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            before.lend_copies()
            yield before
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            before.restore()
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


def seed_torch(seed: int) -> None:
    """Seeds PyTorch's generators, CUDA's where it is in use: `torch.manual_seed` would replace the seed that waits for CUDA.

    Such a seed, the user's, is in no generator yet, so that nothing could give it back.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


def _random_states() -> Callable[[], None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore


class Before:
    """The content of objects, and of all that they hold, as it was when they were noted."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._empty: list[dict[Any, Any]] = []
        self._snapshots: list[Snapshot] = []
        self._lent: list[Snapshot] = []
        self._copies = Copies()
        self._generators: list[tuple[Any, bytes]] = []

    def drew(self) -> bool:
        """Whether random numbers were drawn from a generator among them."""
        now = ((_by_value(generator), state) for generator, state in self._generators)
        return any(snapshot is not None and _state(snapshot) != state for snapshot, state in now)

    def lend_copies(self) -> None:
        """Iterators can't be put back; until `restore` others stand in for them."""
        for give, value, content in self._lent:
            give(value, content)

    def restore(self) -> None:
        """Gives everything its former content back."""
        for give, value, content in self._snapshots:
            give(value, content)
        for value in self._empty:
            if value:
                value.clear()

    def note(self, root: Any) -> None:
        """Takes snapshots of `root` and of what it holds."""
        stack = [root]
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind in _FREQUENT:
                continue
            if kind in _BARE and not value:
                self._empty.append(value)
                continue
            if id(value) in self._seen or isinstance(value, _PLAIN):
                continue
            self._seen.add(id(value))
            if isinstance(value, _CONTAINERS) and len(value) > _MOST:
                continue
            elif isinstance(value, dict | MutableMapping):
                self._hold(_set_mapping, value, tuple(value), tuple(value.values()), stack)
            elif isinstance(value, list | deque | MutableSet):
                self._hold(_set_members, value, (), tuple(value), stack)
            elif isinstance(value, tuple):
                stack.extend(value)
            elif isinstance(value, CellType):
                self._hold(_set_cell, value, (), _content(value), stack)
            elif isinstance(value, FunctionType):
                stack.extend([value.__dict__, value.__closure__, value.__defaults__, value.__kwdefaults__])
            elif isinstance(value, _BOUND):
                stack.extend([value.__self__, getattr(value, "__func__", None)])
            elif (snapshot := _by_value(value)) is not None:
                self._snapshots.append(snapshot)
                if isinstance(value, _GENERATORS):
                    self._generators.append((value, _state(snapshot)))
            elif not _is_shared(value):
                if isinstance(value, functools.partial):
                    stack.extend([value.func, value.args, value.keywords])
                if names := tuple(slots_in(value)):
                    self._hold(_set_slots, value, names, tuple(getattr(value, name) for name in names), stack)
                stack.append(getattr(value, "__dict__", None))

    def _hold(self, give: _Give, value: Any, keys: tuple[Any, ...], items: tuple[Any, ...], stack: list[Any]) -> None:
        """A snapshot of a container, whose items, and attributes if it has any, are looked into next."""
        self._snapshots.append((give, value, (keys, items) if items else _EMPTY))
        stack.extend(items)
        if type(value) not in _BARE:
            stack.append(getattr(value, "__dict__", None))
        if not ADVANCING.isdisjoint(map(type, items)):
            self._lent.append((give, value, (keys, self._copies.instead(items))))


def _by_value(value: Any) -> Snapshot | None:
    """Of arrays, buffers and generators, whose content is no other object."""
    if isinstance(value, np.ndarray):
        return (np.copyto, value, value.copy()) if value.flags.writeable and value.size <= _MOST else None
    if isinstance(value, torch.Generator):
        return torch.Generator.set_state, value, value.get_state()
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):  # the system's has no state
        return random.Random.setstate, value, value.getstate()
    if isinstance(value, np.random.RandomState):
        return np.random.RandomState.set_state, value, value.get_state()
    if isinstance(value, np.random.Generator):
        return _set_bits, value.bit_generator, value.bit_generator.state
    if isinstance(value, np.random.BitGenerator):
        return _set_bits, value, value.state
    if isinstance(value, bytearray | array):
        return _set_buffer, value, value[:]
    if isinstance(value, io.StringIO | io.BytesIO) and not value.closed:
        return _set_stream, value, value.__getstate__()
    return None


def _state(snapshot: Snapshot) -> bytes:
    """What a random generator's snapshot holds, to compare."""
    _, _, content = snapshot
    return content.numpy().tobytes() if isinstance(content, Tensor) else pickle.dumps(content)


def _is_shared(value: Any) -> bool:
    """Whether other threads or processes may change it meanwhile: a logger's queue must not get its items back."""
    other = type(value).__module__.partition(".")[0] in ("asyncio", "concurrent", "multiprocessing")
    return other or isinstance(value, threading.Thread | queue.Queue)


def _content(cell: CellType) -> tuple[Any, ...]:
    """Of a variable that a function shares with the one around it; nothing where it has no value yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _set_mapping(mapping: MutableMapping[Any, Any], content: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Gives a mapping its former content back; the mapping itself stays the same object."""
    keys, items = content
    # What is as it was is left alone: writing to a mapping of one's own class may have effects.
    if not (_same(keys, mapping) and _same(items, mapping.values())):
        mapping.clear()
        for key, item in zip(keys, items, strict=True):
            mapping[key] = item


def _set_members(container: Any, content: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Likewise a list, deque or set."""
    _, members = content
    if not _same(members, container):
        container.clear()
        for member in members:
            (container.add if isinstance(container, MutableSet) else container.append)(member)


def _set_bits(generator: np.random.BitGenerator, bits: Any) -> None:
    generator.state = bits


def _set_buffer(buffer: Any, content: Any) -> None:
    """Likewise a bytearray or an array of numbers."""
    buffer[:] = content


def _set_stream(stream: Any, state: Any) -> None:
    """Likewise a file in memory, with the place in it; one that was closed meanwhile can't be opened again."""
    if not stream.closed and stream.__getstate__() != state:
        stream.__setstate__(state)


def _set_cell(cell: CellType, content: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Likewise a variable of a closure."""
    _, items = content
    if not items:
        if _content(cell):
            del cell.cell_contents
    elif not _same(items, _content(cell)):
        (cell.cell_contents,) = items


def _set_slots(value: Any, content: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    """Likewise an object's slots, those that had nothing before among them."""
    names, items = content
    for name in slots_in(value):
        if name not in names:
            object.__delattr__(value, name)
    for name, item in zip(names, items, strict=True):
        if getattr(value, name, _ABSENT) is not item:
            object.__setattr__(value, name, item)


_ABSENT = object()


def _same(before: tuple[Any, ...], now: Collection[Any]) -> bool:
    """By identity: an `==` of the user's objects may be anything, as it is for tensors and arrays."""
    return len(before) == len(now) and all(map(operator.is_, before, now))

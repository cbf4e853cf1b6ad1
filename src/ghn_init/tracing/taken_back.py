"""Runs with real values whose writes into tensors of before are taken back, whoever holds them.

Parameters, buffers, plain tensors of modules and of their helpers, inputs: what is written is copied when it is, so that a run
which writes nothing takes no memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_init.tracing.writes import WRITES_STATISTICS, Overwritten, Places, leaves, storage_of, writes_of, written_by


@contextlib.contextmanager
def taken_back(model: nn.Module) -> Iterator[None]:
    """On exit all tensors have the values that they had, and the model's own the memory (`p.data = …` gives another)."""
    own = {id(tensor): (tensor, tensor.detach()) for tensor in _tensors_of(model)}
    overwritten = Overwritten()
    try:
        with _BackingUp(overwritten):
            yield
    finally:
        with torch.no_grad():
            for tensor, before in own.values():
                if not _in_place(tensor, before):
                    tensor.data = before
            overwritten.restore()


def _tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and other tensors that are a module's attributes."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _in_place(tensor: Tensor, before: Tensor) -> bool:
    """Whether it is the same piece of the same memory."""
    if tensor.layout is not torch.strided:
        return tensor.layout == before.layout
    return (
        storage_of(tensor) == storage_of(before)
        and tensor.dtype == before.dtype
        and (tensor.shape, tensor.stride(), tensor.storage_offset()) == (before.shape, before.stride(), before.storage_offset())
    )


class _BackingUp(TorchDispatchMode):
    """Notes what operations are about to write into, but for what they made themselves."""

    def __init__(self, overwritten: Overwritten) -> None:
        super().__init__()
        self._overwritten = overwritten
        self._operators: dict[Any, tuple[bool, Places]] = {}
        self._made: set[int] = set()  # identities; memory of before lives on, so that none of these is its

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        of_norms, writes = self._operators.get(func) or self._look_up(func)
        given = {storage_of(tensor) for tensor in leaves((args, kwargs), Tensor)}
        for tensor in leaves((args, kwargs), Tensor) if of_norms else written_by(writes, args, kwargs):
            if storage_of(tensor) not in self._made:
                self._overwritten.back_up(tensor)
        result = func(*args, **kwargs)
        for tensor in leaves(result, Tensor):
            key = storage_of(tensor)
            if key not in given:
                self._made.add(key)
        return result

    def _look_up(self, func: Any) -> tuple[bool, Places]:
        name = func._schema.name.removeprefix("aten::")
        self._operators[func] = facts = (name in WRITES_STATISTICS, writes_of(func))
        return facts

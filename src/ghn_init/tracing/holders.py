"""Tensors in whatever holds them: a function applied to all tensors of nested containers and objects, which stay as they are.

Inputs of a forward pass come in dataclasses, namespaces, batches of libraries (PyTorch Geometric's `Data`, transformers'
`BatchEncoding`). What holds a tensor is copied, one level at a time, with the tensors replaced.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (
    nn.Module, type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, str, bytes, int, float, complex, np.ndarray,
    torch.device, torch.dtype, torch.Generator, type(None),
)  # fmt: skip
"""What holds no input."""


def slots_in(value: Any) -> list[str]:
    """Names of the attributes that an object keeps in slots."""
    names = [name for kind in type(value).__mro__ for name in _names(kind.__dict__.get("__slots__", ()))]
    return [name for name in names if name not in ("__dict__", "__weakref__") and hasattr(value, name)]


def _names(slots: Any) -> list[str]:
    return [slots] if isinstance(slots, str) else list(slots)


def mapped(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """`tree` with `function` applied to every tensor in it; what holds none is the same object as before."""
    return _mapped(function, tree, {})


def plain(tensor: Tensor) -> Tensor:
    """The tensor in a subclass that carries something along with it (fastai's `TensorImage`), itself otherwise.

    What operations return of such a class is a new object of it, which a mode never saw, and two of them may refuse to meet.
    Parameters, and classes that compute by themselves (DTensor), are what they are.
    """
    kind = type(tensor)
    wraps = kind is not Tensor and kind.__torch_function__ is not torch._C._disabled_torch_function_impl
    return tensor.as_subclass(Tensor) if wraps and kind.__torch_dispatch__ is Tensor.__torch_dispatch__ else tensor


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """All tensors that `mapped` reaches."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    mapped(note, tree)
    yield from found


def _mapped(function: Callable[[Tensor], Tensor], tree: Any, seen: dict[int, Any]) -> Any:
    if isinstance(tree, Tensor):
        if id(tree) not in seen:
            seen[id(tree)] = function(tree)
        return seen[id(tree)]
    if isinstance(tree, _PLAIN):
        return tree
    if id(tree) not in seen:
        seen[id(tree)] = tree  # of what holds itself
        seen[id(tree)] = _copied(function, tree, seen)
    return seen[id(tree)]


def _copied(function: Callable[[Tensor], Tensor], tree: Any, seen: dict[int, Any]) -> Any:
    if isinstance(tree, tuple | list | set | frozenset):
        items = [_mapped(function, item, seen) for item in tree]
        if all(item is before for item, before in zip(items, tree, strict=True)):
            return tree
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, deque):
        queue = deque((_mapped(function, item, seen) for item in tree), tree.maxlen)
        return tree if all(item is before for item, before in zip(queue, tree, strict=True)) else queue
    held = dict(tree) if isinstance(tree, dict) else {}
    attributes = {**getattr(tree, "__dict__", {}), **{name: getattr(tree, name) for name in slots_in(tree)}}
    items_now = {key: _mapped(function, item, seen) for key, item in held.items()}
    now = {key: _mapped(function, item, seen) for key, item in attributes.items()}
    if _same(items_now, held) and _same(now, attributes):
        return tree
    return _with(tree, items_now, now)


def _same(now: dict[Any, Any], before: dict[Any, Any]) -> bool:
    return all(now[key] is before[key] for key in before)


def _with(tree: Any, items: dict[Any, Any], attributes: dict[str, Any]) -> Any:
    """A copy of an object with other content; classes of one's own may refuse to be written as usual."""
    result = copy.copy(tree)
    if isinstance(tree, dict):
        for key, item in items.items():
            dict.__setitem__(result, key, item)
    for name, value in attributes.items():
        if name in getattr(result, "__dict__", ()):
            result.__dict__[name] = value
        else:
            object.__setattr__(result, name, value)
    return result

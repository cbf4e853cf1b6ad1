"""Puts a model and the random number generators back as they were, however a run ends."""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

_CONTAINERS = (dict, OrderedDict, list, set)


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Restores every module's attributes (training flags, caches, hooks, containers) and all random states on exit."""
    modules = [(vars(module), dict(vars(module)), _contents(module)) for module in model.modules()]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # Encoder layers in eval mode would hide their parameters in one fused operation.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for attributes, before, contents in modules:
            attributes.clear()
            attributes.update(before)
            for container, content in contents:
                _refill(container, content)
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def _contents(module: nn.Module) -> list[tuple[Any, Any]]:
    """A module's containers (parameters, buffers, hooks, the user's own lists) with shallow copies of what is in them."""
    return [(value, value.copy()) for value in vars(module).values() if type(value) in _CONTAINERS]


def _refill(container: Any, content: Any) -> None:
    """Gives a container its former content back; the container itself stays the same object."""
    if len(container) == len(content) and all(a is b for a, b in zip(_items(container), _items(content), strict=True)):
        return
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def _items(container: Any) -> Iterator[Any]:
    for item in container:
        yield item
        if isinstance(container, dict):
            yield container[item]

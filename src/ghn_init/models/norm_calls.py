"""Norms that are called as functions, with running statistics in buffers of any module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from ghn_init.tracing.alone import eagerly

_OF_PYTHON = ("input", "running_mean", "running_var", "weight", "bias")
_OF_ATEN = ("input", "weight", "bias", "running_mean", "running_var")
_ARGUMENTS: dict[Any, tuple[str, ...]] = {
    F.batch_norm: (*_OF_PYTHON, "training", "momentum", "eps"),
    F.instance_norm: (*_OF_PYTHON, "use_input_stats", "momentum", "eps"),
    torch.batch_norm: (*_OF_ATEN, "training", "momentum", "eps", "cudnn_enabled"),
    torch.instance_norm: (*_OF_ATEN, "use_input_stats", "momentum", "eps", "cudnn_enabled"),
    torch.ops.aten.batch_norm.default: (*_OF_ATEN, "training", "momentum", "eps", "cudnn_enabled"),
    torch.ops.aten.instance_norm.default: (*_OF_ATEN, "use_input_stats", "momentum", "eps", "cudnn_enabled"),
}
"""Function → its arguments in order."""
_WHOSE = 5
"""Of the argument that says whether statistics are the batch's own."""


def may_hold_statistics(module: nn.Module) -> bool:
    """Whether it has a mean and a variance for norms: PyTorch's own do, others may where two buffers are vectors alike."""
    if isinstance(module, _NormBase):
        return module.running_mean is not None
    vectors = [b.shape for b in module.buffers(recurse=False) if b.is_floating_point() and b.dim() == 1]
    return len(vectors) > len(set(vectors))


@contextlib.contextmanager
def averaging(holders: Iterable[nn.Module]) -> Iterator[set[int]]:
    """Calls of norms with statistics of these modules run as in training; each statistic becomes the plain mean over its calls.

    Statistics without a call keep their values, as do those of norms whose weight is a buffer beside them: frozen by design.

    Yields:
        Ids of the buffers that were written so far.
    """
    buffers = {id(buffer) for holder in holders for buffer in holder.buffers(recurse=False)}
    written: set[int] = set()
    if not buffers:
        yield written
        return
    with eagerly(), _Averaging(buffers, written):
        yield written


class _Averaging(TorchFunctionMode):
    def __init__(self, buffers: set[int], written: set[int]) -> None:
        super().__init__()
        self.buffers = buffers
        self.written = written
        self.calls: dict[int, int] = {}

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names = _ARGUMENTS.get(func)
        if names is None:
            return func(*args, **(kwargs or {}))
        given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
        mean, var = given.get("running_mean"), given.get("running_var")
        if mean is None or var is None or id(mean) not in self.buffers or id(given.get("weight")) in self.buffers:
            return func(**given)
        count = self.calls.get(id(mean), 0)
        if not count:
            mean.zero_()  # the mean of what is not finite would stay so
            var.fill_(1)
        self.calls[id(mean)] = count + 1
        self.written |= {id(mean), id(var)}
        own_statistics = names[_WHOSE]
        return func(**{**given, own_statistics: True, "momentum": 1 / (count + 1)})

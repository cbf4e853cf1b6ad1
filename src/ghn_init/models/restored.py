"""Tensors of a model as they were, should something fail, or whatever happens."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def restored_on_failure(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Gives tensors their values back where the block raises, whatever it raises. Takes their memory once more.

    For blocks that write to them: casts to a lower precision that an autocast around it keeps are dropped.
    """
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        _put_back(before)
        raise
    finally:
        torch.clear_autocast_cache()


@contextmanager
def buffers_kept(model: nn.Module, but: Collection[nn.Module]) -> Iterator[None]:
    """Gives a model's buffers their values back, since some forwards write into theirs: counters, moving averages.

    Args:
        model: It.
        but: Modules whose own buffers are meant to change.
    """
    theirs = {id(buffer) for module in but for buffer in module.buffers(recurse=False)}
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers() if id(buffer) not in theirs]
    try:
        yield
    finally:
        _put_back(before)


@torch.no_grad()
def _put_back(before: Iterable[tuple[Tensor, Tensor]]) -> None:
    for tensor, values in before:
        # By value: some can't be written (expanded views, those of inference mode), and aren't by anybody else.
        if not tensor.is_meta and (tensor.layout != torch.strided or not _same(tensor, values)):
            tensor.copy_(values)


def _same(tensor: Tensor, values: Tensor) -> bool:
    """Bit for bit, but for the signs of zeros: NaN is NaN."""
    return tensor.shape == values.shape and bool(((tensor == values) | ((tensor != tensor) & (values != values))).all())

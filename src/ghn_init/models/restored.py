"""Tensors of a model as they were, should something fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored_on_failure(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Gives tensors their values back where the block raises, whatever it raises. Takes their memory once more."""
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, values in before:
                tensor.copy_(values)
        raise

"""Tensors of a model as they were, should something fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored_on_failure(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Gives tensors their values back where the block raises, whatever it raises. Takes their memory once more.

    For blocks that write to them: casts to a lower precision that an autocast around it keeps are dropped.
    """
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, values in before:
                # By value: some can't be written (expanded views, those of inference mode), and aren't by anybody else.
                if not tensor.is_meta and (tensor.layout != torch.strided or not _same(tensor, values)):
                    tensor.copy_(values)
        raise
    finally:
        torch.clear_autocast_cache()


def _same(tensor: Tensor, values: Tensor) -> bool:
    """Bit for bit, but for the signs of zeros: NaN is NaN."""
    return tensor.shape == values.shape and bool(((tensor == values) | ((tensor != tensor) & (values != values))).all())

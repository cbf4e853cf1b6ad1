"""Blocks of one tensor, which many slots are decoded with: their gradients are added up in one tensor of its size.

Left to autograd, each block's gradient would become a tensor of the whole size, zeros for the most part: a quarter of the
hypernetwork's time in training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Where it lies in the first two axes."""

    top: int
    left: int
    rows: int
    columns: int

    def of(self, whole: Tensor) -> Tensor:
        """A view of it."""
        return whole[self.top : self.top + self.rows, self.left : self.left + self.columns]


def blocks(whole: Tensor, wanted: Iterable[Block]) -> dict[Block, Tensor]:
    """Each block of `whole` (R, C, …) as (rows, columns, …); differentiable."""
    distinct = tuple(dict.fromkeys(wanted))
    if torch.is_grad_enabled() and whole.requires_grad and distinct:
        return dict(zip(distinct, _Blocks.apply(whole, distinct), strict=True))
    return {block: block.of(whole) for block in distinct}


class _Blocks(torch.autograd.Function):
    """Copies of blocks; backward, one sum."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, wanted: tuple[Block, ...]) -> tuple[Tensor, ...]:
        """Cuts."""
        ctx.wanted, ctx.shape = wanted, whole.shape
        return tuple(block.of(whole).clone(memory_format=torch.contiguous_format) for block in wanted)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """Adds up."""
        total = gradients[0].new_zeros(ctx.shape)
        for block, gradient in zip(ctx.wanted, gradients, strict=True):
            block.of(total).add_(gradient)
        return total, None

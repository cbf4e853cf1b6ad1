"""Node features: an embedding of the primitive plus embeddings of the parameter's shape.

Source: GHN-2 (arXiv 2110.13100), appendix on the shape encoding.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor, nn

from ghn_init.graph import Node


def channel_vocabulary(class_width: int | None = None) -> list[int]:
    """Channel counts that have an embedding of their own, sorted; published ones have their number of classes among them."""
    own = () if class_width is None else (class_width,)
    return sorted({1, 3, *own, *range(8, 64, 8), *range(64, 4096, 16), *range(4096, 8193, 32)})


def kernel_vocabulary(largest: int) -> list[int]:
    """Kernel sizes that have an embedding of their own, sorted; `largest` is the decoder's S."""
    return sorted({*range(1, max(12, largest), 2), 14, 16})


def four_sizes(node: Node) -> tuple[int, int, int, int] | None:
    """A node's shape as (output channels, input channels, kernel height, kernel width)."""
    shape = node.shape
    if shape is None:
        return None
    if len(shape) == 3:
        if node.primitive == "pos_enc" and is_grid(shape):
            side, _ = grid(shape)
            return (1, shape[2], side, side)
        return (*shape, 1)  # type: ignore[return-value]
    if len(shape) > 4:
        return (shape[0], shape[1], shape[-2], shape[-1])
    return (*shape, *(1,) * (4 - len(shape)))  # type: ignore[return-value]


def is_grid(shape: tuple[int, ...]) -> bool:
    """Whether a positional embedding, (1, n, d), is one of places in a plane."""
    return shape[0] == 1 and min(shape[1:]) > 1


def grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Side √n of the square of places in a positional embedding, (1, n, d), and how many rows are left for class tokens."""
    side = isqrt(shape[1])
    return side, shape[1] - side**2


def nearest(vocabulary: Sequence[int], size: int) -> int:
    """Index of the entry nearest to `size`, the smaller one on a tie."""
    k = bisect_left(vocabulary, size)
    if k == len(vocabulary):
        return k - 1
    if k > 0 and size - vocabulary[k - 1] <= vocabulary[k] - size:
        return k - 1
    return k


class ShapeEncoder(nn.Module):
    """Two tables of D/4 columns, for channel counts and for kernel sizes; the last row of each means 'no shape'."""

    def __init__(self, hid: int, largest_kernel: int, class_width: int | None = None) -> None:
        super().__init__()
        self.channels = channel_vocabulary(class_width)
        self.kernels = kernel_vocabulary(largest_kernel)
        self.embed_spatial = nn.Embedding(len(self.kernels) + 1, hid // 4)
        self.embed_channel = nn.Embedding(len(self.channels) + 1, hid // 4)

    def rows(self, node: Node) -> tuple[int, int, int, int]:
        """Rows of the two tables for one node: output channels, input channels, kernel height, kernel width."""
        sizes = four_sizes(node)
        if sizes is None:
            return (len(self.channels), len(self.channels), len(self.kernels), len(self.kernels))
        o, i, kh, kw = sizes
        return (self._channel_row(o), self._channel_row(i), self._kernel_row(kh), self._kernel_row(kw))

    def _channel_row(self, size: int) -> int:
        row = nearest(self.channels, size)
        if 4 <= size <= 7 and self.channels[row] != size:
            return nearest(self.channels, 8)
        return row

    def _kernel_row(self, size: int) -> int:
        return nearest(self.kernels, 3 if size == 2 else size)

    def forward(self, rows: Tensor) -> Tensor:
        """(N, 4) int64 rows → (N, D)."""
        o, i, kh, kw = rows.unbind(1)
        return torch.cat([self.embed_channel(o), self.embed_channel(i), self.embed_spatial(kh), self.embed_spatial(kw)], dim=1)

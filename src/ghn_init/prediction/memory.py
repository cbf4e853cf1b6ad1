"""Whether parameters share memory: columns of one tensor lie between each other and share none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Range = tuple[int, int]


def reach(tensor: Tensor) -> Range:
    """Of a tensor with elements, offset in its storage of its first byte, and of the one after its last."""
    last = sum((int(size) - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    first, size = int(tensor.storage_offset()), tensor.element_size()
    return first * size, (first + last + 1) * size


def overlap(one: Range, other: Range) -> bool:
    """Whether two ranges have a byte in common, so that tensors without gaps that reach over them share memory."""
    return one[0] < other[1] and other[0] < one[1]


def share(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors in one storage, whose ranges overlap, have a byte in common.

    Where one has gaps it takes, for a moment, a byte for each byte that they reach over.
    """
    if not (_has_gaps(one) or _has_gaps(other)):
        return True
    first, end = min(reach(one)[0], reach(other)[0]), max(reach(one)[1], reach(other)[1])
    marks = np.zeros(end - first, dtype=bool)
    _marks_of(one, marks, first)[...] = True
    return bool(_marks_of(other, marks, first).any())


def _has_gaps(tensor: Tensor) -> bool:
    start, end = reach(tensor)
    return tensor.numel() * tensor.element_size() < end - start


def _marks_of(tensor: Tensor, marks: NDArray[np.bool_], first: int) -> Any:
    """A view of the marks of a tensor's bytes; `first`: which byte of the storage the first mark is of."""
    size = tensor.element_size()
    start = int(tensor.storage_offset()) * size - first
    shape, strides = (*tensor.shape, size), (*(step * size for step in tensor.stride()), 1)
    return np.lib.stride_tricks.as_strided(marks[start:], shape, strides)

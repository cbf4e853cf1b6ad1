"""Result shapes of the most frequent operations, by formula: many times faster than PyTorch's own meta kernels.

Each rule takes the operation's arguments on meta tensors and returns the result, or `NotImplemented` to leave it to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Any:
    spatial = weight.dim() - 2
    if isinstance(padding, str) or x.dim() != spatial + 2 or x.shape[1] != weight.shape[1] * groups:
        return NotImplemented  # PyTorch pads, or raises, in its own words
    stride, padding, dilation = (_per_axis(p, spatial) for p in (stride, padding, dilation))
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    ]
    if min(size) < 1:
        return NotImplemented
    return x.new_empty((x.shape[0], weight.shape[0], *size))


def _per_axis(values: Sequence[int], axes: int) -> Sequence[int]:
    return values if len(values) == axes else tuple(values) * axes


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if weight.dim() != 2 or x.dim() < 1 or x.shape[-1] != weight.shape[1]:
        return NotImplemented
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _batch_norm(x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    if weight is not None and x.shape[1] != weight.shape[0]:
        return NotImplemented
    return torch.empty_like(x)


def _layer_norm(x: Tensor, normalized_shape: Sequence[int], *rest: Any) -> Any:
    if tuple(x.shape[x.dim() - len(normalized_shape) :]) != tuple(normalized_shape):
        return NotImplemented
    return torch.empty_like(x)


def _same(x: Tensor, *rest: Any, **kwargs: Any) -> Any:
    return torch.empty_like(x)


def _lstm(x: Tensor, state: Any, params: Any, has_biases: bool, layers: int, *rest: Any) -> Any:
    """PyTorch's own meta run takes a step per element of the sequence."""
    bidirectional = rest[2] if len(rest) > 2 else False
    if not isinstance(state, list | tuple) or not isinstance(params, list | tuple):
        return NotImplemented  # a packed sequence
    hidden, memory = state
    output = x.new_empty((*x.shape[:-1], hidden.shape[-1] * (2 if bidirectional else 1)))
    return output, torch.empty_like(hidden), torch.empty_like(memory)


def _gru(x: Tensor, state: Tensor, params: Any, has_biases: bool, layers: int, *rest: Any) -> Any:
    if not isinstance(params, list | tuple):
        return NotImplemented
    output, hidden, _ = _lstm(x, (state, state), params, has_biases, layers, *rest)
    return output, hidden


SHAPES: dict[str, Callable[..., Any]] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": _same,
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _gru,
    "rnn_relu": _gru,
}

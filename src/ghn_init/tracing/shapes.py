"""Result shapes of the most frequent operations, by formula: many times faster than PyTorch's own meta kernels.

Each rule takes the operation's arguments on meta tensors and returns the result, or `NotImplemented` to leave it to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    fits = weight.dim() == 2 and x.dim() > 0 and x.shape[-1] == weight.shape[1] and x.dtype == weight.dtype
    if not fits or not _fit((bias,), weight.shape[:1]):
        return NotImplemented
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _fit(tensors: Sequence[Tensor | None], shape: Sequence[int]) -> bool:
    """Whether each that there is has `shape`."""
    return all(tensor is None or tuple(tensor.shape) == tuple(shape) for tensor in tensors)


def _batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, training: bool, *rest: Any
) -> Any:
    measured = training or (mean is not None and var is not None)
    if x.dim() < 2 or not measured or not _fit((weight, bias, mean, var), x.shape[1:2]):
        return NotImplemented
    return torch.empty_like(x)


def _layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, *rest: Any
) -> Any:
    axes = len(normalized_shape)
    if axes == 0 or tuple(x.shape[x.dim() - axes :]) != tuple(normalized_shape) or not _fit((weight, bias), normalized_shape):
        return NotImplemented
    return torch.empty_like(x)


def _dropout(x: Tensor, p: float, train: bool) -> Any:
    return torch.empty_like(x) if 0 <= p <= 1 else NotImplemented


def _recurrent(x: Tensor, hidden: Tensor, params: Sequence[Tensor], layers: int, bidirectional: bool, batch_first: bool) -> Any:
    """PyTorch's own meta run takes a step per element of the sequence."""
    directions = 2 if bidirectional else 1
    if x.dim() != 3 or x.shape[2] != params[0].shape[1]:
        return NotImplemented
    if tuple(hidden.shape) != (layers * directions, x.shape[0 if batch_first else 1], params[1].shape[1]):
        return NotImplemented
    return x.new_empty((*x.shape[:2], directions * hidden.shape[2]))


def _lstm(x: Tensor, state: Any, params: Any, has_biases: bool, layers: int, dropout: float, train: bool, *form: Any) -> Any:
    if not isinstance(state, list | tuple) or not isinstance(params, list | tuple):
        return NotImplemented  # a packed sequence
    hidden, memory = state
    output = _recurrent(x, hidden, params, layers, *form)
    if output is NotImplemented or tuple(memory.shape) != (*hidden.shape[:2], params[0].shape[0] // 4):
        return NotImplemented
    return output, torch.empty_like(hidden), torch.empty_like(memory)


def _gru(x: Tensor, hidden: Tensor, params: Any, has_biases: bool, layers: int, dropout: float, train: bool, *form: Any) -> Any:
    if not isinstance(params, list | tuple):
        return NotImplemented  # a packed sequence
    output = _recurrent(x, hidden, params, layers, *form)
    return output if output is NotImplemented else (output, torch.empty_like(hidden))


def _elementwise(x: Tensor, *settings: Any, **more: Any) -> Any:
    return torch.empty_like(x) if x.is_floating_point() and x.is_contiguous() else NotImplemented


def _elementwise_(x: Tensor, *settings: Any, **more: Any) -> Any:
    return x if x.is_floating_point() else NotImplemented


def _arithmetic(x: Any, y: Any, alpha: float = 1, *, rounding_mode: str | None = None) -> Any:
    """Of two tensors the larger one has the result's shape, if the other one is repeated along axes that it lacks."""
    if not isinstance(x, Tensor) or isinstance(alpha, complex) or not (x.is_floating_point() and x.is_contiguous()):
        return NotImplemented
    if not isinstance(y, Tensor):
        return NotImplemented if isinstance(y, complex) else torch.empty_like(x)
    if x.dtype != y.dtype or not y.is_contiguous() or x.device != y.device:
        return NotImplemented
    if _repeats(y, x):
        return torch.empty_like(x)
    return torch.empty_like(y) if _repeats(x, y) else NotImplemented


def _repeats(small: Tensor, large: Tensor) -> bool:
    """Whether one tensor is repeated to have the other one's shape, or has it."""
    if small.shape == large.shape:
        return True
    own, other = small.shape, large.shape[large.dim() - small.dim() :]
    return small.dim() <= large.dim() and all(a in (1, b) for a, b in zip(own, other, strict=True))


def _mean(x: Tensor, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> Any:
    axes = {axis % x.dim() for axis in dim or () if -x.dim() <= axis < x.dim()}
    if not (x.is_floating_point() and x.is_contiguous()) or dtype is not None or not axes or len(axes) != len(dim or ()):
        return NotImplemented
    shape = (1 if axis in axes else size for axis, size in enumerate(x.shape) if keepdim or axis not in axes)
    return x.new_empty(tuple(shape))


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Any:
    if x.dim() != 4 or not (x.is_floating_point() and x.is_contiguous()) or min(*x.shape, *size) < 1 or len(size) != 2:
        return NotImplemented
    return x.new_empty((*x.shape[:2], *size))


def _attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False, **more: Any
) -> Any:
    """(B, H, T, D) alone, where nothing is repeated."""
    if q.dim() != 4 or not q.shape[:2] == k.shape[:2] == v.shape[:2] or k.shape[2] != v.shape[2] or q.shape[3] != k.shape[3]:
        return NotImplemented
    same = q.dtype == k.dtype == v.dtype and q.is_floating_point()
    if not same or mask is not None or more.get("enable_gqa") or min(*q.shape, *k.shape, *v.shape) < 1 or not 0 <= dropout <= 1:
        return NotImplemented
    return q.new_empty((*q.shape[:3], v.shape[3]))


SHAPES: dict[str, Callable[..., Any]] = {
    "add": _arithmetic,
    "sub": _arithmetic,
    "mul": _arithmetic,
    "div": _arithmetic,
    "mean": _mean,
    "adaptive_avg_pool2d": _adaptive_pool,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu"), _elementwise),
    **dict.fromkeys(("relu_", "hardtanh_", "hardswish_", "hardsigmoid_", "sigmoid_", "silu_"), _elementwise_),
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "dropout": _dropout,
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _gru,
    "rnn_relu": _gru,
}


def shaped(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of the operation of that name, or `NotImplemented` where PyTorch has to make it."""
    rule = SHAPES.get(name)
    return NotImplemented if rule is None or "out" in kwargs else rule(*args, **kwargs)

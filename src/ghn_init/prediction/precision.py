"""Mixed precision for meta-training: bfloat16 where it is faster, float32 where the processor's bfloat16 kernels are slow.

A convolution whose stride equals its dilation is computed on every second pixel alone, which are all that it sees; a 1×1
convolution with a stride likewise, in float32 too: on three channels-last channels PyTorch's backward pass of it writes where
it must not (torch 2.14, oneDNN), and the process dies sooner or later.

On CPUs, oneDNN has a fast bfloat16 kernel for depthwise convolutions of 3×3, stride 1, dilation 1 only; for the others,
and for fused attention with small heads, float32 is 1.4 to 8 times faster (`benchmarks/operations.py` measures it). On GPUs,
plain autocast.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def mixed_precision(device: torch.device, bf16: bool) -> Iterator[None]:
    """The block's networks run in bfloat16 where that pays; float32 throughout without `bf16`."""
    bf16 = bf16 and (device.type != "cpu" or bfloat16_pays())
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
        if device.type == "cpu":
            with _Kernels(bf16):
                yield
        else:
            yield


@functools.cache
def bfloat16_pays() -> bool:
    """Whether a convolution in bfloat16 is faster than in float32 on this CPU: measured once, in some 20 ms.

    With instructions for it, it takes 0.6 of the time; where it is emulated, three to ten times as long.
    """
    x = torch.zeros(8, 64, 16, 16, device="cpu").contiguous(memory_format=torch.channels_last)
    weight = torch.zeros(64, 64, 3, 3, device="cpu")
    best = {False: float("inf"), True: float("inf")}
    for _ in range(8):  # by turns, and the best: other jobs slow some of them down
        for bf16 in best:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
                started = time.perf_counter()
                F.conv2d(x, weight, padding=1)
                best[bf16] = min(best[bf16], time.perf_counter() - started)
    return best[True] < 0.9 * best[False]


class _Kernels(TorchFunctionMode):
    """Subsamples before convolutions that do; with `bf16` runs the operations of `_IN_FLOAT32` outside of autocast."""

    def __init__(self, bf16: bool) -> None:
        super().__init__()
        self._bf16 = bf16

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.conv2d and not kwargs and len(args) == 7:  # as nn.Conv2d calls it
            args = _subsampled(*args)
        slow = _IN_FLOAT32.get(func) if self._bf16 else None
        if slow is None or not slow(*args, **kwargs):
            return func(*args, **kwargs)
        args = [_float(x) for x in args]
        with torch.autocast("cpu", enabled=False):
            return func(*args, **{name: _float(x) for name, x in kwargs.items()})


def _subsampled(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Any, ...]:
    """Equal arguments with stride and dilation 1 where the kernel touches multiples of the stride s alone."""
    alone = stride == dilation or (weight.shape[2:] == (1, 1) and padding == (0, 0))
    same = isinstance(stride, tuple) and alone and stride[0] == stride[1] > 1
    if same and isinstance(padding, tuple) and all(p % stride[0] == 0 for p in padding):
        s = stride[0]
        return x[:, :, ::s, ::s], weight, bias, (1, 1), tuple(p // s for p in padding), (1, 1), groups
    return x, weight, bias, stride, padding, dilation, groups


def _float(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.is_floating_point() else x


def _slow_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Depthwise, and not one of those that have a fast bfloat16 kernel."""
    if groups == 1 or weight.shape[1] != 1:
        return False
    plain = all(size in (1, (1, 1), [1, 1]) for size in (stride, dilation))
    return not (plain and tuple(weight.shape[2:]) == (3, 3))


_IN_FLOAT32: dict[Callable, Callable[..., bool]] = {
    F.conv2d: _slow_convolution,
    F.scaled_dot_product_attention: lambda *_, **__: True,
}

"""Which precision is faster for an operation, forward and backward, in one thread: float32 or bfloat16?

    python benchmarks/operations.py [-o docs/operations.md]

`ghn_init.prediction.precision` runs in float32 what is slower in bfloat16 here. Median of `--repeats` runs, 64 images,
channels-last; both precisions are timed in turn within one process.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise(kernel: int, stride: int = 1, dilation: int = 1, size: int = 32) -> Callable[[torch.dtype], Callable[[], None]]:
    """A depthwise convolution of 32 channels."""

    def at(dtype: torch.dtype) -> Callable[[], None]:
        x = torch.randn(64, 32, size, size).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(32, 1, kernel, kernel).to(dtype).requires_grad_()
        return step(lambda: F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, 32))

    return at


def dense(kernel: int, size: int = 32) -> Callable[[torch.dtype], Callable[[], None]]:
    """A convolution of 32 channels."""

    def at(dtype: torch.dtype) -> Callable[[], None]:
        x = torch.randn(64, 32, size, size).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn(32, 32, kernel, kernel).to(dtype).requires_grad_()
        return step(lambda: F.conv2d(x, weight, None, 1, kernel // 2))

    return at


def attention(width: int) -> Callable[[torch.dtype], Callable[[], None]]:
    """Self-attention of 8 heads over 121 positions."""

    def at(dtype: torch.dtype) -> Callable[[], None]:
        q, k, v = (torch.randn(64, 8, 121, width).to(dtype).requires_grad_() for _ in range(3))
        return step(lambda: F.scaled_dot_product_attention(q, k, v))

    return at


def step(forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward and backward."""

    def run() -> None:
        y = forward()
        y.backward(torch.ones_like(y))

    return run


OPERATIONS = {
    "depthwise 3×3": depthwise(3),
    "depthwise 5×5": depthwise(5),
    "depthwise 3×3, stride 2": depthwise(3, stride=2),
    "depthwise 5×5, stride 2": depthwise(5, stride=2),
    "depthwise 3×3, dilation 2": depthwise(3, dilation=2),
    "depthwise 5×5, dilation 2": depthwise(5, dilation=2),
    "dense 1×1": dense(1),
    "dense 3×3": dense(3),
    "dense 5×5": dense(5),
    "attention, heads of 4": attention(4),
    "attention, heads of 16": attention(16),
}


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["| operation | float32 ms | bfloat16 ms | float32 / bfloat16 |", "| --- | --- | --- | --- |"]
    for name, make in OPERATIONS.items():
        runs = {dtype: make(dtype) for dtype in (torch.float32, torch.bfloat16)}
        times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in runs}
        for repeat in range(options.repeats + 1):
            for dtype, run in runs.items():
                started = time.perf_counter()
                run()
                if repeat:
                    times[dtype].append(1e3 * (time.perf_counter() - started))
        single, half = (statistics.median(times[dtype]) for dtype in runs)
        lines.append(f"| {name} | {single:.1f} | {half:.1f} | {single / half:.2f} |")
    machine = f"1 thread on an {platform.machine()} CPU, torch {torch.__version__}, medians of {options.repeats} runs"
    text = f"`python benchmarks/operations.py`, {machine}; 64 images, forward and backward.\n\n" + "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text("# Operations in two precisions\n\n" + text)


if __name__ == "__main__":
    main()

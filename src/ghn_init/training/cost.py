"""What a network costs: estimated seconds of a training step on a CPU core, from the shapes of its operations.

Non-negative least squares on about 60 networks of the training split, forward and backward, 64 images, one core of an x86_64
CPU with bfloat16 instructions: within 25 % for four fifths of them (`benchmarks/throughput.py --fit`). Other machines are
faster or slower as a whole; what counts here is the proportion.
"""

from __future__ import annotations

from math import prod

from ghn_init.tracing.record import Record

IMAGES = 64
"""The estimate is for this many images."""

DENSE, DEPTHWISE, SCORES, VALUES, CALLS = 1.6e-9, 21e-9, 350e-9, 79e-9, 0.26e-3
"""Seconds per multiply-accumulate of a dense and of a depthwise convolution, per attention score, per value, per call."""


def seconds(record: Record) -> float:
    """Estimated seconds of a network's forward and backward pass with 64 images.

    Args:
        record: Of a run on any number of images.
    """
    images = max((value.shape[0] for call in record.calls for value in call.inputs if value.source == "input"), default=1)
    total = 0.0
    for call in record.calls:
        values = sum(prod(value.shape) for value in call.outputs[:1])
        shapes = [value.shape for value in call.inputs]
        total += VALUES * values / images
        if call.op == "conv2d":
            weight = shapes[1]
            depthwise = weight[1] == 1 and weight[0] > 1
            total += (DEPTHWISE if depthwise else DENSE) * values * prod(weight[1:]) / images
        elif call.op == "linear":
            total += DENSE * values * shapes[1][1] / images
        elif "attention" in call.op:
            total += SCORES * prod(shapes[0][:-1]) * shapes[0][-2] / images
    return total + CALLS * len(record.calls)

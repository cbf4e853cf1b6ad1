"""What a network costs: estimated seconds of a training step on a CPU core, from the shapes of its operations.

Non-negative least squares on about 60 networks of the training split, forward and backward, 64 images, one core of an x86_64
CPU with bfloat16 instructions: within 25 % for four fifths of them (`benchmarks/throughput.py --fit`). Other machines are
faster or slower as a whole; what counts here is the proportion.
"""

from __future__ import annotations

from math import prod

from ghn_init.tracing.record import Record

EXAMPLES = 64
"""The estimate is for this many images, or other examples."""

COEFFICIENTS = {"dense": 1.6e-9, "depthwise": 21e-9, "scores": 350e-9, "values": 79e-9, "calls": 0.26e-3}
"""Seconds that 64 examples take for each multiply-accumulate, of a dense and of a depthwise convolution, each attention score
and each value of one example, and for each call."""


def seconds(record: Record) -> float:
    """Estimated seconds of a network's forward and backward pass with 64 examples.

    Args:
        record: Of a run on any number of examples.
    """
    found = features(record)
    return sum(COEFFICIENTS[name] * found[name] for name in COEFFICIENTS)


def features(record: Record) -> dict[str, float]:
    """How often each of `COEFFICIENTS`' units occurs: for one example, and calls in all."""
    examples = max((value.shape[0] for call in record.calls for value in call.inputs if value.source == "input"), default=1)
    total = dict.fromkeys(COEFFICIENTS, 0.0)
    for call in record.calls:
        values = sum(prod(value.shape) for value in call.outputs[:1])
        shapes = [value.shape for value in call.inputs]
        total["values"] += values
        if call.op == "conv2d":
            weight = shapes[1]
            depthwise = weight[1] == 1 and weight[0] > 1
            total["depthwise" if depthwise else "dense"] += values * prod(weight[1:])
        elif call.op == "linear":
            total["dense"] += values * shapes[1][1]
        elif "attention" in call.op:
            total["scores"] += prod(shapes[0][:-1]) * shapes[0][-2]
    return {**{name: count / examples for name, count in total.items()}, "calls": float(len(record.calls))}

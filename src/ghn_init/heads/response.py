"""What a model makes of its heads' results: how an output answers to other results in their place."""

# Axes: B images, K classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ghn_init.errors import HeadError

Run = Callable[[Mapping[str, Tensor]], Tensor]
"""Dotted name of a head's weight → (K,) what it shall give; → (B, K) the model's output."""


@dataclass(frozen=True)
class Response:
    """The output's logits are Σ factor × result, averaged over positions, but for what all classes have in common.

    Attributes:
        factors: One per head: 1 for a head alone, ½ for the mean of two, 10 where logits are scaled by 10.
        rectified: It is so for positive results alone: a ReLU follows the head, as in SqueezeNet.
    """

    factors: tuple[float, ...]
    rectified: bool


def centred_logits(output: Tensor) -> Tensor:
    """(B, K) logits, log-probabilities or probabilities → float64 logits of mean zero."""
    output = output.double()
    if (output >= 0).all() and (output.sum(1) - 1).abs().max() < 1e-2:
        output = output.clamp_min(torch.finfo(torch.float64).tiny).log()
    return output - output.mean(1, keepdim=True)


def measure_response(run: Run, heads: Sequence[str], classes: int, tolerance: float) -> Response:
    """Lets each head in turn give results that differ from class to class.

    Args:
        run: Of the model in eval mode.
        heads: Dotted names of the weights of the heads of one output.
        classes: K.
        tolerance: Share of a response that may be rounding.

    Raises:
        HeadError: What follows a head is neither linear nor a softmax.
    """
    steps = torch.linspace(-1, 1, classes, dtype=torch.float64, device="cpu")
    ramp = steps + steps.square() / 3  # uneven, since a sigmoid's response to -1, 0, 1 looks linear
    ramp -= ramp.mean()

    def factors(level: float) -> list[float | None]:
        flat = {name: torch.full((classes,), level, dtype=torch.float64, device="cpu") for name in heads}
        base = centred_logits(run(flat))
        return [_factor(centred_logits(run({**flat, name: level + ramp})) - base, ramp, tolerance) for name in heads]

    # Of two classes any response is linear; that it is the same at another level tells.
    low, high, higher = map(factors, (-1.0, 2.0, 3.0))
    for name, *found in zip(heads, low, high, higher, strict=True):
        if None in found[1:] or not _same(found[1:2], found[2:], tolerance):
            raise HeadError(
                f"what follows the head '{name}' is neither linear nor a softmax: a classifier can't be written into it."
            )
    return Response(tuple(factor for factor in high if factor), rectified=not _same(low, high, tolerance))


def _same(some: Sequence[float | None], others: Sequence[float | None], tolerance: float) -> bool:
    pairs = zip(some, others, strict=True)
    return all(a is not None and b is not None and abs(a - b) <= 10 * tolerance * abs(b) for a, b in pairs)


def _factor(response: Tensor, ramp: Tensor, tolerance: float) -> float | None:
    """The c of a (B, K) response c × ramp."""
    factor = float((response * ramp).sum() / (len(response) * ramp.square().sum()))
    off = (response - factor * ramp).abs().max()
    return factor if factor and off <= tolerance * abs(factor) else None

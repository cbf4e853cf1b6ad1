"""Forward passes that can't be traced whatever numbers and sizes they are given, each with its way out."""

from __future__ import annotations

import re

from torch import nn

from ghn_init.tracing.gradients import DifferentiatesError
from ghn_init.tracing.holders import tensors_in
from ghn_init.tracing.inputs import Inputs

_HIGHER_ORDER = re.compile(r"no rule registered for (?:HigherOrderOperator|HOP) (\w+)")


class NoTensorError(Exception):
    """The forward pass returned something without tensors, of the kind that the message names."""


def refused(model: nn.Module, failures: list[tuple[Inputs, Exception]]) -> str | None:
    """Why no other inputs of the kind would help, and what would; None where they might.

    Args:
        model: That was run.
        failures: What it was run on, and what it raised, in order; at least one.
    """
    taken = next((error for _, error in failures if isinstance(error, DifferentiatesError)), None)
    forward = f"the forward pass of {type(model).__name__}"
    if taken is not None:
        return (
            f"{forward} differentiates ({taken}): there are no gradients while shapes are traced, and no other inputs would "
            f"help. Initialise the module that it differentiates by itself."
        )
    inputs, error = failures[-1]
    if any(tensor.is_nested for tensor in tensors_in((inputs.args, inputs.kwargs))):
        return (
            f"{forward} can't be traced on {inputs}: a nested tensor has no shape as others have. Pass a padded one, "
            f"tensor.to_padded_tensor(0.0): the layers that read it are the same."
        )
    if isinstance(error, NoTensorError):
        return (
            f"{forward} returned {error}, in which there is no tensor, on {inputs}: what a layer is for is told from what is "
            f"returned. Let it return what it computes: a tensor, or a tuple, list, dict or object that holds some."
        )
    operator = _HIGHER_ORDER.search(str(error)) if isinstance(error, NotImplementedError) else None
    if operator is not None:
        return (
            f"{forward} calls {operator[1]}, a higher-order operator, which is not followed, and no other inputs would help. "
            f"Let it compute the same by ordinary operations while it is initialised (scaled_dot_product_attention, a loop), "
            f"or initialise the modules that it is made of by themselves."
        )
    return None

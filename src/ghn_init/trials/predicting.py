"""What a race of starts needs of a model: predictions for copies of it, and copies."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import nn

from ghn_init.checkpoints.pretrained import given
from ghn_init.errors import ComparisonError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models.batches import traced_on
from ghn_init.prediction.prediction import Prediction
from ghn_init.tracing.unwrap import unwrap

_PATTERNS = ("only", "exclude", "overwrite")


def predicting(
    prediction_for: Callable[..., Prediction],
    model: nn.Module,
    ghn: GraphHyperNetwork | str | os.PathLike[str] | None,
    example_inputs: Any,
    options: Mapping[str, Any],
) -> Callable[..., Prediction]:
    """`ghn_init.predict` without a head, as it is asked for a model, for the model and for copies of it without wrappers.

    Args:
        prediction_for: That of `api.py`.
        model: The caller's.
        ghn: Is loaded once.
        example_inputs: The caller's; None takes those of the call.
        options: Its keywords; their patterns are of the caller's model.

    Returns:
        A function of (example inputs, model, dotted names to keep besides, whether its head is fitted afterwards).
    """
    hypernetwork = given(ghn)
    _, prefix = unwrap(model)

    def predicted(inputs: Any, which: nn.Module, kept: Collection[str] = (), fits_head: bool = False) -> Prediction:
        kept = [*_listed(options.get("exclude", ())), *kept]
        wishes = {**options, "head": False, "exclude": kept, "fits_head": fits_head}
        if unwrap(which)[1] != prefix:
            own = (name for name in _PATTERNS if wishes.get(name) is not None)
            wishes |= {name: [pattern.removeprefix(prefix) for pattern in _listed(wishes[name])] for name in own}
        if example_inputs is not None:
            return prediction_for(which, hypernetwork, example_inputs, **wishes)
        with traced_on(which, inputs):
            return prediction_for(which, hypernetwork, inputs, **wishes)

    return predicted


def _listed(patterns: str | Iterable[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def copied(
    model: nn.Module,
    called: str = "",
    way: str = "each start needs a model of its own; pass a function that makes it to ghn_init.choose",
) -> nn.Module:
    """A copy without wrappers.

    Args:
        model: What is copied.
        called: What the error calls it, by default its class.
        way: Why a copy is needed, and the way out.

    Raises:
        ComparisonError: It can't be copied.
    """
    inner, _ = unwrap(model)
    try:
        return copy.deepcopy(inner)
    except Exception as error:  # whatever the model holds
        raise ComparisonError(
            f"{called or type(inner).__name__} can't be copied ({type(error).__name__}: {error}): {way}."
        ) from error

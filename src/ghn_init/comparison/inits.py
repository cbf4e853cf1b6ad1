"""The initialisations that race: the model's own, classical ones, predicted parameters. Each writes into a fresh model."""

# Axes: B images

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from ghn_init.api import predict
from ghn_init.checkpoints.pretrained import bundled, load
from ghn_init.comparison.classical import LAYERS, default, mimetic, orthogonal, plain_attention, residual_norms, zero_gamma
from ghn_init.comparison.impulse import impulse
from ghn_init.comparison.rivals import dirac, lsuv, whitened
from ghn_init.comparison.weights import writable
from ghn_init.errors import CheckpointError, ComparisonError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction.conditioning import Condition, Conditioning, Kind
from ghn_init.prediction.meaning import frozen
from ghn_init.prediction.selection import Head

Init = Callable[[nn.Module, int], None]
"""Writes into a model that its own initialisation has been through; the second argument is a seed."""


def predicted(
    ghn: GraphHyperNetwork, condition: Condition | Conditioning = "auto", head: Head = "auto", example_inputs: Any = None
) -> Init:
    """Predicted parameters, as `initialize` writes them."""

    def write(model: nn.Module, seed: int) -> None:
        predict(model, ghn, example_inputs, head=head, seed=seed, condition=condition).apply_()  # initialize warns as well

    return write


def keeping_frozen(init: Init) -> Init:
    """The same, but frozen parameters beside trainable ones keep their values, as predictions leave them."""

    def write(model: nn.Module, seed: int) -> None:
        before = {name: model.get_parameter(name).detach().clone() for name in frozen(dict(model.named_parameters()))}
        init(model, seed)
        with torch.no_grad():
            for name, value in before.items():
                model.get_parameter(name).copy_(value)

    return write


_WEIGHTS = "+weights"
ZERO_GAMMA = "zero-gamma"

CLASSICAL: Mapping[str, Init] = {
    "default": default,
    "orthogonal": orthogonal,
    "mimetic": mimetic,
    "impulse": impulse,
    "dirac": dirac,
}
OF_IMAGES: Mapping[str, Callable[..., None]] = {"whitened": whitened, "lsuv": lsuv}
"""Those that look at images."""
NAMES = (*CLASSICAL, ZERO_GAMMA, *OF_IMAGES, "GHN", "GHN+CONDITION", f"GHN+CONDITION{_WEIGHTS}")
"""What `named` takes."""


def named(name: str, example_inputs: Any = None, images: Tensor | None = None) -> Init:
    """An init by name: a classical one, or a hypernetwork as `ghn_init.load` takes it.

    Args:
        name: Of the init; of a hypernetwork `NAME`, `NAME+CONDITION`, or `NAME+CONDITION+weights`, where biases and norms keep
            the model's own values.
        example_inputs: As `ghn_init.trace` takes them, for inits that trace.
        images: (B, C, H, W), a few hundred, for inits that look at them.

    Raises:
        ComparisonError: Neither, no such condition, or an init that looks at images without any.
    """
    if name in OF_IMAGES:
        if images is None:
            raise ComparisonError(f"the init {name!r} looks at images; pass images=.")
        return keeping_frozen(partial(OF_IMAGES[name], images=images))
    if name == ZERO_GAMMA:
        return keeping_frozen(partial(zero_gamma, example_inputs=example_inputs))
    if name in CLASSICAL:
        return keeping_frozen(CLASSICAL[name])
    checkpoint, plus, condition = name.partition("+")
    try:
        ghn = load(checkpoint)
    except CheckpointError as error:
        a_word = checkpoint.replace("-", "").replace("_", "").isalpha()  # and so no hypernetwork that one could have meant
        raise ComparisonError(
            f"there is no init {name!r}; expected one of {', '.join(NAMES)}.{'' if a_word else f' As a GHN: {error}'}"
        ) from error
    if not plus:
        return predicted(ghn, example_inputs=example_inputs)
    kind = condition.removesuffix(_WEIGHTS)
    if kind not in get_args(Kind):
        raise ComparisonError(
            f"{name!r} has the condition {condition!r}; expected {', '.join(get_args(Kind))}, or one with {_WEIGHTS}."
        )
    conditioning = Conditioning(cast(Kind, kind), vectors=kind == condition)
    return predicted(ghn, conditioning, example_inputs=example_inputs)


def zero_gammas(model: nn.Module, example_inputs: Any = None) -> bool | None:
    """Whether the last norms of all residual branches start at zero already; None where there are none."""
    gammas = [model.get_parameter(name) for name in residual_norms(model, example_inputs)]
    return not any(gamma.is_meta or bool(gamma.any()) for gamma in gammas) if gammas else None


def applicable(model: nn.Module, example_inputs: Any = None) -> list[str]:
    """Names of the inits that suit a model: classical ones, and each bundled hypernetwork without and with conditioning.

    For plain attention its weights alone as well. Zero gammas are left out where they are the default, as in timm's ResNets,
    orthogonal weights where a hook computes one.
    """
    names = ["default"]
    if zero_gammas(model, example_inputs) is False:
        names.append(ZERO_GAMMA)
    if all(writable(module) for module in model.modules() if isinstance(module, LAYERS)):
        names.append("orthogonal")
    attention = bool(plain_attention(model))
    if attention:
        names.append("mimetic")
    for checkpoint in bundled():
        names += [checkpoint, f"{checkpoint}+noise", f"{checkpoint}+orthogonal+noise"]
        if attention:
            names.append(f"{checkpoint}+orthogonal+noise{_WEIGHTS}")
    return names

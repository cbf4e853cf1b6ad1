"""Weights that are made from other tensors: parametrizations are inverted, and what was derived from weights is made anew."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ghn_init.graph import Graph

INVERTED = "written through right_inverse, so that the weight is what was predicted, as far as its parametrization allows"
NO_INVERSE = "its parametrization has no right_inverse: the weight is a function of what is predicted"
UNREACHED = "its right_inverse does not take the predicted weight: the weight is a function of what is predicted"
COMPUTED = "the model computes the layer's weight from what is predicted here"
ITERATIONS = 50
"""Of power iterations, from vectors that belong to other weights: then the largest singular value is known to a percent."""


def parametrizations(model: nn.Module) -> dict[str, ParametrizationList]:
    """Dotted name of each parameter that one parametrization of its own shape makes a weight from → that parametrization."""
    return {
        f"{prefix}.original": module
        for prefix, module in model.named_modules()
        if isinstance(module, ParametrizationList) and isinstance(getattr(module, "original", None), nn.Parameter)
    }


def computed_weights(graph: Graph) -> set[str]:
    """Dotted names of the parameters that a layer's weight is a function of."""
    return {node.weight for node in graph.nodes if node.computed and node.weight is not None}


@torch.no_grad()
def invertible(parametrization: ParametrizationList) -> bool:
    """Whether `right_inverse` takes a weight; tried on a copy, since it may change the parametrization."""
    try:
        trial = copy.deepcopy(parametrization)  # a look at the weight may change buffers as well
        weight = trial()
        return inverse(trial, weight).shape == weight.shape
    except Exception:  # whatever the user's parametrization raises; PyTorch's own has NotImplementedError
        return False


def takes(parametrization: ParametrizationList, weight: Tensor) -> bool:
    """Whether `right_inverse` gives finite values for a weight, as one for positive weights may not; tried on a copy."""
    try:
        return bool(inverse(copy.deepcopy(parametrization), weight).isfinite().all())
    except Exception:  # as above
        return False


def inverse(parametrization: ParametrizationList, weight: Tensor) -> Tensor:
    """The tensor from which the parametrization makes the weight."""
    for part in reversed(list(parametrization)):
        weight = part.right_inverse(weight)  # type: ignore[operator]
    return weight


@torch.no_grad()
def refresh_derived_(model: nn.Module, written: Collection[str]) -> None:
    """Makes anew what modules keep beside weights that were written.

    That are the singular vectors of spectral norms, and the weights of old-style norms and of pruning: by as many steps of
    training mode as power iterations need.
    """
    for prefix, module in model.named_modules():
        if isinstance(module, ParametrizationList):
            stateful = any(True for _ in module.buffers())
            if stateful and any(_inside(name, prefix) for name in written):
                _iterate_in_training_mode(module, module)
        for hook in _derivations(module):
            if any(_inside(name, prefix) for name in written):
                _iterate_in_training_mode(module, hook, module, None)


def _inside(name: str, prefix: str) -> bool:
    return name.rpartition(".")[0] == prefix


def _derivations(module: nn.Module) -> Iterator[Any]:
    """Hooks that compute a weight before each forward pass, as `torch.nn.utils.spectral_norm` and pruning register them."""
    for hook in module._forward_pre_hooks.values():
        if hasattr(hook, "compute_weight") or hasattr(hook, "apply_mask"):
            yield hook


def derived_names(module: nn.Module) -> set[str]:
    """Attributes that such hooks compute; they are made anew when weights are written."""
    return {str(getattr(hook, "name", getattr(hook, "_tensor_name", ""))) for hook in _derivations(module)}


def _iterate_in_training_mode(module: nn.Module, function: Any, *args: Any) -> None:
    modes: Mapping[nn.Module, bool] = {part: part.training for part in module.modules()}
    try:
        for part in modes:
            part.training = True
        for _ in range(ITERATIONS):
            function(*args)
    finally:
        for part, mode in modes.items():
            part.training = mode

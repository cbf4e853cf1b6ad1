"""Layers' weights, which inits write, also where a parametrization computes them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ghn_init.errors import ComparisonError
from ghn_init.prediction.parametrized import refresh_derived_


@torch.no_grad()
def writable(layer: Any) -> bool:
    """Whether a layer's weight is a parameter of its own, or computed by a parametrization that can be inverted."""
    if not is_parametrized(layer, "weight"):
        return isinstance(layer._parameters.get("weight"), nn.Parameter)
    try:  # on a copy, since it may change the parametrization
        trial = copy.deepcopy(layer)
        trial.weight = trial.weight.detach()
    except Exception:  # whatever the parametrization raises; PyTorch's own has NotImplementedError
        return False
    return True


@torch.no_grad()
def write_(layer: Any, values: Tensor, rows: slice = slice(None)) -> None:
    """Writes a layer's weight, or some rows of it, in its own dtype and memory format.

    Raises:
        ComparisonError: It is computed from other parameters in a way that can't be inverted.
    """
    if not writable(layer):
        raise ComparisonError(
            f"the weight of a {type(layer).__name__} is computed from other parameters, by a hook or by a parametrization "
            f"without right_inverse, through which no init can write; leave this init out."
        )
    if not is_parametrized(layer, "weight"):
        layer.weight[rows].copy_(values)
        return
    whole = layer.weight.clone()
    whole[rows] = values.to(whole)
    try:
        layer.weight = whole
    except Exception as error:  # whatever the parametrization's inverse raises
        raise ComparisonError(
            f"the parametrization of a {type(layer).__name__}'s weight does not take what the init gives it "
            f"({type(error).__name__}: {error}); leave this init out."
        ) from error
    refresh_derived_(layer, ["parametrizations.weight.original"])  # singular vectors of what was there before

"""What a prediction may break that no parameter's row shows: caches of weights, merged adapters, copies that are trained."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping

import torch
from torch import Tensor, nn

from ghn_init.prediction.parametrized import derived_names

LEAST = 16
"""Fewer elements correlate by chance."""


def cautions(model: nn.Module, parameters: Mapping[str, Tensor], predicted: Container[str]) -> Iterator[str]:
    """Warnings about a model that is about to be written.

    Args:
        model: The user's model.
        parameters: Dotted name → parameter.
        predicted: Dotted names of those that are predicted.
    """
    for name, module in model.named_modules():
        if is_merged(module) and any(_below(parameter, name) and parameter in predicted for parameter in parameters):
            yield f"'{name}' holds a merged adapter: unmerge it first, or unmerging later changes what was predicted"
    for name in parameters:
        for attribute in stale(model, name, parameters[name]) if name in predicted else ():
            yield f"'{attribute}' seems to be computed from '{name}', and still is what the former values gave"
    for name, other in trained_copies(parameters):
        if name in predicted or other in predicted:
            yield f"'{name}' is a copy of '{other}', but not frozen: they will differ (freeze it, and they stay the same)"
            break  # one row says it of a whole module


def is_merged(module: nn.Module) -> bool:
    """Whether a module says that its adapter is part of its weight, as those of PEFT and loralib do."""
    return isinstance(flag := getattr(module, "merged", False), bool) and flag


def beside(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Buffers and plain tensors of the module that owns a parameter, by dotted name."""
    prefix, _, _ = name.rpartition(".")
    owner = model.get_submodule(prefix)
    derived = derived_names(owner)
    plain = {key: value for key, value in vars(owner).items() if type(value) is Tensor and key not in derived}
    held = {**{key: value for key, value in owner._buffers.items() if value is not None}, **plain}
    return {f"{prefix}.{key}".removeprefix("."): value for key, value in held.items()}


def stale(model: nn.Module, name: str, parameter: Tensor) -> list[str]:
    """Names of tensors beside a parameter that are like it: caches, folded or merged weights."""
    if parameter.is_meta or parameter.dim() < 2 or parameter.numel() < LEAST:
        return []
    found = []
    for key, tensor in beside(model, name).items():
        if tensor.shape == parameter.shape and tensor.is_floating_point() and not tensor.is_meta:
            pair = torch.stack([parameter.detach().flatten(), tensor.detach().to(parameter).flatten()]).float()
            if bool(torch.corrcoef(pair)[0, 1].abs() > 0.7):
                found.append(key)
    return found


def trained_copies(parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of trainable weights with the same random values, but for repeated layers, whose names differ in numbers alone."""
    seen: dict[tuple[object, ...], list[str]] = {}
    for name, parameter in parameters.items():
        value = parameter.detach()
        if not parameter.requires_grad or value.is_meta or value.dim() < 2 or value.numel() < LEAST:
            continue
        first = float(value[(0,) * value.dim()].real)
        for other in seen.setdefault((value.shape, value.dtype, first), []) if first else ():
            repeated = re.sub(r"\d+", "#", name) == re.sub(r"\d+", "#", other)
            if not repeated and torch.equal(value, parameters[other]) and bool((value != first).any()):
                yield name, other
        seen[value.shape, value.dtype, first] = [*seen.get((value.shape, value.dtype, first), ()), name]


def _below(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(prefix + ".")

"""What a prediction may break that no parameter's row shows: caches of weights, merged adapters, copies that are trained."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.prediction.meaning import are_equal, varies
from ghn_init.prediction.parametrized import derived_names

LEAST = 16
"""Fewer elements correlate by chance."""
MOST = 1000
"""Longer lists hold data."""
DEPTH = 2
"""How far objects of a module are looked into: an average's list of weights."""
_SCALARS = frozenset({type(None), bool, int, float, str})
_BOOKS = frozenset(vars(nn.Module()))
"""In which a module registers parameters, buffers, modules and hooks."""


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
    for what, copies in (
        ("which no module registers, ", hidden_copies(model, parameters)),
        ("which is no parameter, ", stored_copies(model, parameters)),
    ):
        for label, name in copies:
            if name in predicted:
                yield f"'{label}', {what}is a copy of '{name}': they will differ (copy it anew)"
                break


def is_merged(module: nn.Module) -> bool:
    """Whether a module says that its adapter is part of its weight, as those of PEFT and loralib do."""
    return isinstance(flag := getattr(module, "merged", False), bool) and flag


def beside(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Buffers and plain tensors of the module that owns a parameter, by dotted name."""
    prefix, _, _ = name.rpartition(".")
    owner = model.get_submodule(prefix)
    # Also where such a tensor is held a second time, as recurrent layers do.
    derived = {id(getattr(owner, key, None)) for key in derived_names(owner)}
    plain = {key: value for key, value in unregistered(owner) if type(value) is Tensor and id(value) not in derived}
    held = {**{key: value for key, value in owner._buffers.items() if value is not None}, **plain}
    return {f"{prefix}.{key}".removeprefix("."): value for key, value in held.items()}


def unregistered(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module keeps in attributes of its own, in lists, dictionaries and objects there, by the way to it; no scalars."""
    for key, value in vars(module).items():
        if type(value) not in _SCALARS and key not in _BOOKS:
            yield from _held(key, value, DEPTH)


def _held(label: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    yield label, value
    if not depth or isinstance(value, nn.Module | Tensor | type | ModuleType):
        return
    if isinstance(value, list | tuple | dict):
        items: Any = value.items() if isinstance(value, dict) else enumerate(value)
        items, way = items if len(value) <= MOST else (), "{}[{!r}]"
    else:
        held = getattr(value, "__dict__", None)
        items, way = held.items() if isinstance(held, dict) else (), "{}.{}"
    for key, item in items:
        if type(item) not in _SCALARS:
            yield from _held(way.format(label, key), item, depth - 1)


def hidden_copies(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Weights of modules that the model holds without registering them, as averages and teachers are, → the equal parameter."""
    registered = {id(module) for module in model.modules()}
    for prefix, owner in model.named_modules():
        for key, module in unregistered(owner):
            if isinstance(module, nn.Module) and id(module) not in registered:
                for name, value in module.named_parameters():
                    if value.dim() < 2 or not varies(value):
                        continue
                    for other, parameter in parameters.items():
                        if parameter is not value and are_equal(value, parameter):
                            yield f"{prefix}.{key}.{name}".removeprefix("."), other


def stored_copies(model: nn.Module, parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Buffers and plain tensors with the values of a parameter of another module, or transposed, → that parameter.

    Averages keep them, `LitEma` of latent diffusion in buffers, torch_ema in a list. What is of the same shape, beside the
    parameter itself, is a cache (`stale`).
    """
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, parameter in parameters.items():
        if parameter.dim() > 1 and parameter.numel() >= LEAST and not parameter.is_meta:
            alike.setdefault(tuple(parameter.shape), []).append(name)
    for prefix, owner in model.named_modules():
        held = [(key, value) for key, value in owner._buffers.items() if value is not None]
        plain = ((key, value) for key, value in unregistered(owner) if type(value) is Tensor)
        for key, value in [*held, *plain]:
            for turned in (False, True) if value.dim() == 2 else (False,):
                for name in alike.get(tuple(value.shape[::-1] if turned else value.shape), ()):
                    beside_it = name.rpartition(".")[0] == prefix and not turned
                    other = parameters[name].detach().T if turned else parameters[name].detach()
                    if not beside_it and _is_copy(value, other):
                        yield f"{prefix}.{key}".removeprefix("."), name


def _is_copy(value: Tensor, other: Tensor) -> bool:
    """Whether a tensor has the values of another one, which are not all the same, in a memory of its own."""
    if value.is_meta or value.untyped_storage().data_ptr() == other.untyped_storage().data_ptr():
        return False
    return are_equal(value, other) and bool((other != other[(0,) * other.dim()]).any())


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

"""Values that mean something which a prediction would destroy: what is frozen, equalised, a start on purpose or a copy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from math import prod

import torch
from torch import Tensor

from ghn_init.graph import Graph
from ghn_init.prediction.biases import biases
from ghn_init.prediction.starts import starts
from ghn_init.tracing.rules.reasons import INVERTED

EQUALISED = "the model scales what goes in or comes out by a constant, for which its values were made (equalised learning rate)"
LATE = "the model multiplies what comes out by a large constant, for which its values were made (a SIREN's)"
WAVE = "the model takes the sine or cosine of what comes out, and its values are frequencies (Fourier features)"
PHASE = "the weight of its layer is kept, frequencies before a sine or cosine, to which it belongs (a SIREN's)"
FROZEN = "it is frozen (requires_grad is False)"
LARGE = 4.0
"""Times 1/√fan_in: more than any usual init's deviation, which is √2 at most."""
LITTLE = 0.07
"""Likewise less: a SIREN's is √2 / 30."""


def meaningful(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Dotted names of parameters whose values mean something → the reason to keep them."""
    inverted = {node.weight: INVERTED for node in graph.nodes if node.inverted and node.weight is not None}
    own = {**inverted, **equalised(graph, parameters), **biases(graph, parameters), **starts(graph, parameters)}
    return {**own, **dict.fromkeys(frozen(parameters), FROZEN)}


def equalised(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Weights of layers whose input or result the model scales, and that were made for it → the reason to keep them.

    Constants beside a layer are common (attention's 1/√d); that they belong to its weight shows in the weight: one that is
    drawn from N(0, 1) is larger by the root of its fan-in than a layer's own init would be. Or it is far smaller, and usual
    with the constant behind it, as those of a SIREN, `sin(30 * layer(x))`; logits often have such a constant, and mean nothing
    by it. What multiplies the weight itself is the prediction's affair.

    Likewise large are the frequencies of Fourier features, where a sine or cosine follows; phases that are added to a kept
    weight's results are kept with it.
    """
    found = {}
    waves = set()
    for index, node in enumerate(graph.nodes):
        beside = node.rescaled or node.wave
        if not beside or node.weight is None or node.shape is None or parameters[node.weight].is_meta:
            continue
        mean_square = float(parameters[node.weight].detach().float().square().mean())
        size = math.sqrt(mean_square * prod(node.shape[1:])) * abs(node.scale)
        if size > LARGE:
            found[node.weight] = EQUALISED if node.rescaled else WAVE
        elif node.factor is not None and not (node.head or node.side_head) and size < LITTLE and size * abs(node.factor) > 0.5:
            found[node.weight] = LATE
        if node.wave and node.weight in found:
            waves.add(index)
    ends = [graph.nodes[end] for start, end in graph.edges if start in waves]
    return found | {node.weight: PHASE for node in ends if node.primitive == "bias" and node.weight is not None}


def frozen(parameters: Mapping[str, Tensor]) -> set[str]:
    """Frozen parameters beside trainable ones: a constant, a backbone. Of a model that is frozen as a whole, none."""
    floating = {name: parameter for name, parameter in parameters.items() if parameter.is_floating_point()}
    fixed = {name for name, parameter in floating.items() if not parameter.requires_grad}
    return fixed if len(fixed) < len(floating) else set()


def frozen_copies(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Frozen parameters that are a copy of trainable ones, as a teacher is of its student → the name of the original.

    Weights of two axes tell which module is the copy of which; biases and norms, which all start alike, follow them.
    """
    fixed = frozen(parameters)
    trainable: dict[tuple[object, ...], list[str]] = {}
    for name, parameter in parameters.items() if fixed else ():
        if name not in fixed:
            trainable.setdefault((parameter.shape, parameter.dtype), []).append(name)
    modules: dict[str, str] = {}
    for name in sorted(fixed):
        value = parameters[name]
        if value.dim() < 2 or not varies(value):
            continue
        equal = [other for other in trainable.get((value.shape, value.dtype), ()) if torch.equal(value, parameters[other])]
        if equal:
            copy, original = modules_of(name, max(equal, key=lambda other: len(_common(name, other))))
            modules.setdefault(copy, original)
    return dict(_members(modules, fixed, parameters))


def varies(value: Tensor) -> bool:
    """Whether it has values, and they are not all the same."""
    return not value.is_meta and value.numel() > 0 and not bool((value == value[(0,) * value.dim()]).all())


def _members(modules: Mapping[str, str], fixed: set[str], parameters: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for copy, original in modules.items():
        for name in fixed:
            if name == copy or name.startswith(copy + "." if copy else ""):
                other = (original + name[len(copy) :]).removeprefix("" if original else ".")
                if other in parameters and other not in fixed and are_equal(parameters[name], parameters[other]):
                    yield name, other


def are_equal(value: Tensor, other: Tensor) -> bool:
    """Whether two tensors are of one kind and have the same values."""
    alike = value.shape == other.shape and value.dtype == other.dtype and value.device == other.device
    return alike and not value.is_meta and torch.equal(value, other)


def _common(name: str, other: str) -> list[str]:
    """The parts in which two dotted names end alike."""
    shared: list[str] = []
    for part, counterpart in zip(reversed(name.split(".")), reversed(other.split(".")), strict=False):
        if part != counterpart:
            break
        shared.insert(0, part)
    return shared


def modules_of(name: str, other: str) -> tuple[str, str]:
    """Of a parameter and its copy the largest modules that correspond: `t.0.weight`, `s.0.weight` → `t`, `s`."""
    end = len(".".join(_common(name, other)))
    return name[: len(name) - end].rstrip("."), other[: len(other) - end].rstrip(".")

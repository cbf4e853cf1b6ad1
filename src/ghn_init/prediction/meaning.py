"""Values that mean something which a prediction would destroy: what is frozen, what starts at zero, what is a frozen copy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import torch
from torch import Tensor

from ghn_init.graph import WEIGHT_PRIMITIVES, Graph, Node

EQUALISED = "the model scales what goes in or comes out by a constant, for which its values were made (equalised learning rate)"
FROZEN = "it is frozen (requires_grad is False)"
ZERO = "it starts at zero, so that its layer adds nothing at first (a zero convolution, LoRA's B)"
LARGE = 4.0
"""Times 1/√fan_in: more than any usual init's deviation, which is √2 at most."""


def meaningful(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Dotted names of parameters whose values mean something → the reason to keep them."""
    scaled = dict.fromkeys(equalised(graph, parameters), EQUALISED)
    return {**scaled, **dict.fromkeys(zeros(graph, parameters), ZERO), **dict.fromkeys(frozen(parameters), FROZEN)}


def equalised(graph: Graph, parameters: Mapping[str, Tensor]) -> set[str]:
    """Weights of layers whose input or result the model scales, and that are far larger than a layer's own init would be.

    Constants beside a layer are common (attention's 1/√d); that they belong to its weight shows in the weight: one that is
    drawn from N(0, 1) is larger by the root of its fan-in. What multiplies the weight itself is the prediction's affair.
    """
    found = set()
    for node in graph.nodes:
        if node.rescaled and node.weight is not None and node.shape is not None and not parameters[node.weight].is_meta:
            fan_in = prod(node.shape[1:])
            if float(parameters[node.weight].detach().float().square().mean()) * node.scale**2 * fan_in > LARGE**2:
                found.add(node.weight)
    return found


def frozen(parameters: Mapping[str, Tensor]) -> set[str]:
    """Frozen parameters beside trainable ones: a constant, a backbone. Of a model that is frozen as a whole, none."""
    floating = {name: parameter for name, parameter in parameters.items() if parameter.is_floating_point()}
    fixed = {name for name, parameter in floating.items() if not parameter.requires_grad}
    return fixed if len(fixed) < len(floating) else set()


def zeros(graph: Graph, parameters: Mapping[str, Tensor]) -> set[str]:
    """Weights of layers that start at zero on purpose, with those of their biases that do; heads are exempt.

    Where all weights are zero, those of heads too, nobody chose so: the model was never initialised.
    """
    weights = {
        index: node.weight
        for index, node in enumerate(graph.nodes)
        if node.weight is not None and _is_layer(graph, index, node) and not parameters[node.weight].is_meta
    }
    values = {index: _is_zero(parameters[name]) for index, name in weights.items()}
    heads = {index for index in values if graph.nodes[index].head or graph.nodes[index].side_head}
    empty = {index for index, zero in values.items() if zero} - heads
    if all(values.values()):
        return set()
    found = {weights[index] for index in empty}
    for start, end in graph.edges if empty else ():
        node = graph.nodes[end]
        if start in empty and node.primitive == "bias" and node.weight is not None and _is_zero(parameters[node.weight]):
            found.add(node.weight)
    return found


def _is_layer(graph: Graph, index: int, node: Node) -> bool:
    """A layer's weight, or a table in which tokens are looked up; positions that are added don't make a layer."""
    return node.primitive in WEIGHT_PRIMITIVES or (node.primitive == "pos_enc" and bool((graph.edge_index[1] == index).any()))


def _is_zero(parameter: Tensor) -> bool:
    if parameter.is_meta or parameter.numel() == 0:
        return False
    value = parameter.detach()
    return not bool(value[(0,) * value.dim()]) and not bool(value.any())  # one element mostly tells, and costs less


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
        if value.dim() < 2 or value.is_meta or bool((value == value[(0,) * value.dim()]).all()):
            continue
        equal = [other for other in trainable.get((value.shape, value.dtype), ()) if torch.equal(value, parameters[other])]
        if equal:
            copy, original = modules_of(name, max(equal, key=lambda other: len(_common(name, other))))
            modules.setdefault(copy, original)
    return dict(_members(modules, fixed, parameters))


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

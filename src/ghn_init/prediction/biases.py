"""Biases that start as something on purpose: a forget gate, a focal loss's prior, the time steps of a state-space model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from torch import Tensor

from ghn_init.graph import WEIGHT_PRIMITIVES, Graph, Node

ONE_NUMBER = "a quarter of its values or more are one number, far from zero (a gate that starts open, a focal loss's prior)"
FAR = "its values start further from zero than a bias that means nothing (a prior, the logarithms of time steps)"
SHARE, LEAST = 4, 4
"""A quarter of the values, as one gate of an LSTM has, and so many that it is no chance, in 16 bits either."""
ALIVE = 0.125
"""Numbers up to 0.1 keep ReLUs alive, or are a habit as 0.02 in Hiera, and mean nothing."""
LARGE = 1.5
"""Root mean square: PyTorch's inits have 0.58 at most, N(0, 1) has 1, and what the bundled hypernetwork predicts 0.93."""
TIMES = 4.0
"""Times what the init of the layer gives a weight, at most."""


def biases(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Biases of layers that start as something on purpose, by dotted name → why; no heads', and none that all layers have.

    Only sizes and equal values tell: that all are on one side of zero does not, since predicted biases are so as well, and a
    model that was predicted for can be predicted for again.
    """
    before: dict[int, list[Node]] = {}
    for start, end in graph.edges:
        before.setdefault(end, []).append(graph.nodes[start])
    found: dict[str, str] = {}
    whole, layers = 0, 0
    for index, node in enumerate(graph.nodes):
        if node.head or node.side_head or node.weight is None or parameters[node.weight].is_meta:
            continue
        layers += node.primitive in WEIGHT_PRIMITIVES
        if node.primitive == "bias":
            value = parameters[node.weight].detach()
            why = why_on_purpose(node, value, [layer for layer in before.get(index, ()) if layer.weight], parameters)
            if why is not None:
                found[node.weight] = why
                whole += why == FAR or bool((value == value.flatten()[0]).all())
    return {} if layers > 1 and whole >= layers else found


def why_on_purpose(node: Node, value: Tensor, before: Sequence[Node], parameters: Mapping[str, Tensor]) -> str | None:
    """What a bias starts as, if it is nothing that an init gives it.

    Args:
        node: The bias's.
        value: Its own.
        before: Nodes with a parameter to whose results it is added.
        parameters: The model's.
    """
    if not value.is_floating_point() or not bool(value.any()):
        return None
    away = value[value.abs() * abs(node.scale) > ALIVE]
    if away.numel() and int(away.unique(return_counts=True)[1].max()) >= max(LEAST, value.numel() / SHARE):
        return ONE_NUMBER
    size = float(value.float().square().mean()) ** 0.5 * abs(node.scale)
    layers = [layer for layer in before if layer.primitive in WEIGHT_PRIMITIVES]
    return FAR if size > LARGE and all(size > TIMES * _usual(layer, parameters) for layer in layers) else None


def _usual(layer: Node, parameters: Mapping[str, Tensor]) -> float:
    """The largest weight that a layer has, or 1/√fan_in: the init of its bias goes as far."""
    weight = parameters[layer.weight or ""]
    largest = 0.0 if weight.is_meta or not weight.numel() else float(weight.detach().abs().max()) * abs(layer.scale)
    return max(largest, prod((layer.shape or (1,))[1:]) ** -0.5)

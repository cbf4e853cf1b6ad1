"""What is to be decoded for a graph: one `Slot` per parameter, and how a decoded core fills the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, prod, sqrt
from typing import Literal

import torch
from torch import Tensor

from ghn_init.graph import Graph
from ghn_init.hypernetwork.shape_encoding import four_sizes

Kind = Literal["weight", "classifier_weight", "norm_weight", "bias", "classifier_bias", "position"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter to predict.

    Attributes:
        name: Dotted name.
        node: Index of its node.
        kind: How it is decoded.
        sizes: (O, I, H, W) of the weight, (length, 1, 1, 1) of a vector.
        shape: The parameter's own shape.
        transposed: The parameter is stored input channels first.
    """

    name: str
    node: int
    kind: Kind
    sizes: tuple[int, int, int, int]
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def scale(self) -> float:
        """Standard deviation of the fan-in scaling: √(β / fan_in), β = 1 for depthwise and wide kernels, else 2."""
        out_channels, in_channels, height, width = self.sizes
        beta = 1 if in_channels == 1 or height < width else 2
        return sqrt(beta * out_channels / max(prod(self.shape), 1))


def slots_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]], num_classes: int, with_head: bool) -> list[Slot]:
    """All parameters of `graph` that are predicted, in topological order.

    Args:
        graph: The architecture.
        shapes: Dotted parameter name → shape.
        num_classes: The hypernetwork's classes.
        with_head: Whether the classification head is predicted.
    """
    slots = []
    for index, node in enumerate(graph.nodes):
        sizes = four_sizes(node)
        if sizes is None or (node.head and not with_head):
            continue
        as_head = node.head and sizes[0] == num_classes and sizes[2:] == (1, 1)
        for name, role in ((node.weight, "weight"), (node.bias, "bias")):
            if name is None:
                continue
            kind: Kind
            if node.primitive == "pos_enc":
                kind = "position"
            elif role == "bias" or node.primitive == "bias":
                kind = "classifier_bias" if as_head else "bias"
            elif node.primitive in ("bn", "ln"):
                kind = "norm_weight"
            else:
                kind = "classifier_weight" if as_head else "weight"
            vector = kind in ("norm_weight", "bias", "classifier_bias")
            shape = tuple(shapes[name])
            slots.append(Slot(name, index, kind, (prod(shape), 1, 1, 1) if vector else sizes, shape, node.transposed))
    return slots


def fill(slot: Slot, core: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The whole parameter from its decoded core, by tiling. Differentiable.

    Args:
        slot: The parameter.
        core: (O', I', H, W) for weights and positions, O' ≤ O, I' ≤ I; (L',) for vectors.
        generator: Draws a positional embedding's class-token rows.
    """
    if core.dim() == 1:
        return repeat_to(core, slot.sizes[0], 0).view(slot.shape)
    rows = repeat_to(core, slot.sizes[1], 1)
    return arrange(slot, repeat_to(rows, slot.sizes[0], 0), generator)


def repeat_to(x: Tensor, size: int, dim: int) -> Tensor:
    """`x` repeated along `dim` and cut to `size`."""
    times = -(-size // x.shape[dim])
    if times > 1:
        x = x.repeat(*(times if d == dim else 1 for d in range(x.dim())))
    return x.narrow(dim, 0, size)


def arrange(slot: Slot, weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(O, I, H, W) → the parameter's own shape, or (rows, I, H, W) → some of its output channels."""
    if slot.kind == "position" and len(slot.shape) == 3:
        return _position(slot, weight, generator)
    if len(slot.shape) > 4:  # every slice along the depth is the same kernel
        depth = slot.shape[2:-2]
        weight = weight.view(*weight.shape[:2], *(1,) * len(depth), *weight.shape[2:])
        weight = weight.expand(*weight.shape[:2], *depth, *weight.shape[-2:])
    elif len(slot.shape) < 4:
        weight = weight.flatten(len(slot.shape) - 1) if len(slot.shape) > 2 else weight[..., 0, 0]
    return weight.transpose(0, 1) if slot.transposed else weight


def _position(slot: Slot, grid: Tensor, generator: torch.Generator | None) -> Tensor:
    """(1, d, √n, √n) → (1, n, d); rows for class tokens come first, from N(0, 0.02²)."""
    _, n, _ = slot.shape
    if min(slot.shape[1:]) == 1:
        return grid.reshape(slot.shape)
    rows = grid.flatten(2).transpose(1, 2)
    extra = n - isqrt(n) ** 2
    if extra:
        noise = 0.02 * torch.randn(1, extra, rows.shape[2], generator=generator)
        rows = torch.cat([noise.to(rows), rows], dim=1)
    return rows

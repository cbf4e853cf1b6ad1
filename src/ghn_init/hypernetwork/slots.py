"""What is to be decoded for a graph: one `Slot` per parameter, and how a decoded core fills the parameter."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from ghn_init.graph import Graph, Stack
from ghn_init.hypernetwork.shape_encoding import four_sizes, grid, is_grid

Kind = Literal["weight", "norm_weight", "bias", "position"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter to predict.

    Attributes:
        name: Dotted name.
        node: Index of its node.
        kind: How it is decoded.
        sizes: (O, I, H, W) of the weight, (length, 1, 1, 1) of a vector.
        layout: The shape in which it is used, output channels first.
        shape: The parameter's own shape.
        transposed: The parameter is stored input channels first.
        head: It belongs to the classification head: a task's own decoder makes it, where a task is asked for.
        stack: How it is made of several maps of the shape `layout`, which are all alike; None where it is one.
        factor: The model multiplies it with this constant, by which what is decoded is divided.
        padding: Row of an embedding that is zero, or None.
    """

    name: str
    node: int
    kind: Kind
    sizes: tuple[int, int, int, int]
    layout: tuple[int, ...]
    shape: tuple[int, ...]
    transposed: bool = False
    head: bool = False
    stack: Stack | None = None
    factor: float = 1.0
    padding: int | None = None

    @property
    def scale(self) -> float:
        """Standard deviation of the fan-in scaling: √(β / fan_in), β = 1 for depthwise and wide kernels, else 2."""
        out_channels, in_channels, height, width = self.sizes
        beta = 1 if len(self.layout) > 2 and (in_channels == 1 or height < width) else 2
        return sqrt(beta * out_channels * self.slices / max(prod(self.shape), 1))

    @property
    def slices(self) -> int:
        """How many maps the parameter holds."""
        return 1 if self.stack is None else self.stack.slices


def slots_of(graph: Graph, shapes: Mapping[str, tuple[int, ...]], without: Container[str] = ()) -> list[Slot]:
    """All parameters of `graph`, in topological order.

    Args:
        graph: The architecture.
        shapes: Dotted parameter name → shape.
        without: Names of those that keep their values.
    """
    slots = []
    for index, node in enumerate(graph.nodes):
        sizes = four_sizes(node)
        if sizes is None:
            continue
        head = node.head and sizes[2:] == (1, 1)
        for name, role in ((node.weight, "weight"), (node.bias, "bias")):
            if name is None or name in without:
                continue
            kind: Kind = "weight"
            if node.primitive == "pos_enc":
                kind = "position"
            elif role == "bias" or node.primitive == "bias":
                kind = "bias"
            elif node.primitive in ("bn", "ln"):
                kind = "norm_weight"
            shape = tuple(shapes[name])
            if kind in ("norm_weight", "bias"):
                vector = (prod(shape), 1, 1, 1), (prod(shape),)
                slots.append(Slot(name, index, kind, *vector, shape, head=head, factor=node.scale))
            else:
                assert node.shape is not None
                own: dict[str, Any] = {"stack": node.stack, "factor": node.scale, "padding": node.padding}
                slots.append(Slot(name, index, kind, sizes, node.shape, shape, node.transposed, head, **own))
    return slots


def fill(slot: Slot, core: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The whole parameter from its decoded core, by tiling. Differentiable.

    Args:
        slot: The parameter.
        core: (O', I', H, W) for weights and positions, O' ≤ O, I' ≤ I; (L',) for vectors.
        generator: Draws a positional embedding's class-token rows.
    """
    if slot.factor != 1:
        core = core / slot.factor
    if core.dim() == 1:
        return repeat_to(core, slot.sizes[0], 0).view(slot.shape)
    rows = repeat_to(core, slot.sizes[1], 1)
    whole = arrange(slot, repeat_to(rows, slot.sizes[0], 0), generator)
    if slot.stack is not None:
        whole = unstacked(slot.stack, whole.expand(slot.slices, *whole.shape))
    whole = whole.reshape(slot.shape)
    return whole if slot.padding is None else whole * _without(slot.padding, whole)


def stacked(stack: Stack, parameter: Tensor) -> Tensor:
    """A parameter as (slices, O, I, …)."""
    return parameter.reshape(stack.sizes).permute(stack.order).reshape(stack.slices, *stack.shape)


def unstacked(stack: Stack, maps: Tensor) -> Tensor:
    """(slices, O, I, …) → the axes in the order in which they are stored."""
    back = [stack.order.index(k) for k in range(len(stack.order))]
    return maps.reshape([stack.sizes[k] for k in stack.order]).permute(back)


def _without(row: int, table: Tensor) -> Tensor:
    """(rows, 1, …) ones, but one zero."""
    mask = torch.ones(table.shape[0], *(1,) * (table.dim() - 1), dtype=table.dtype, device=table.device)
    mask[row] = 0
    return mask


def fill_(parameter: Tensor, slot: Slot, core: Tensor, generator: torch.Generator | None = None) -> None:
    """`fill`, written into `parameter` a block of output channels at a time: no second copy of the parameter is made."""
    target = parameter.transpose(0, 1) if slot.transposed and parameter.dim() > 1 else parameter
    if core.dim() == 1 or slot.kind == "position" or slot.stack is not None or tuple(target.shape) != slot.layout:
        parameter.copy_(fill(slot, core, generator))
        return
    if slot.factor != 1:
        core = core / slot.factor
    rows = arrange(slot, repeat_to(core, slot.sizes[1], 1), generator)
    rows = rows.transpose(0, 1) if slot.transposed else rows
    for start in range(0, target.shape[0], len(rows)):
        block = target[start : start + len(rows)]
        block.copy_(rows[: len(block)])


def repeat_to(x: Tensor, size: int, dim: int) -> Tensor:
    """`x` repeated along `dim` and cut to `size`."""
    times = -(-size // x.shape[dim])
    if times > 1:
        x = x.repeat(*(times if d == dim else 1 for d in range(x.dim())))
    return x.narrow(dim, 0, size)


def arrange(slot: Slot, weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """(O, I, H, W) → the layout's axes, in the order in which the parameter is stored; O may be a part of them."""
    layout = slot.layout
    if slot.kind == "position" and len(layout) == 3:
        return _position(layout, weight, generator)
    if len(layout) > 4:  # every slice along the depth is the same kernel
        depth = layout[2:-2]
        weight = weight.view(*weight.shape[:2], *(1,) * len(depth), *weight.shape[2:])
        weight = weight.expand(*weight.shape[:2], *depth, *weight.shape[-2:])
    elif len(layout) < 4:
        weight = weight.flatten(len(layout) - 1)
    return weight.transpose(0, 1) if slot.transposed else weight


def _position(layout: tuple[int, ...], core: Tensor, generator: torch.Generator | None) -> Tensor:
    """(1, d, √n, √n) → (1, n, d); rows for class tokens come first, from N(0, 0.02²)."""
    if not is_grid(layout):
        return core.flatten(2)
    _, extra = grid(layout)
    rows = core.flatten(2).transpose(1, 2)
    if extra:
        noise = 0.02 * torch.randn(1, extra, rows.shape[2], generator=generator, device="cpu", dtype=torch.float32)
        rows = torch.cat([noise.to(rows), rows], dim=1)
    return rows

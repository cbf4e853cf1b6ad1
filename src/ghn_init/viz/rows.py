"""What is written on a row, and the room that it takes: a layer with its bias beside it, or one operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ghn_init.viz.measure import shortened, width
from ghn_init.viz.tree import Unit

if TYPE_CHECKING:
    from ghn_init.graph import Node

HEIGHT = 20.0
PADDING = 8.0
CHIP = 38.0
"""Width of a bias."""
BESIDE = 3.0
LONGEST = 30
"""Cells of a name; tooltips have all of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: texts on the left and on the right, and the nodes that it stands for, the second in a field of its own."""

    name: str
    detail: str
    nodes: tuple[int, ...]
    least: float

    @property
    def named(self) -> bool:
        """Whether it has parameters, and so is as wide as other such rows in a chain."""
        return bool(self.detail)


def row_of(unit: Unit, nodes: Sequence[Node], members: Mapping[int, Sequence[int]]) -> Row:
    """The row of a unit without children.

    Args:
        unit: It.
        nodes: The graph's.
        members: For each drawn node the nodes that it is drawn for.
    """
    own, name = tuple(unit.nodes), shortened(unit.title, LONGEST)
    if unit.collapsed:
        detail = f"{len(unit.everything):,} nodes"
        return Row(name, detail, own[:1], _least(name, detail))
    node = nodes[own[0]]
    if not node.parameters:
        return Row(node.primitive, "", own, _least(node.primitive, ""))
    detail = f"{node.primitive} {sizes([nodes[k].shape for k in members[own[0]]])}".strip()
    return Row(name, detail, own, _least(name, detail) + (BESIDE + CHIP if len(own) == 2 else 0))


def sizes(shapes: Sequence[tuple[int, ...] | None]) -> str:
    """`128×64–224×1×1` for shapes from 128×64×1×1 to 128×224×1×1."""
    axes = zip(*(shape or () for shape in shapes), strict=False)
    return "×".join(str(min(axis)) if min(axis) == max(axis) else f"{min(axis)}–{max(axis)}" for axis in axes)


def _least(name: str, detail: str) -> float:
    texts = [text for text in (name, detail) if text]
    return round(sum(map(width, texts)) + 2 * PADDING + (len(texts) - 1) * 1.5 * PADDING)

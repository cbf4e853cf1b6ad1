"""Genotypes: what the normal and the reduction cells of a network compute.

Source: DARTS (Liu et al., ICLR 2019), extended as in DeepNets-1M (arXiv 2110.13100, section 3 and appendix).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ghn_init.deepnets.draw import Draw

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x1",
    "conv_7x1_1x7",
    "conv_3x3",
    "conv_5x5",
    "conv_7x7",
    "msa",
    "cse",
)
"""All operations of the search space; the first four have no parameters."""

Edge = tuple[str, int]
"""An operation and the state that it is applied to: 0 and 1 are the outputs of the two cells before, 2 the first sum."""


@dataclass(frozen=True)
class Genotype:
    """The two kinds of cells of a network. Sum node k adds edges 2k and 2k + 1; the concatenated states are the output."""

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of all operations of both cells."""
        return tuple(name for name, _ in self.normal + self.reduce)

    @property
    def attention(self) -> bool:
        """Whether there is self-attention; such networks keep one resolution throughout."""
        return "msa" in self.operations

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, with the release's keys."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Genotype:
        """Reads what `to_dict` or the release wrote.

        Raises:
            KeyError: A field is missing.
        """

        def edges(pairs: Sequence[Sequence[Any]]) -> tuple[Edge, ...]:
            return tuple((str(name), int(state)) for name, state in pairs)

        return cls(
            normal=edges(fields["normal"]),
            normal_concat=tuple(int(k) for k in fields["normal_concat"]),
            reduce=edges(fields["reduce"]),
            reduce_concat=tuple(int(k) for k in fields["reduce_concat"]),
        )


VIT = Genotype(
    normal=(("none", 0), ("msa", 1)),
    normal_concat=(2,),
    reduce=(("none", 0), ("avg_pool_3x3", 1)),
    reduce_concat=(2,),
)
"""The cells of the predefined vision transformer."""


def draw_genotype(draw: Draw, steps: int) -> Genotype:
    """A random genotype of `steps` sum nodes per cell: operations and states are equally likely.

    Half of the reduction cells have no parameters. Half of the networks of several steps leave some sums out of the
    concatenation, which is the same for both cells. A cell of one step has no `none`.
    """
    weightless_reduction = draw.chance(0.5)
    drop = steps > 1 and draw.chance(0.5)
    allowed = OPERATIONS if steps > 1 else OPERATIONS[1:]
    weightless = [name for name in allowed if name in OPERATIONS[:4]]
    normal = _draw_cell(draw, steps, allowed)
    reduce = _draw_cell(draw, steps, weightless if weightless_reduction else allowed)
    last = steps + 1
    concat = tuple(k for k in range(2, last + 1) if k == last or not drop or draw.chance(0.5))
    return Genotype(normal, concat, reduce, concat)


def _draw_cell(draw: Draw, steps: int, allowed: Sequence[str]) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    for step in range(steps):
        first = draw.integer(0, step + 1)
        second = draw.integer(0, step)
        for state in (first, second + (second >= first)):  # two different states
            edges.append((draw.pick(allowed), state))
    return tuple(edges)

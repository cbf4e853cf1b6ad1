"""What a node looks like: its colour, what its tooltip says, and the legend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ghn_init.viz.palette import NO_PARAMETER, OTHER, PRIMITIVE_COLOURS, STATE_COLOURS, ink

if TYPE_CHECKING:
    from ghn_init.graph import Graph

LISTED = 12
"""Parameters that a tooltip lists, of folded blocks."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happened to one parameter: a key of `STATE_COLOURS`, and in words."""

    state: str
    words: str = ""


class Paint:
    """Colours by primitive, or by fate where fates are given.

    Args:
        graph: The graph.
        drawn: (N,) for each node the one that is drawn for it.
        fates: Dotted parameter name → what happened to it.
    """

    def __init__(self, graph: Graph, drawn: Sequence[int], fates: Mapping[str, Fate] | None = None) -> None:
        self.nodes, self.fates = graph.nodes, fates
        self.members: dict[int, list[int]] = {}
        for k, head in enumerate(drawn):
            self.members.setdefault(int(head), []).append(k)

    on = staticmethod(ink)

    def count(self, node: int) -> int:
        """How many nodes it is drawn for."""
        return len(self.members[node])

    def names(self, node: int) -> str:
        """Of its parameters, with spaces between them."""
        return " ".join(name for k in self.members[node] for name in self.nodes[k].parameters)

    def state(self, node: int) -> str:
        """The fate of most concern among those of its parameters."""
        assert self.fates is not None
        names = [name for k in self.members[node] for name in self.nodes[k].parameters]
        states = {self.fates[name].state for name in names if name in self.fates}
        return next((state for state in ("kept", "predicted, tiled", "predicted") if state in states), NO_PARAMETER)

    def fill(self, node: int) -> str:
        """Its colour."""
        if self.fates is not None:
            return STATE_COLOURS[self.state(node)]
        primitives = {self.nodes[k].primitive for k in self.members[node]}
        return PRIMITIVE_COLOURS[primitives.pop()] if len(primitives) == 1 else OTHER

    def ink(self, node: int) -> str:
        """The colour of text on it."""
        return ink(self.fill(node))

    def tooltip(self, node: int) -> str:
        """Primitive, shape, parameters and what happened to them, a line each."""
        members = self.members[node]
        kinds = Counter(self.nodes[k].primitive for k in members)
        head = ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items())
        lines = [line for k in members for line in self._lines(k)]
        more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
        return "\n".join([head, *lines[:LISTED], *more])

    def _lines(self, k: int) -> list[str]:
        node = self.nodes[k]
        shape = "×".join(map(str, node.shape or ()))
        lines = []
        for name in node.parameters:
            fate = None if self.fates is None else self.fates.get(name)
            said = "" if fate is None else f": {fate.state}" + (f", {fate.words}" if fate.words else "")
            lines.append(f"{name} {shape}".rstrip() + said)
        return lines

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(text, colour) of all that occurs, with the numbers of nodes, or of parameters where fates are given."""
        if self.fates is not None:
            states = Counter(fate.state for fate in self.fates.values())  # also of parameters without a node
            said = {state: f"{state} {states[state]:,}" for state in STATE_COLOURS if states[state]}
            if any(not node.parameters for node in self.nodes):
                said[NO_PARAMETER] = NO_PARAMETER
            return [(text, STATE_COLOURS[state]) for state, text in said.items()]
        every = Counter(node.primitive for node in self.nodes)
        return [(f"{kind} {every[kind]:,}", colour) for kind, colour in PRIMITIVE_COLOURS.items() if every[kind]]

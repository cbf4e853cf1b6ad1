"""The architecture graph that a hypernetwork reads: nodes with a primitive and a shape, edges, shortest-path distances.

Source: `primitive`s and virtual edges as in GHN-2 (Knyazev et al., NeurIPS 2021, arXiv 2110.13100, section 3 and appendix).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghn_init.viz.page import to_html
from ghn_init.viz.picture import to_svg

PRIMITIVES = (
    "max_pool",
    "avg_pool",
    "sep_conv",
    "dil_conv",
    "conv",
    "msa",
    "cse",
    "sum",
    "concat",
    "input",
    "bias",
    "bn",
    "ln",
    "pos_enc",
    "glob_avg",
)
"""The 15 primitives, in the order of the published embedding table."""

WEIGHT_PRIMITIVES = frozenset({"conv", "sep_conv", "dil_conv"})
NORM_PRIMITIVES = frozenset({"bn", "ln"})
MAX_DISTANCE = 50
"""Virtual edges longer than this many hops are left out."""


@dataclass(frozen=True, slots=True)
class Stack:
    """How a parameter of more axes is made of linear maps or kernels, as (experts, out, in) and (in, heads, out) are.

    Attributes:
        sizes: Axes into which the stored parameter falls.
        order: Those of the stack, then those of output channels, of input channels, of space.
        stacked: How many of `order` are the stack's.
        shape: Of one map or kernel, (O, I, …).
    """

    sizes: tuple[int, ...]
    order: tuple[int, ...]
    stacked: int
    shape: tuple[int, ...]

    @property
    def slices(self) -> int:
        """How many maps there are."""
        return prod(self.sizes[k] for k in self.order[: self.stacked])

    @property
    def plain(self) -> bool:
        """Whether it is one map, stored as usual."""
        return self.slices == 1 and self.order == tuple(sorted(self.order))


@dataclass(frozen=True, slots=True)
class Node:
    """One primitive of the architecture.

    Attributes:
        primitive: One of `PRIMITIVES`.
        shape: The parameter's shape, output channels first, (1, 1, kh, kw) for a pool, or None where there is none.
        weight: Dotted name of the parameter that the node stands for, or None.
        bias: Dotted name of a norm's bias, which the norm's node stands for as well, or None.
        transposed: The parameter is stored input channels first (transposed convolution, `x @ weight`).
        head: The node belongs to the classification head.
        side_head: It belongs to a head of another output than the first; decoded as other layers are, kept as heads are.
        stack: The parameter is a stack of maps of `shape`, or has their axes in another order; None where it is one as usual.
        scale: The model multiplies the parameter with this constant before it is used (equalised learning rate).
        padding: Row of an embedding that stands for padding, or None.
        rescaled: The model multiplies the layer's input, or its result, with a constant.
        factor: That of its result; NaN where it is not known, or where several are, None where there is none.
        computed: The layer's weight is a function of the parameter, orthogonalised, say; not one that is centred or scaled.
        wave: The model takes the sine or cosine of the layer's result.
        inverted: The model takes the parameter's inverse or determinant as well.
    """

    primitive: str
    shape: tuple[int, ...] | None = None
    weight: str | None = None
    bias: str | None = None
    transposed: bool = False
    head: bool = False
    side_head: bool = False
    stack: Stack | None = None
    scale: float = 1.0
    padding: int | None = None
    rescaled: bool = False
    factor: float | None = None
    computed: bool = False
    wave: bool = False
    inverted: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """Dotted names of the parameters that the node stands for."""
        return tuple(name for name in (self.weight, self.bias) if name is not None)


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """A directed acyclic graph of `num_nodes` nodes in topological order; node 0 is the input.

    Attributes:
        nodes: The nodes.
        edge_index: (2, E) int64, each column an edge from row 0 to row 1, always from a smaller to a larger index.
        kept: Dotted name of every parameter without a node → the reason.
    """

    nodes: tuple[Node, ...]
    edge_index: NDArray[np.int64]
    kept: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """A line: how many nodes of which primitives."""
        counts = ", ".join(f"{count} {primitive}" for primitive, count in Counter(self.primitives).most_common())
        kept = f"; without a node: {len(self.kept)} parameters" if self.kept else ""
        return f"Graph of {self.num_nodes} nodes ({counts}), {len(self.edges)} edges{kept}"

    def with_prefix(self, prefix: str) -> Graph:
        """The same graph with `prefix` before every parameter name, those in reasons too."""
        known = {*self.kept, *(name for node in self.nodes for name in node.parameters)}

        def renamed(name: str | None) -> str | None:
            return None if name is None else prefix + name

        def quoted(match: re.Match[str]) -> str:
            return f"'{prefix}{match[1]}'" if match[1] in known else match[0]

        nodes = tuple(replace(node, weight=renamed(node.weight), bias=renamed(node.bias)) for node in self.nodes)
        kept = {prefix + name: re.sub("'([^']*)'", quoted, reason) for name, reason in self.kept.items()}
        return Graph(nodes, self.edge_index, kept)

    @property
    def num_nodes(self) -> int:
        """How many nodes the graph has."""
        return len(self.nodes)

    @property
    def edges(self) -> list[tuple[int, int]]:
        """The real edges as (from, to) pairs."""
        return [(int(i), int(j)) for i, j in self.edge_index.T]

    def to_networkx(self) -> Any:
        """A `networkx.DiGraph`: nodes 0, 1, … with `primitive`, `shape`, `weight`, `bias` and `head`, and the real edges.

        Example:
            >>> import ghn_init, timm
            >>> g = ghn_init.trace(timm.create_model("resnet18")).to_networkx()
            >>> g.nodes[0]["primitive"], g.number_of_edges() > 20
            ('input', True)
        """
        import networkx  # PyTorch brings it

        graph = networkx.DiGraph()
        for index, node in enumerate(self.nodes):
            told = {"shape": node.shape, "weight": node.weight, "bias": node.bias, "head": node.head}
            graph.add_node(index, primitive=node.primitive, **told)
        graph.add_edges_from(self.edges)
        return graph

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Dotted names of all parameters that have a node, in topological order."""
        return tuple(name for node in self.nodes for name in node.parameters)

    @property
    def primitives(self) -> dict[str, int]:
        """How many nodes each occurring primitive has."""
        return dict(Counter(node.primitive for node in self.nodes))

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Of each node: the edges of the longest path to it."""
        depths = [0] * self.num_nodes
        for i, j in sorted(self.edges, key=lambda edge: edge[1]):  # nodes are in topological order
            depths[j] = max(depths[j], depths[i] + 1)
        return tuple(depths)

    @cached_property
    def distances(self) -> NDArray[np.uint8]:
        """(N, N) hops on the shortest directed path from row to column, 1 to 50; 0 where there is none that short."""
        return shortest_paths(self.num_nodes, self.edge_index)

    def to_svg(self, *, fold: bool = True, depth: int | None = None) -> str:
        """A picture: layers from top to bottom in boxes of modules, coloured by primitive. Notebooks show it by itself.

        Args:
            fold: Draw repeated blocks once, with their number.
            depth: Draw modules inside of so many others as one row. By default all are drawn, but if there are more than
                250 rows then so many levels as leave as many; with `fold=False` all.

        Returns:
            An SVG document without scripts or anything from outside, the same for the same graph.

        Example:
            >>> import ghn_init, torch
            >>> graph = ghn_init.trace(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()))
            >>> graph.to_svg()[:5]
            '<svg '
        """
        return to_svg(self, fold=fold, depth=depth)

    def to_html(self, name: str = "graph") -> str:
        """The picture as one page by itself: zoom, search by parameter name, modules and blocks that open and close.

        Args:
            name: The page's title.
        """
        return to_html(self, name=name)

    def _repr_svg_(self) -> str:
        """What notebooks show."""
        return self.to_svg()


def shortest_paths(num_nodes: int, edge_index: NDArray[np.int64], longest: int = MAX_DISTANCE) -> NDArray[np.uint8]:
    """All-pairs shortest paths of a topologically ordered graph, in hops.

    Args:
        num_nodes: N.
        edge_index: (2, E), every edge from a smaller to a larger index.
        longest: Paths of more hops count as none; at most 253.

    Returns:
        (N, N) uint8, row to column, 0 where no path of at most `longest` hops leads.
    """
    far = np.uint8(longest + 1)
    # Row j: distances from every node to j, the smallest of its predecessors' rows plus one.
    to = np.full((num_nodes, num_nodes), far, dtype=np.uint8)
    predecessors: list[list[int]] = [[] for _ in range(num_nodes)]
    for i, j in edge_index.T:
        predecessors[j].append(int(i))
    for j in range(num_nodes):
        row = to[j]
        for i in predecessors[j]:
            np.minimum(row[:j], to[i, :j] + 1, out=row[:j])
            row[i] = 1
        np.minimum(row, far, out=row)
    to[to == far] = 0
    return np.ascontiguousarray(to.T)

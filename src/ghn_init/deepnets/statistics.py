"""Statistics of architecture graphs, and their published means to hold them against."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ghn_init.graph import PRIMITIVES, Graph


@dataclass(frozen=True)
class GraphStatistics:
    """Of one network.

    Attributes:
        nodes: Number of nodes.
        edges: Number of edges.
        params: Number of parameters' elements.
        degree: Mean degree, edges taken as undirected.
        path: Mean length of the shortest paths between all pairs of nodes, in hops, edges taken as undirected.
        primitives: Nodes of each primitive, in the order of `PRIMITIVES`.
    """

    nodes: int
    edges: int
    params: int
    degree: float
    path: float
    primitives: tuple[int, ...]

    @classmethod
    def of(cls, graph: Graph, params: int) -> GraphStatistics:
        """Measures a graph."""
        nodes, edges = graph.num_nodes, graph.edge_index.shape[1]
        counts = graph.primitives
        primitives = tuple(counts.get(name, 0) for name in PRIMITIVES)
        return cls(nodes, edges, params, 2 * edges / nodes, mean_path(graph), primitives)


def mean_path(graph: Graph) -> float:
    """Mean shortest path over all pairs of nodes that are connected, in hops, edges taken as undirected."""
    neighbours: list[list[int]] = [[] for _ in graph.nodes]
    for i, j in graph.edges:
        neighbours[i].append(j)
        neighbours[j].append(i)
    total = pairs = 0
    for start in range(graph.num_nodes):
        hops = {start: 0}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for other in neighbours[node]:
                if other not in hops:
                    hops[other] = hops[node] + 1
                    queue.append(other)
        total += sum(hops.values())
        pairs += len(hops) - 1
    return total / pairs if pairs else 0.0


@dataclass(frozen=True)
class Summary:
    """Means over networks, standard deviations in `…_std`; shares of primitives in percent of all nodes."""

    networks: int
    nodes: float
    nodes_std: float
    millions: float
    degree: float
    path: float
    path_std: float
    shares: dict[str, float]

    @classmethod
    def of(cls, rows: Iterable[GraphStatistics]) -> Summary:
        """Summarises at least one network."""
        rows = list(rows)
        total = sum(row.nodes for row in rows)
        counts = [sum(column) for column in zip(*(row.primitives for row in rows), strict=True)]
        return cls(
            networks=len(rows),
            nodes=statistics.fmean(row.nodes for row in rows),
            nodes_std=statistics.pstdev([row.nodes for row in rows]),
            millions=statistics.fmean(row.params for row in rows) / 1e6,
            degree=statistics.fmean(row.degree for row in rows),
            path=statistics.fmean(row.path for row in rows),
            path_std=statistics.pstdev([row.path for row in rows]),
            shares={name: 100 * n / total for name, n in zip(PRIMITIVES, counts, strict=True)},
        )


@dataclass(frozen=True)
class Published:
    """Mean ± deviation of nodes and of mean shortest paths, and the mean degree, of a published split."""

    networks: int
    nodes: tuple[float, float]
    degree: float
    path: tuple[float, float]


PUBLISHED_STATISTICS = {
    "train": Published(1000, (192.3, 94.9), 2.3, (14.5, 4.8)),
    "val": Published(500, (190.5, 94.4), 2.3, (14.5, 5.0)),
    "test": Published(500, (185.5, 91.2), 2.3, (14.3, 4.8)),
    "wide": Published(100, (178.6, 75.1), 2.3, (14.7, 4.9)),
    "deep": Published(100, (391.2, 176.7), 2.3, (26.2, 9.3)),
    "dense": Published(100, (355.1, 182.3), 2.4, (15.1, 4.1)),
    "bn-free": Published(100, (135.1, 78.1), 2.4, (10.0, 2.8)),
    "predefined": Published(2, (127.5, 2.1), 2.3, (10.9, 0.2)),
}
"""As printed by the release's notebook `examples/graph_properties.ipynb` (github.com/facebookresearch/ppuda)."""

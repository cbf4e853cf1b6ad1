"""Graphs: shortest paths against breadth-first search, names, prefixes."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from ghn_init.graph import MAX_DISTANCE, PRIMITIVES, Graph, Node, shortest_paths
from helpers import random_edges


def breadth_first(num_nodes: int, edge_index: np.ndarray, longest: int) -> np.ndarray:
    successors: list[list[int]] = [[] for _ in range(num_nodes)]
    for i, j in edge_index.T:
        successors[i].append(int(j))
    distances = np.zeros((num_nodes, num_nodes), np.uint8)
    for start in range(num_nodes):
        hops, queue = {start: 0}, deque([start])
        while queue:
            node = queue.popleft()
            for other in successors[node]:
                if other not in hops:
                    hops[other] = hops[node] + 1
                    queue.append(other)
        for node, length in hops.items():
            distances[start, node] = length if length <= longest else 0
    return distances


@pytest.mark.parametrize(("num_nodes", "longest"), [(1, 50), (2, 50), (30, 50), (30, 3), (200, 50), (200, 253)])
def test_shortest_paths_equal_breadth_first_search(num_nodes: int, longest: int) -> None:
    edge_index = random_edges(num_nodes, num_nodes)
    expected = breadth_first(num_nodes, edge_index, longest)
    np.testing.assert_array_equal(shortest_paths(num_nodes, edge_index, longest), expected)


def test_paths_longer_than_the_limit_count_as_none() -> None:
    chain = np.array([range(99), range(1, 100)])
    distances = Graph(tuple(Node("sum") for _ in range(100)), chain).distances
    assert distances.max() == MAX_DISTANCE == 50
    assert distances[0, 50] == 50
    assert distances[0, 51] == 0


def test_there_are_15_primitives_in_the_published_order() -> None:
    assert PRIMITIVES[0] == "max_pool"
    assert PRIMITIVES[4] == "conv"
    assert PRIMITIVES[14] == "glob_avg"
    assert len(PRIMITIVES) == 15


def test_a_prefix_is_put_before_every_parameter() -> None:
    nodes = (Node("input"), Node("bn", (8,), "n.weight", "n.bias"))
    graph = Graph(nodes, np.array([[0], [1]]), {"gamma": "why"}).with_prefix("module.")
    assert graph.parameter_names == ("module.n.weight", "module.n.bias")
    assert graph.kept == {"module.gamma": "why"}
    assert graph.edges == [(0, 1)]

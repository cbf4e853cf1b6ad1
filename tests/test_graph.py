"""Graphs: shortest paths against breadth-first search, names, prefixes; heads, shapes and order of traced ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init import trace
from ghn_init.graph import MAX_DISTANCE, PRIMITIVES, Graph, Node, shortest_paths
from helpers import random_edges
from zoo import SEQUENCE, ZOO, Case, Fn, conv, images, param, vectors


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


def test_a_networkx_graph_has_the_nodes_edges_and_distances() -> None:
    networkx = pytest.importorskip("networkx")
    graph = trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), vectors(3))
    other = graph.to_networkx()
    assert [data["primitive"] for _, data in other.nodes(data=True)] == [node.primitive for node in graph.nodes]
    assert [data["weight"] for _, data in other.nodes(data=True)] == [node.weight for node in graph.nodes]
    assert sorted(other.edges) == sorted(graph.edges)
    for i, hops in networkx.all_pairs_shortest_path_length(other):
        assert all(graph.distances[i, j] == length for j, length in hops.items())


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
    reasons = {"gamma": "it rescales 'n.weight', not 'n'"}
    graph = Graph(nodes, np.array([[0], [1]]), reasons).with_prefix("module.")
    assert graph.parameter_names == ("module.n.weight", "module.n.bias")
    assert graph.kept == {"module.gamma": "it rescales 'module.n.weight', not 'n'"}
    assert graph.edges == [(0, 1)]


def test_no_parameter_has_two_places(case: Case) -> None:
    graph = trace(case.build(), case.inputs)
    assert len(set(graph.parameter_names)) == len(graph.parameter_names)
    assert graph.kept.keys().isdisjoint(graph.parameter_names)


@dataclass
class Output:
    logits: Tensor
    features: Tensor


def body_and_head(order: Callable[[Tensor, Tensor], Any]) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Any:
        features = m.body(x)
        return order(m.head(features), m.norm(features))

    return Fn(forward, body=nn.Linear(8, 6), norm=nn.LayerNorm(6), head=nn.Linear(6, 10))


def residual_end(m: Any, x: Tensor) -> Tensor:
    x = m.a(x)
    return x + m.b(x)


FIRST = {"head.weight", "head.bias"}
HEADS: dict[str, tuple[Callable[[], nn.Module], Any, set[str]]] = {
    "the last layer": (lambda: nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 10)), vectors(2, 8), {"1.weight", "1.bias"}),
    "two in parallel": (
        lambda: Fn(lambda m, x: m.a(x) + m.b(x), a=nn.Linear(8, 10), b=nn.Linear(8, 10, bias=False)),
        vectors(2, 8),
        {"a.weight", "a.bias", "b.weight"},
    ),
    "of sequences": (lambda: nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 10)), SEQUENCE, {"1.weight", "1.bias"}),
    "none before a norm": (lambda: nn.Sequential(nn.Linear(8, 10), nn.LayerNorm(10)), vectors(2, 8), set()),
    "none beside positions": (lambda: Fn(lambda m, x: m.a(x) + m.p, a=nn.Linear(8, 10), p=param(2, 10)), vectors(2, 8), set()),
    "none after one another": (lambda: Fn(residual_end, a=nn.Linear(8, 10), b=nn.Linear(10, 10)), vectors(2, 8), set()),
    "none of maps": (lambda: conv(3, 8), images(), set()),
    "none of sequences as wide as before": (lambda: nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 6)), SEQUENCE, set()),
    "of one value each": (
        lambda: Fn(lambda m, x: m.a(x).squeeze(-1), a=nn.Linear(8, 1)),
        vectors(2, 8),
        {"a.weight", "a.bias"},
    ),
    "reshaped": (lambda: Fn(lambda m, x: m.a(x).view(-1, 3, 4), a=nn.Linear(8, 12)), vectors(2, 8), {"a.weight", "a.bias"}),
    "reshaped to maps": (
        lambda: Fn(lambda m, x: m.a(x).view(-1, 3, 2, 2), a=nn.Linear(8, 12)),
        vectors(2, 8),
        {"a.weight", "a.bias"},
    ),
    "reshaped to a distribution for each action": (
        lambda: Fn(lambda m, x: m.a(x).view(-1, 3, 4).softmax(-1).transpose(1, 2), a=nn.Linear(8, 12)),
        vectors(2, 8),
        {"a.weight", "a.bias"},
    ),
    "of a sequence's last place": (
        lambda: Fn(lambda m, x: m.a(x)[:, -1, 0], a=nn.Linear(8, 1)),
        SEQUENCE,
        {"a.weight", "a.bias"},
    ),
    "side by side": (
        lambda: Fn(lambda m, x: torch.cat([m.a(x), m.b(x)], -1), a=nn.Linear(8, 3), b=nn.Linear(8, 7)),
        vectors(2, 8),
        {"a.weight", "a.bias", "b.weight", "b.bias"},
    ),
    "of a value and advantages": (
        lambda: Fn(lambda m, x: m.v(x) + m.a(x) - m.a(x).mean(-1, keepdim=True), v=nn.Linear(8, 1), a=nn.Linear(8, 4)),
        vectors(2, 8),
        {"v.weight", "v.bias", "a.weight", "a.bias"},
    ),
    "none of a sum over outputs": (lambda: Fn(lambda m, x: m.a(x).sum(-1), a=nn.Linear(8, 3)), vectors(2, 8), set()),
    "none of a part of the outputs": (
        lambda: Fn(lambda m, x: torch.cat([m.a(x), m.b(x)], -1)[:, :5], a=nn.Linear(8, 3), b=nn.Linear(8, 7)),
        vectors(2, 8),
        set(),
    ),
    "none of convolutions' features side by side": (
        lambda: Fn(lambda m, x: torch.cat([m.a(x), m.b(x)], 1).mean((2, 3)), a=conv(3, 3), b=conv(3, 7)),
        images(),
        set(),
    ),
    "none of a scalar": (lambda: Fn(lambda m, x: m.a(x).mean(), a=nn.Linear(8, 1)), vectors(2, 8), set()),
    "of a tuple's first": (lambda: body_and_head(lambda a, b: (a, b)), vectors(2, 8), FIRST),
    "of a dict's first": (lambda: body_and_head(lambda a, b: {"logits": a, "features": b}), vectors(2, 8), FIRST),
    "of a dataclass's first": (lambda: body_and_head(Output), vectors(2, 8), FIRST),
    "of a dict's second": (lambda: body_and_head(lambda a, b: {"features": b, "logits": a}), vectors(2, 8), FIRST),
    "none of features that a head reads": (
        lambda: Fn(lambda m, x: (m.body(x), m.head(m.body(x))), body=nn.Linear(8, 6), head=nn.Linear(6, 10)),
        vectors(2, 8),
        FIRST,
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads(name: str) -> None:
    build, inputs, expected = HEADS[name]
    assert {parameter for node in trace(build(), inputs).nodes if node.head for parameter in node.parameters} == expected


def layers_first(m: Any, x: Tensor) -> Tensor:
    return m.a(x).view(-1, 4, 16).transpose(0, 1)


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: nn.LSTM(8, 16, batch_first=True),
    "LSTM, its sequence": lambda: Fn(lambda m, x: m.a(x)[0], a=nn.LSTM(8, 16, batch_first=True)),
    "LSTM with a projection": lambda: nn.LSTM(8, 16, proj_size=4, batch_first=True),
    "GRU": lambda: nn.GRU(8, 16, batch_first=True),
    "RNN": lambda: nn.RNN(8, 16, 2, batch_first=True),
    "RNN, its last state": lambda: Fn(lambda m, x: m.a(x)[1][-1], a=nn.RNN(8, 16, batch_first=True)),
    "RNN without biases": lambda: Fn(lambda m, x: m.a(x)[0][:, -1], a=nn.RNN(8, 16, bias=False, batch_first=True)),
    "cells": lambda: Fn(lambda m, x: m.a(x[:, -1], m.a(x[:, 0])), a=nn.RNNCell(8, 16)),
    "gated layer": lambda: Fn(lambda m, x: F.glu(m.a(x)), a=nn.Linear(8, 16)),
    "layer as wide as before": lambda: nn.Linear(8, 8),
    "layer with its batch turned": lambda: Fn(lambda m, x: layers_first(m, x[:, 0]), a=nn.Linear(8, 64)),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_sizes_that_happen_to_agree_make_no_head(name: str) -> None:
    model = BACKBONES[name]()
    for batch in range(1, 5):
        for length in range(1, 5):
            graph = trace(model, torch.zeros(batch, length, 8))
            assert not [node.weight for node in graph.nodes if node.head or node.side_head], (batch, length)


def test_heads_of_other_outputs_are_heads_too() -> None:
    heads = {"a": nn.Linear(8, 10), "b": nn.Linear(8, 7)}
    graph = trace(Fn(lambda m, x: {"a": m.a(x), "b": m.b(x)}, **heads), vectors(2, 8))
    assert {node.weight for node in graph.nodes if node.head} == {"a.weight", "a.bias"}
    assert {node.weight for node in graph.nodes if node.side_head} == {"b.weight", "b.bias"}


def test_a_pool_after_another_pool_stays() -> None:
    model = nn.Sequential(nn.Conv2d(3, 10, 1), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert [node.primitive for node in trace(model, images()).nodes] == ["input", "conv", "bias", "max_pool", "glob_avg"]


def test_positions_follow_nothing() -> None:
    case = ZOO["vision transformer"]
    graph = trace(case.build(), case.inputs)
    (position,) = (k for k, node in enumerate(graph.nodes) if node.primitive == "pos_enc")
    assert position not in graph.edge_index[1]
    assert position in graph.edge_index[0]


@pytest.mark.parametrize(
    ("build", "inputs", "shape", "transposed"),
    [
        (lambda: nn.ConvTranspose2d(3, 8, 2), images(), (8, 3, 2, 2), True),
        (lambda: nn.ConvTranspose2d(8, 4, 3, groups=2), images(8), (8, 2, 3, 3), False),
        (lambda: Fn(lambda m, x: x @ m.w[0], w=param(1, 8, 4)), SEQUENCE, (4, 8), True),
        (lambda: Fn(lambda m, x: F.conv2d(x, m.w[..., None, None]), w=param(8, 3)), images(), (8, 3), False),
    ],
    ids=["transposed", "transposed and grouped", "with an axis more", "with two axes less"],
)
def test_weights_have_the_shape_in_which_they_are_used(
    build: Callable[[], nn.Module], inputs: Tensor, shape: tuple[int, ...], transposed: bool
) -> None:
    node = trace(build(), inputs).nodes[1]
    assert (node.shape, node.transposed) == (shape, transposed)


def test_pools_have_their_kernel() -> None:
    node = trace(nn.Sequential(conv(), nn.MaxPool2d((2, 3))), images()).nodes[-1]
    assert node.shape == (1, 1, 2, 3)


def test_the_longest_path_is_found_beside_a_short_one() -> None:
    def branches(m: Fn, x: Tensor) -> Tensor:
        long = F.linear(F.linear(x, m.a), m.b)
        return long + F.linear(x, m.c)

    model = Fn(branches, a=param(8, 8), b=param(8, 8), c=param(8, 8))
    assert max(trace(model, vectors(2, 8)).depths) == 3  # input, a, b, sum


def test_a_graph_is_told_in_a_line() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert repr(trace(model, torch.zeros(2, 3, 8, 8))) == "Graph of 6 nodes (2 conv, 2 bias, 1 input, 1 bn), 5 edges"

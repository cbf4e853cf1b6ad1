"""The graph network's NumPy sweep against the equations written out in PyTorch, with its gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ghn_init import GHN
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.gnn import GatedGNN
from ghn_init.hypernetwork.slots import slots_of
from helpers import random_graph


def written_out(gnn: GatedGNN, h: Tensor, graph: Graph) -> Tensor:
    """One node after the other, one message per edge, as in the paper. h is (N, D)."""
    distances = graph.distances
    states = list(h)
    for reverse in (False, True):
        order = range(graph.num_nodes)
        for t in reversed(order) if reverse else order:
            message = torch.zeros_like(states[t])
            for j in order:
                d = int(distances[t, j] if reverse else distances[j, t])
                if d == 1:
                    message = message + gnn.mlp(states[j])
                if d and gnn.ve:
                    message = message + gnn.mlp_ve(states[j]) / d
            states[t] = gnn.gru(message[None], states[t][None])[0]
    return torch.stack(states)


@pytest.mark.parametrize("ve", [True, False])
@pytest.mark.parametrize("num_nodes", [1, 2, 17])
def test_sweeps_equal_the_equations(ve: bool, num_nodes: int) -> None:
    torch.manual_seed(num_nodes)
    gnn, graph = GatedGNN(8, ve), random_graph(num_nodes)
    h = torch.randn(num_nodes, 8, requires_grad=True)
    expected = written_out(gnn, h, graph)
    torch.testing.assert_close(gnn(h[None], [graph])[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ve", [True, False])
def test_what_a_node_receives_makes_its_state(ve: bool) -> None:
    torch.manual_seed(0)
    gnn, graph, h = GatedGNN(8, ve), random_graph(17), torch.randn(17, 8)
    after = gnn(h[None], [graph])[0]
    for node in (0, 5, 16):
        forwards, backwards = gnn.received(h, graph, node)
        first = gnn.gru(forwards.sum(0)[None], h[node][None])
        torch.testing.assert_close(gnn.gru(backwards.sum(0)[None], first)[0], after[node], rtol=1e-5, atol=1e-6)
        near = [j for j in range(17) if (graph.distances[j, node] > 0 if ve else (j, node) in graph.edges)]
        assert forwards.abs().sum(1).nonzero().flatten().tolist() == near


@pytest.mark.parametrize("ve", [True, False])
def test_gradients_equal_autograd_through_the_equations(ve: bool) -> None:
    torch.manual_seed(0)
    gnn, graph = GatedGNN(8, ve), random_graph(14)
    h = torch.randn(14, 8, requires_grad=True)
    direction = torch.randn(14, 8)
    wanted = torch.autograd.grad((written_out(gnn, h, graph) * direction).sum(), [h, *gnn.parameters()])
    got = torch.autograd.grad((gnn(h[None], [graph])[0] * direction).sum(), [h, *gnn.parameters()])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_batched_graphs_equal_each_alone(ghn: GHN) -> None:
    graphs = [random_graph(n, n) for n in (3, 20, 11)]
    together = ghn.embed_nodes(graphs)
    for graph, h in zip(graphs, together, strict=True):
        torch.testing.assert_close(ghn.embed_nodes([graph])[0], h, rtol=1e-5, atol=1e-6)


def test_the_order_within_a_topological_order_does_not_matter(ghn: GHN) -> None:
    nodes = (
        Node("input"),
        Node("conv", (8, 3, 3, 3), "a"),
        Node("conv", (16, 3, 3, 3), "b"),
        Node("bias", (8,), "c"),
        Node("sum"),
    )
    one = Graph(nodes, np.array([[0, 0, 1, 2, 3], [1, 2, 3, 4, 4]]))
    order = [0, 2, 1, 3, 4]
    position = [order.index(k) for k in range(5)]
    other = Graph(tuple(nodes[k] for k in order), np.array([[position[i] for i in row] for row in one.edge_index.tolist()]))
    (h,), (g,) = ghn.embed_nodes([one]), ghn.embed_nodes([other])
    torch.testing.assert_close(g, h[order], rtol=1e-5, atol=1e-6)


def test_decoding_several_graphs_equals_each_alone(ghn: GHN) -> None:
    graphs = [random_graph(n, n) for n in (5, 12)]
    slots = [slots_of(g, {n.weight: n.shape for n in g.nodes if n.weight and n.shape}) for g in graphs]
    for graph, own, cores in zip(graphs, slots, ghn(graphs, slots), strict=True):
        (alone,) = ghn([graph], [own])
        assert list(alone) == list(cores)
        for name in cores:
            torch.testing.assert_close(cores[name], alone[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"ve": False, "layernorm": False, "weight_norm": False}, {"hypernet": "mlp"}, {"layers": 2, "heads": 4}]
)
def test_other_variants_predict(changes: dict[str, object]) -> None:
    config = GHNConfig({"images": 10}, max_shape=(8, 8, 3, 3), hid=8, **changes)  # type: ignore[arg-type]
    graph = random_graph(6)
    slots = slots_of(graph, {n.weight: n.shape for n in graph.nodes if n.weight and n.shape})
    (cores,) = GHN(config)([graph], [slots])
    assert all(torch.isfinite(core).all() for core in cores.values())

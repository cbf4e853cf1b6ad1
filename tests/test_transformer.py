"""GHN-3's graph network against its equations written out, pair by pair, and its bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ghn_init.graph import Graph
from ghn_init.hypernetwork import transformer
from ghn_init.hypernetwork.transformer import GraphTransformer
from helpers import random_graph


def written_out(network: GraphTransformer, x: Tensor, graph: Graph) -> Tensor:
    """(N, D) → (N, D), with the bias of every pair computed on its own."""
    first, n = network[0], graph.num_nodes
    distances = torch.from_numpy(graph.distances).long()
    edges = torch.from_numpy(graph.edge_index)
    into, out = torch.bincount(edges[1], minlength=n), torch.bincount(edges[0], minlength=n)
    x = x + first.centrality_embed_in(into) + first.centrality_embed_out(out) + first.input_dist_embed(distances[0])
    embed = first.attn.edge_embed.embed
    pairs = torch.cat([embed(distances + 2), embed(distances.T + 2)], dim=2)
    bias = first.attn.proj_e(pairs).permute(2, 0, 1)
    for layer in network:
        heads = layer.attn.heads
        q, k, v = layer.attn.to_qkv(layer.ln1(x)).chunk(3, dim=1)
        q, k, v = (t.unflatten(1, (heads, -1)).transpose(0, 1) for t in (q, k, v))
        weights = (q @ k.transpose(1, 2) / q.shape[2] ** 0.5 + bias).softmax(2)
        x = x + layer.attn.to_out((weights @ v).transpose(0, 1).flatten(1))
        x = x + layer.ff(layer.ln2(x))
    return x


@pytest.mark.parametrize("block", [1, 60, 2**22])
def test_layers_equal_the_equations_in_blocks_of_any_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "_BLOCK", block)
    torch.manual_seed(0)
    network, graph = GraphTransformer(16, 3, 4), random_graph(25)
    x = torch.randn(25, 16)
    torch.testing.assert_close(network(x[None], [graph])[0], written_out(network, x, graph), rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    network, graph = GraphTransformer(16, 2, 4), random_graph(25)
    x = torch.randn(25, 16)
    names, parameters = zip(*network.named_parameters(), strict=True)
    got = torch.autograd.grad(network(x[None], [graph]).square().sum(), parameters)
    wanted = torch.autograd.grad(written_out(network, x, graph).square().sum(), parameters)
    for name, a, b in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3, msg=name)


def test_batched_graphs_equal_each_alone() -> None:
    torch.manual_seed(0)
    network = GraphTransformer(16, 2, 4)
    graphs = [random_graph(n, n) for n in (4, 19)]
    x = torch.randn(2, 19, 16)
    together = network(x, graphs)
    for b, graph in enumerate(graphs):
        alone = network(x[b : b + 1, : graph.num_nodes], [graph])[0]
        torch.testing.assert_close(together[b, : graph.num_nodes], alone)


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


def test_no_tensor_holds_more_than_a_block_or_two_bytes_for_each_pair() -> None:
    torch.manual_seed(0)
    n, heads = 2000, 8
    network, graph = GraphTransformer(16, 2, heads), random_graph(n)
    with torch.no_grad(), Largest() as largest:
        network(torch.randn(1, n, 16), [graph])
    assert largest.bytes <= max(2 * n**2, 4 * transformer._BLOCK) < 4 * heads * n**2 / 10

"""The graph network of GHN-3: pre-norm transformer layers over all nodes, with the graph in an attention bias.

Source: GHN-3 (arXiv 2303.04143), section 3; the structural embeddings follow Graphormer (arXiv 2106.05234).
"""

# Axes: B graphs, N nodes (padded), D hidden, K attention heads, R rows of one block of queries

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.graph import Graph

_MAX_DEGREE, _MAX_INPUT_DISTANCE, _DISTANCES = 100, 1000, 257
_BLOCK = 2**20
"""Attention weights that are held at once, 4 MiB. Of what grows with N², only 3 bytes per pair of nodes are kept: the distance
and the column of the bias table."""


class EdgeEmbedding(nn.Module):
    """One table for distances in both directions; row d + 2 belongs to d hops, row 2 to no path."""

    def __init__(self, hid: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(_DISTANCES, hid)


class Attention(nn.Module):
    """Self-attention over the nodes of one graph. The first layer's makes the bias that all layers share."""

    def __init__(self, hid: int, heads: int, with_edges: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(hid, 3 * hid, bias=False)
        self.to_out = nn.Sequential(nn.Linear(hid, hid))
        if with_edges:
            self.edge_embed = EdgeEmbedding(hid)
            self.proj_e = nn.Sequential(nn.Linear(2 * hid, hid), nn.ReLU(), nn.Linear(hid, heads))

    def bias_table(self, longest: int) -> Tensor:
        """(K, (longest + 1)²) additions to the logits, at `there · (longest + 1) + back` hops.

        A pair's bias depends on its two distances alone, so it is computed once for each two distances, not for each pair.
        """
        rows = self.edge_embed.embed.weight[2 : longest + 3]
        size, hid = len(rows), rows.shape[1]
        both = torch.cat([rows[:, None].expand(size, size, hid), rows[None].expand(size, size, hid)], dim=2)
        return self.proj_e(both).flatten(0, 1).T.contiguous()

    def forward(self, x: Tensor, pairs: Tensor, table: Tensor) -> Tensor:
        """(N, D) nodes → (N, D), a block of queries at a time; `pairs` (N, N) int16 holds columns of `table`."""
        q, k, v = self.to_qkv(x).unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3).contiguous()
        step = max(_BLOCK // (self.heads * len(x)), 1)
        blocks = [
            F.scaled_dot_product_attention(q[:, start : start + step], k, v, _gathered(table, pairs[start : start + step]))
            for start in range(0, len(x), step)
        ]
        return self.to_out(torch.cat(blocks, dim=1).transpose(0, 1).flatten(1))


def _gathered(table: Tensor, pairs: Tensor) -> Tensor:
    """(K, R, N) biases of a block. `index_select` along one axis costs a tenth of indexing with a matrix."""
    return table.index_select(1, pairs.flatten().int()).unflatten(1, pairs.shape)


class FeedForward(nn.Module):
    """D → 4D → D with GELU. The published third place is a dropout that drops nothing."""

    def __init__(self, hid: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(hid, 4 * hid), nn.GELU(), nn.Identity(), nn.Linear(4 * hid, hid))

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) → (N, D)."""
        return self.net(x)


class Layer(nn.Module):
    """One transformer layer; the first one also holds the embeddings of the nodes' places in the graph."""

    def __init__(self, hid: int, heads: int, first: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(hid)
        self.attn = Attention(hid, heads, with_edges=first)
        self.ln2 = nn.LayerNorm(hid)
        self.ff = FeedForward(hid)
        if first:
            self.centrality_embed_in = nn.Embedding(_MAX_DEGREE + 1, hid)
            self.centrality_embed_out = nn.Embedding(_MAX_DEGREE + 1, hid)
            self.input_dist_embed = nn.Embedding(_MAX_INPUT_DISTANCE + 1, hid)

    def places(self, graph: Graph) -> Tensor:
        """(N, D): in-degree, out-degree and distance from the input node."""
        device = self.ln1.weight.device
        edges = torch.from_numpy(graph.edge_index).to(device)
        degrees = [torch.bincount(row, minlength=graph.num_nodes).clamp_max(_MAX_DEGREE) for row in edges]
        from_input = torch.from_numpy(graph.distances[0].astype("int64")).to(device)
        embedded = self.centrality_embed_in(degrees[1]) + self.centrality_embed_out(degrees[0])
        return embedded + self.input_dist_embed(from_input)

    def forward(self, x: Tensor, pairs: Tensor, table: Tensor) -> Tensor:
        """(N, D) → (N, D)."""
        x = x + self.attn(self.ln1(x), pairs, table)
        return x + self.ff(self.ln2(x))


class GraphTransformer(nn.ModuleList):
    """`layers` transformer layers; graphs are taken one by one, so nothing is padded or masked."""

    def __init__(self, hid: int, layers: int, heads: int) -> None:
        super().__init__(Layer(hid, heads, first=number == 0) for number in range(layers))

    def forward(self, h: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """(B, N, D) features of B graphs padded to N nodes → (B, N, D) embeddings."""
        embedded = [self._one(h[b, : graph.num_nodes], graph) for b, graph in enumerate(graphs)]
        return nn.utils.rnn.pad_sequence(embedded, batch_first=True)

    def _one(self, x: Tensor, graph: Graph) -> Tensor:
        first = cast(Layer, self[0])
        distances = torch.from_numpy(graph.distances).to(x.device)
        longest = int(distances.max())
        pairs = distances.short().mul_(longest + 1).add_(distances.T)  # at most 50 · 51 + 50
        table = first.attn.bias_table(longest)
        x = x + first.places(graph)
        for layer in self:
            x = layer(x, pairs, table)
        return x

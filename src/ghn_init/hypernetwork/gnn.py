"""The graph network of GHN-1 and GHN-2, and the MLP that replaces it in the published ablation."""

# Axes: B graphs, N nodes (padded), D hidden

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ghn_init.graph import Graph
from ghn_init.hypernetwork.sweep import Sweep


class MLP(nn.Module):
    """Two linear layers, each followed by ReLU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width), nn.ReLU())

    def forward(self, h: Tensor, graphs: Sequence[Graph] = ()) -> Tensor:
        """(…, D) → (…, D); as the ablation it looks at no graph."""
        return self.fc(h)


class GatedGNN(nn.Module):
    """A sweep in topological order with messages from predecessors, then one in reverse with messages from successors.

    Source: GHN-1 (arXiv 1810.05749), section 4.2; virtual edges from GHN-2 (arXiv 2110.13100), equation 4.
    """

    def __init__(self, hid: int, ve: bool) -> None:
        super().__init__()
        self.mlp = MLP(hid, hid // 2 if ve else hid)
        if ve:
            self.mlp_ve = MLP(hid, hid // 2)
        self.gru = nn.GRUCell(hid, hid)
        self.ve = ve

    def forward(self, h: Tensor, graphs: Sequence[Graph]) -> Tensor:
        """(B, N, D) features of B graphs padded to N nodes → (B, N, D) embeddings."""
        weights = self._weights()
        forwards, backwards = message_weights(graphs, h.shape[1], self.ve)
        h = Sweep.apply(h, forwards, *weights)
        return Sweep.apply(h.flip(1).contiguous(), backwards, *weights).flip(1)

    def received(self, h: Tensor, graph: Graph, node: int) -> tuple[Tensor, Tensor]:
        """What a node receives from each other one, in the sweep and in the reverse sweep: (N, D) features → twice (N, D)."""
        weights, count = self._weights(), graph.num_nodes
        forwards, backwards = message_weights([graph], count, self.ve)
        first = Sweep.apply(h[None], forwards, *weights)
        second = Sweep.apply(first.flip(1).contiguous(), backwards, *weights)
        mlps = [self.mlp, self.mlp_ve] if self.ve else [self.mlp]

        def sent(states: Tensor, edges: NDArray[np.float32], to: int) -> Tensor:
            taken = torch.from_numpy(edges[:, 0, to]).to(states).unsqueeze(2)
            return sum((share * mlp(states) for share, mlp in zip(taken, mlps, strict=True)), torch.zeros_like(states))

        return sent(first[0], forwards, node), sent(second[0], backwards, count - 1 - node).flip(0)

    def _weights(self) -> list[Tensor]:
        mlps = [self.mlp, self.mlp_ve] if self.ve else [self.mlp]
        first = [cast(nn.Linear, mlp.fc[0]) for mlp in mlps]
        second = [cast(nn.Linear, mlp.fc[2]) for mlp in mlps]
        return [
            torch.cat([layer.weight for layer in first]),
            torch.cat([layer.bias for layer in first]),
            torch.block_diag(*(layer.weight for layer in second)),
            torch.cat([layer.bias for layer in second]),
            self.gru.weight_ih,
            self.gru.weight_hh,
            self.gru.bias_ih,
            self.gru.bias_hh,
        ]


def message_weights(graphs: Sequence[Graph], num_nodes: int, ve: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What each node takes of the others' messages, for the forward and for the reverse sweep.

    Returns:
        Two (P, B, N, N) arrays: real edges, then, with `ve`, 1 / distance. The second belongs to nodes in reverse order.
    """
    weights = np.zeros((2 if ve else 1, len(graphs), num_nodes, num_nodes), np.float32)
    for b, graph in enumerate(graphs):
        n = graph.num_nodes
        weights[0, b, :n, :n].T[tuple(graph.edge_index)] = 1
        if ve:
            distances = graph.distances.T
            np.divide(1, distances, out=weights[1, b, :n, :n], where=distances > 0)
    return weights, np.ascontiguousarray(weights.swapaxes(2, 3)[:, :, ::-1, ::-1])

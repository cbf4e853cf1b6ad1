"""The graph hypernetwork: graph → node embeddings → decoded cores of all parameters."""

# Axes: B graphs, N nodes (padded), D hidden, O/I output/input channels, H/W kernel

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.graph import PRIMITIVES, Graph
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.decoder import ConvDecoder, VectorDecoder
from ghn_init.hypernetwork.gnn import MLP, GatedGNN
from ghn_init.hypernetwork.shape_encoding import ShapeEncoder
from ghn_init.hypernetwork.slots import Slot

_PRIMITIVE_INDEX = {name: index for index, name in enumerate(PRIMITIVES)}
_CHUNK = 256
"""Kernel positions that are decoded at once; bounds the memory of a step to about 4 MiB at 64 × 64 channels."""


class GHN(nn.Module):
    """A GHN-1, a GHN-2 or the MLP ablation. Parameters have the published names.

    Source: arXiv 1810.05749 (GHN-1), arXiv 2110.13100 (GHN-2).
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        hid = config.hid
        self.embed = nn.Embedding(len(PRIMITIVES), hid)
        self.shape_enc = ShapeEncoder(hid, config.num_classes, config.max_shape[2])
        self.gnn = GatedGNN(hid, config.ve) if config.hypernet == "gatedgnn" else MLP(hid, hid)
        if config.layernorm:
            self.ln = nn.LayerNorm(hid)
        self.decoder = ConvDecoder(config)
        self.decoder_1d = VectorDecoder(config)
        self.bias_class = nn.Sequential(nn.ReLU(), nn.Linear(self.decoder_1d.length, config.num_classes))

    def features(self, graph: Graph) -> Tensor:
        """(N, D) node features: primitive and shape."""
        device = self.embed.weight.device
        primitives = torch.tensor([_PRIMITIVE_INDEX[node.primitive] for node in graph.nodes], device=device)
        rows = torch.tensor([self.shape_enc.rows(node) for node in graph.nodes], device=device)
        return self.embed(primitives) + self.shape_enc(rows)

    def embed_nodes(self, graphs: Sequence[Graph]) -> list[Tensor]:
        """Node embeddings of each graph, (N, D)."""
        features = [self.features(graph) for graph in graphs]
        h = nn.utils.rnn.pad_sequence(features, batch_first=True)
        h = self.gnn(h, graphs)
        if self.config.layernorm:
            h = self.ln(h)
        return [h[b, : graph.num_nodes] for b, graph in enumerate(graphs)]

    def decode(self, slots: Sequence[Slot], h: Tensor) -> Iterator[tuple[Slot, Tensor]]:
        """Decodes slots, those of one size together, into cores: the tensors before tiling, scaled.

        Args:
            slots: What to decode; `slot.node` is a row of `h`.
            h: (N, D) node embeddings; for several graphs at once their concatenation.

        Yields:
            Each slot with its core: (O', I', H, W) for weights, O' ≤ M0, I' ≤ M1; (L',) for vectors.
        """
        M0, M1 = self.config.max_shape[:2]
        groups: dict[tuple[object, ...], list[Slot]] = defaultdict(list)
        for slot in slots:
            out_channels, in_channels, height, width = slot.sizes
            if slot.kind in ("weight", "position"):
                groups["kernel", min(out_channels, M0), min(in_channels, M1), height, width].append(slot)
            elif slot.kind == "classifier_weight":
                groups["classifier", min(in_channels, M1)].append(slot)
            else:
                groups["vector",].append(slot)
        for (kind, *sizes), members in groups.items():
            for chunk in _chunks(members):
                rows = h[[slot.node for slot in chunk]]
                if kind == "vector":
                    yield from self._vectors(chunk, rows)
                elif kind == "classifier":
                    yield from self._scaled(chunk, self.decoder.classifier(rows, *sizes)[..., None, None])  # type: ignore[arg-type]
                else:
                    o, i, height, width = sizes
                    yield from self._scaled(chunk, self.decoder(rows, o, i, (height, width)))  # type: ignore[arg-type]

    def _scaled(self, slots: Sequence[Slot], cores: Tensor) -> Iterator[tuple[Slot, Tensor]]:
        for slot, core in zip(slots, cores, strict=True):
            yield slot, core * slot.scale if self.config.weight_norm and slot.kind != "position" else core

    def _vectors(self, slots: Sequence[Slot], rows: Tensor) -> Iterator[tuple[Slot, Tensor]]:
        for slot, (weight, bias) in zip(slots, self.decoder_1d(rows), strict=True):
            if slot.kind == "norm_weight":
                core = 2 * torch.sigmoid(0.5 * weight) if self.config.weight_norm else weight
            else:
                core = self.bias_class(bias) if slot.kind == "classifier_bias" else bias
                core = torch.tanh(0.2 * core) if self.config.weight_norm else core
            yield slot, core[: slot.sizes[0]]

    def forward(self, graphs: Sequence[Graph], slots: Sequence[Sequence[Slot]]) -> list[dict[str, Tensor]]:
        """Cores of all slots of all graphs, by dotted name; differentiable, decoded over all graphs at once."""
        embeddings = self.embed_nodes(graphs)
        offsets = [0]
        for graph in graphs:
            offsets.append(offsets[-1] + graph.num_nodes)
        owner: dict[int, int] = {}
        shifted: list[Slot] = []
        for b, own in enumerate(slots):
            for slot in own:
                moved = replace(slot, node=slot.node + offsets[b])
                owner[id(moved)] = b
                shifted.append(moved)
        cores: list[dict[str, Tensor]] = [{} for _ in graphs]
        for slot, core in self.decode(shifted, torch.cat(embeddings)):
            cores[owner[id(slot)]][slot.name] = core
        return cores


def _chunks(slots: list[Slot]) -> Iterable[list[Slot]]:
    positions = max(slots[0].sizes[2] * slots[0].sizes[3], 1)
    size = max(_CHUNK // positions, 1)
    return (slots[k : k + size] for k in range(0, len(slots), size))

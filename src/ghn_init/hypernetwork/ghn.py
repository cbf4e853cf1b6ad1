"""The graph hypernetwork: graph → node embeddings → decoded cores of all parameters."""

# Axes: B graphs, N nodes (padded), D hidden, O/I output/input channels, H/W kernel

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from torch import Tensor, nn

from ghn_init.checkpoints.folder import write_folder
from ghn_init.graph import PRIMITIVES, Graph
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.decoder import ConvDecoder, VectorDecoder
from ghn_init.hypernetwork.gnn import MLP, GatedGNN
from ghn_init.hypernetwork.shape_encoding import ShapeEncoder
from ghn_init.hypernetwork.slots import Slot
from ghn_init.hypernetwork.transformer import GraphTransformer

_PRIMITIVE_INDEX = {name: index for index, name in enumerate(PRIMITIVES)}
_CHUNK = 256
"""Kernel positions that are decoded at once; bounds the memory of a step to about 4 MiB at 64 × 64 channels."""


class GHN(
    nn.Module,
    huggingface_hub.PyTorchModelHubMixin,
    library_name="ghn_init",
    tags=["hypernetwork"],
):
    """A GHN-1, a GHN-2, a GHN-3 or the MLP ablation. Parameters have the published names.

    `save_pretrained`, `from_pretrained` and `push_to_hub` are the hub mixin's.

    Source: arXiv 1810.05749 (GHN-1), arXiv 2110.13100 (GHN-2), arXiv 2303.04143 (GHN-3).
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        hid = config.hid
        self.embed = nn.Embedding(len(PRIMITIVES), hid)
        self.shape_enc = ShapeEncoder(hid, config.num_classes, config.max_shape[2])
        self.gnn = _graph_network(config)
        if config.layernorm:
            self.ln = nn.LayerNorm(hid)
        self.decoder = ConvDecoder(config)
        self.decoder_1d = VectorDecoder(config)
        self.bias_class = nn.Sequential(nn.ReLU(), nn.Linear(self.decoder_1d.length, config.num_classes))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_folder(save_directory, self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> GHN:  # type: ignore[override]
        """Loads from a folder, a file or the hub; arguments and errors as in `ghn_init.load`."""
        from ghn_init.checkpoints.load import load

        return load(pretrained_model_name_or_path, **kwargs)

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
        groups: dict[tuple[str, int, int, int, int], list[Slot]] = defaultdict(list)
        for slot in slots:
            groups[self._group(slot)].append(slot)
        for (family, o, i, height, width), members in groups.items():
            for chunk in _chunks(members):
                rows = h[[slot.node for slot in chunk]]
                if family == "vector":
                    yield from self._vectors(chunk, rows)
                elif family == "classifier":
                    yield from self._scaled(chunk, self.decoder.classifier(rows, i)[..., None, None])
                else:
                    yield from self._scaled(chunk, self.decoder(rows, o, i, (height, width)))

    def _group(self, slot: Slot) -> tuple[str, int, int, int, int]:
        """Slots with the same key are decoded together: the decoder, and the sizes that it makes."""
        M0, M1 = self.config.max_shape[:2]
        o, i, height, width = slot.sizes
        if slot.kind in ("weight", "position"):
            return ("kernel", min(o, M0), min(i, M1), height, width)
        if slot.kind == "classifier_weight":
            return ("classifier", M0, min(i, M1), 1, 1)
        return ("vector", 1, 1, 1, 1)

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


def _graph_network(config: GHNConfig) -> nn.Module:
    if config.layers:
        return GraphTransformer(config.hid, config.layers, config.heads)
    return GatedGNN(config.hid, config.ve) if config.hypernet == "gatedgnn" else MLP(config.hid, config.hid)


def _chunks(slots: list[Slot]) -> Iterable[list[Slot]]:
    positions = max(slots[0].sizes[2] * slots[0].sizes[3], 1)
    size = max(_CHUNK // positions, 1)
    return (slots[k : k + size] for k in range(0, len(slots), size))

"""The graph hypernetwork: graph → node embeddings → decoded cores of all parameters."""

# Axes: B graphs, N nodes (padded), D hidden, O/I output/input channels, H/W kernel

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ghn_init.confidence.confidence import Confidence
from ghn_init.errors import CheckpointError
from ghn_init.graph import PRIMITIVES, Graph
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.decoder import ConvDecoder, Cuts, VectorDecoder
from ghn_init.hypernetwork.gnn import MLP, GatedGNN
from ghn_init.hypernetwork.heads import Head
from ghn_init.hypernetwork.shape_encoding import ShapeEncoder
from ghn_init.hypernetwork.slots import Slot
from ghn_init.hypernetwork.transformer import GraphTransformer

_PRIMITIVE_INDEX = {name: index for index, name in enumerate(PRIMITIVES)}
_CHUNK = 256
"""Kernel positions that are decoded at once; bounds the memory of a step to about 4 MiB at 64 × 64 channels."""

_KERNEL, _VECTOR = "_kernel", "_vector"
"""The decoders that serve all tasks, beside tasks' names for their heads; no task's name begins with an underscore."""

_PUBLISHED_HEAD = {"decoder.class_layer_predictor.1.": "to_weight.", "bias_class.1.": "to_bias."}
"""Published names of the one head's tensors → ours."""


class _Wanted(NamedTuple):
    """A slot of one of the graphs, its node's row in all graphs' embeddings together, and the task whose head decodes it."""

    slot: Slot
    graph: int
    row: int
    task: str | None


class GraphHyperNetwork(nn.Module):
    """A GHN-1, a GHN-2, a GHN-3 or the MLP ablation. Parameters have the published names, but for the heads'.

    Source: arXiv 1810.05749 (GHN-1), arXiv 2110.13100 (GHN-2), arXiv 2303.04143 (GHN-3).
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        hid = config.hid
        self.embed = nn.Embedding(len(PRIMITIVES), hid)
        self.shape_enc = ShapeEncoder(hid, config.max_shape[2], config.class_width)
        self.gnn = _graph_network(config)
        if config.layernorm:
            self.ln = nn.LayerNorm(hid)
        self.decoder = ConvDecoder(config)
        self.decoder_1d = VectorDecoder(config)
        self.heads = nn.ModuleDict()
        for name, outputs in config.tasks.items():
            if name in dir(self.heads):
                raise CheckpointError(
                    f"{name!r} can't name a task, PyTorch's ModuleDict has a member of that name; choose another."
                )
            self.heads[name] = Head(config, outputs)
        self.confidence: Confidence | None = None  # of these weights; whatever changes them leaves it out

    def features(self, graph: Graph) -> Tensor:
        """(N, D) node features: primitive and shape."""
        device = self.embed.weight.device
        primitives = torch.tensor([_PRIMITIVE_INDEX[node.primitive] for node in graph.nodes], device=device)
        rows = torch.tensor([self.shape_enc.rows(node) for node in graph.nodes], device=device)
        return self.embed(primitives) + self.shape_enc(rows)

    def as_read(self, graph: Graph, slots: Iterable[Slot]) -> Graph:
        """The graph as its nodes are embedded.

        Heads that are not predicted, GHN-1 and -2, as published, read as those of the classes that they were trained on.
        """
        if not self.config.published or self.config.layers:
            return graph
        width, predicted = self.config.class_width, {slot.node for slot in slots}
        assert width is not None  # of a published one
        nodes = list(graph.nodes)
        for k, node in enumerate(nodes):
            if node.head and node.shape and k not in predicted:
                nodes[k] = replace(node, shape=(width, *node.shape[1:]))
        return replace(graph, nodes=tuple(nodes))

    def embed_nodes(self, graphs: Sequence[Graph]) -> list[Tensor]:
        """Node embeddings of each graph, (N, D)."""
        features = [self.features(graph) for graph in graphs]
        h = nn.utils.rnn.pad_sequence(features, batch_first=True)
        h = self.gnn(h, graphs)
        if self.config.layernorm:
            h = self.ln(h)
        return [h[b, : graph.num_nodes] for b, graph in enumerate(graphs)]

    def forward(
        self, graphs: Sequence[Graph], slots: Sequence[Sequence[Slot]], tasks: Sequence[str | None] | None = None
    ) -> list[dict[str, Tensor]]:
        """Decodes all slots of all graphs, those of one size together, into cores: the tensors before tiling, scaled.

        Args:
            graphs: What to read.
            slots: Of each graph, in any order.
            tasks: Whose head decodes each graph's slots that are one's, where they have as many outputs; None for none: such a
                slot is then decoded like other layers. By default the only task of a hypernetwork that has one.

        Returns:
            For each graph dotted name → core, in the order of its slots: (O', I', H, W) for weights, O' ≤ M0, I' ≤ M1; (L',)
            for vectors. Differentiable.
        """
        if tasks is None:
            (*others, only) = self.config.tasks
            tasks = [None if others else only] * len(graphs)
        read = [self.as_read(graph, own) for graph, own in zip(graphs, slots, strict=True)]
        return self.decode(slots, self.embed_nodes(read), tasks)

    def decode(
        self, slots: Sequence[Sequence[Slot]], embeddings: Sequence[Tensor], tasks: Sequence[str | None]
    ) -> list[dict[str, Tensor]]:
        """The second half of `forward`; `embeddings` are (N, D) for each graph."""
        groups: dict[tuple[str, int, int, int, int], list[_Wanted]] = defaultdict(list)
        first = 0
        for b, (own, h, task) in enumerate(zip(slots, embeddings, tasks, strict=True)):
            for slot in own:
                wanted = _Wanted(slot, b, first + slot.node, self.head_of(slot, task))
                groups[self._group(wanted)].append(wanted)
            first += len(h)
        rows = torch.cat(list(embeddings))
        cuts = self.decoder.cut(key[1:] for key in groups if key[0] != _VECTOR)
        cores: list[dict[str, Tensor]] = [dict.fromkeys((slot.name for slot in own), rows) for own in slots]
        for key, members in groups.items():
            for chunk in _chunks(members):
                for wanted, core in self._decoded(key, chunk, cuts, rows[[wanted.row for wanted in chunk]]):
                    cores[wanted.graph][wanted.slot.name] = core
        return cores

    def head_of(self, slot: Slot, task: str | None) -> str | None:
        """The task whose head decodes a slot; None where it is decoded like other layers."""
        return task if task is not None and slot.head and slot.sizes[0] == self.config.tasks[task] else None

    def core_shape(self, slot: Slot, task: str | None) -> tuple[int, ...]:
        """What is decoded for a slot: (O', I', H, W), (L',) for vectors, without the last two for a head's weight."""
        M0, M1 = self.config.max_shape[:2]
        o, i, height, width = slot.sizes
        head = self.head_of(slot, task) is not None
        if slot.kind in ("weight", "position"):
            return (o, min(i, M1)) if head else (min(o, M0), min(i, M1), height, width)
        return (o if head else min(o, max(M0, M1)),)

    @property
    def fingerprint(self) -> str:
        """Tells weights apart that go by the same name: a digest of all tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]

    def _group(self, wanted: _Wanted) -> tuple[str, int, int, int, int]:
        """Slots with the same key are decoded together: by which decoder, and the sizes that it makes."""
        slot = wanted.slot
        if slot.kind not in ("weight", "position"):
            return (_VECTOR, 1, 1, 1, 1)
        if wanted.task is not None:
            return (wanted.task, self.config.max_shape[0], min(slot.sizes[1], self.config.max_shape[1]), 1, 1)
        _, _, height, width = slot.sizes
        o, i = self.core_shape(slot, None)[:2]
        return (_KERNEL, o, i, height, width)

    def _decoded(
        self, key: tuple[str, int, int, int, int], members: Sequence[_Wanted], cuts: Cuts, rows: Tensor
    ) -> Iterator[tuple[_Wanted, Tensor]]:
        """Each member of a group with its core; `rows` are its embeddings."""
        decoder, o, i, height, width = key
        if decoder == _VECTOR:
            yield from self._vectors(members, rows)
            return
        if decoder == _KERNEL:
            cores = self.decoder(rows, cuts, o, i, (height, width))
        else:
            cores = cast(Head, self.heads[decoder]).weight(self.decoder, rows, cuts, i)[..., None, None]
        for wanted, core in zip(members, cores, strict=True):
            yield wanted, core * wanted.slot.scale if self._scales(wanted.slot) else core

    def _scales(self, slot: Slot) -> bool:
        """Positions have no fan-in. To published code a table (rows, d) is a weight like others; ours were trained without."""
        table = len(slot.layout) == 2 and self.config.published
        return self.config.weight_norm and (slot.kind != "position" or table)

    def _vectors(self, members: Sequence[_Wanted], rows: Tensor) -> Iterator[tuple[_Wanted, Tensor]]:
        for wanted, (weight, bias) in zip(members, self.decoder_1d(rows), strict=True):
            if wanted.slot.kind == "norm_weight":
                core = 2 * torch.sigmoid(0.5 * weight) if self.config.weight_norm else weight
            else:
                core = bias if wanted.task is None else cast(Head, self.heads[wanted.task]).bias(bias)
                core = torch.tanh(0.2 * core) if self.config.weight_norm else core
            yield wanted, core[: wanted.slot.sizes[0]]


def under_our_names(config: GHNConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors, whose one head has names of its own, under ours; others as they are."""
    (task, *others) = config.tasks
    if others:
        return dict(tensors)
    pattern = re.compile("|".join(map(re.escape, _PUBLISHED_HEAD)))
    return {
        pattern.sub(lambda m: f"heads.{task}.{_PUBLISHED_HEAD[m[0]]}", name, count=1): tensor
        for name, tensor in tensors.items()
    }


def _graph_network(config: GHNConfig) -> nn.Module:
    if config.layers:
        return GraphTransformer(config.hid, config.layers, config.heads)
    return GatedGNN(config.hid, config.ve) if config.hypernet == "gatedgnn" else MLP(config.hid, config.hid)


def _chunks(members: list[_Wanted]) -> Iterable[list[_Wanted]]:
    positions = max(members[0].slot.sizes[2] * members[0].slot.sizes[3], 1)
    size = max(_CHUNK // positions, 1)
    return (members[k : k + size] for k in range(0, len(members), size))

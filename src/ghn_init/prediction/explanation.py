"""What a prediction was made of: the parameter's node, whose messages it listened to, what was decoded and how it was tiled."""

# Axes: O/I output/input channels, H/W kernel

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from html import escape
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor

from ghn_init import deepnets
from ghn_init.errors import UnsupportedModelError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.gnn import GatedGNN
from ghn_init.prediction.prediction import Prediction, check_prediction
from ghn_init.progress import counting
from ghn_init.tracing.trace import read_in_eval_mode
from ghn_init.viz import filters, inline

NETWORKS = 16
"""Of meta-training, among which the nearest nodes are looked for."""


@dataclass(frozen=True)
class Neighbour:
    """A node that another one listened to.

    Attributes:
        node: Its index in the graph.
        primitive: Of `ghn_init.graph.PRIMITIVES`.
        parameter: Dotted name of its parameter, or None.
        hops: How far it is: below 0 before, above 0 after the other one.
        share: Its part of the lengths of all messages that the other one got in that sweep, 0 to 1.
    """

    node: int
    primitive: str
    parameter: str | None
    hops: int
    share: float


@dataclass(frozen=True)
class Near:
    """A node of another graph that the hypernetwork sees almost as the explained one.

    Attributes:
        graph: Name of the other graph.
        node: Its index there.
        primitive: Of `ghn_init.graph.PRIMITIVES`.
        parameter: Dotted name of its parameter.
        shape: Of the parameter.
        distance: Between both embeddings, as a share of the explained one's length.
    """

    graph: str
    node: int
    primitive: str
    parameter: str
    shape: tuple[int, ...]
    distance: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """How one parameter was predicted. Notebooks show a convolution's filters as well.

    Attributes:
        name: Dotted name.
        node: Index of its node.
        primitive: Of the node.
        shape: Of the parameter.
        core: What was decoded, before it was tiled: (O', I', H, W) of weights, (L',) of vectors.
        copies: How often the core is repeated to fill the parameter, a part of it counted as a part.
        scale: Root mean square of the prediction.
        default_scale: Of the model's own values when it was predicted; None on the meta device.
        he_scale: √(2 / fan-in), the standard deviation of He et al., 2015 (arXiv 1502.01852); None for vectors.
        neighbours: By their shares, those before the node first. Each sweep's shares add up to 1; none for the MLP ablation.
        nearest: Nodes of other graphs with the nearest embeddings, the nearest first.
        own: The model's own first filters when it was predicted, (O, I, H, W); None where there is no kernel or no value.
    """

    name: str
    node: int
    primitive: str
    shape: tuple[int, ...]
    core: Tensor = field(repr=False)
    copies: float
    scale: float
    default_scale: float | None
    he_scale: float | None
    neighbours: tuple[Neighbour, ...] = ()
    nearest: tuple[Near, ...] = ()
    own: Tensor | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but tensors, for programs; of the core the shape."""
        told = {key: value for key, value in vars(self).items() if key not in ("core", "own", "neighbours", "nearest")}
        lists = {key: [asdict(one) for one in getattr(self, key)] for key in ("neighbours", "nearest")}
        return {**told, "core": list(self.core.shape), **lists}

    def __repr__(self) -> str:
        """A screen: the facts, and the ten neighbours that counted most."""
        own = "" if self.default_scale is None else f", the model's own values {self.default_scale:.3g}"
        he = "" if self.he_scale is None else f", He {self.he_scale:.3g}"
        lines = [
            f"{self.name}: node {self.node}, {self.primitive}, {' × '.join(map(str, self.shape))}",
            f"  decoded {' × '.join(map(str, self.core.shape))}, copies: {self.copies:.3g}",
            f"  root mean square {self.scale:.3g}{own}{he}",
        ]
        for title, side in (("before it", -1), ("after it", 1)):
            found = [neighbour for neighbour in self.neighbours if neighbour.hops * side > 0]
            lines += [f"  listened to, {title} ({len(found)}):"] if found else []
            lines += [
                f"    {100 * one.share:5.1f} %  {_far(one.hops)}  {one.primitive:8}  {one.parameter or ''}" for one in found[:5]
            ]
        lines += ["  nearest of other graphs:"] if self.nearest else []
        lines += [
            f"    {one.distance:5.2f}  {one.primitive:8}  {' × '.join(map(str, one.shape)):18} {one.graph}: {one.parameter}"
            for one in self.nearest
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        """The screen, and filters: what was decoded beside the model's own."""
        shown = {} if self.own is None else {"decoded": self.core, "the model's own": self.own}
        images = (inline.image(filters.tiles(weight.float().cpu()), title) for title, weight in shown.items())
        return f"<div><pre>{escape(repr(self))}</pre>{''.join(images)}</div>"


@torch.no_grad()
def explain(prediction: Prediction, name: str, among: Mapping[str, Graph] | None = None, count: int = 5) -> Explanation:
    """Shows how a parameter was predicted: its node, its neighbours' shares in the messages, the decoded core, scales.

    Also where the hypernetwork may have seen nearly the same: nodes of networks as meta-training has them.

    Args:
        prediction: Of a model; look before `apply_`, which takes the place of the model's own values.
        name: Dotted name of a predicted parameter.
        among: Name → graph, whose nodes with parameters are compared; by default 16 networks of DeepNets-1M's training split,
            which takes a second the first time; `{}` for none.
        count: How many of them are told.

    Raises:
        KeyError: The model has no such parameter, or it keeps its value; with the reason.
        UnsupportedModelError: A GHN-3 predicted, which has attention in the place of messages.
        TypeError: A model in the place of its prediction.

    Example:
        >>> import ghn_init, timm
        >>> p = ghn_init.predict(timm.create_model("resnet18"))
        >>> ghn_init.explain(p, "layer4.0.conv1.weight").primitive
        'conv'
    """
    check_prediction(prediction, "explain")
    if name in prediction.kept:
        raise KeyError(f"'{name}' keeps its value: {prediction.kept[name]}")
    if name not in prediction.slots:
        close = get_close_matches(name, [*prediction.slots, *prediction.kept], 1)
        raise KeyError(f"the model has no parameter '{name}'{f'; did you mean {close[0]!r}?' if close else ''}")
    ghn = prediction.ghn
    if ghn.config.layers:
        raise UnsupportedModelError(
            f"a GHN-3 of {ghn.config.layers} layers has no messages to show; predict with a GHN-1 or a GHN-2."
        )
    slot = prediction.slots[name]
    predicted, own = prediction.tensors[name], dict(prediction.model.named_parameters())[name]
    core = prediction.cores[slot.name]
    weight = slot.kind == "weight"
    kernel = weight and own.dim() == core.dim() == 4 and own[0, 0].numel() > 1 and not own.is_meta
    kernel = kernel and not torch.equal(own, predicted)  # written already: the model's own is gone
    return Explanation(
        name=name,
        node=slot.node,
        primitive=prediction.graph.nodes[slot.node].primitive,
        shape=slot.shape,
        core=core,
        copies=prod(slot.shape) / core.numel(),
        scale=_rms(predicted),
        default_scale=None if own.is_meta else _rms(own.detach()),
        he_scale=sqrt(2 * slot.sizes[0] * slot.slices / prod(slot.shape)) if weight else None,
        neighbours=_neighbours(prediction.graph, slot.node, ghn),
        nearest=_nearest(prediction.graph, slot.node, ghn, _training_graphs() if among is None else among, count),
        own=own.detach()[: filters.MOST].clone() if kernel else None,
    )


def _far(hops: int) -> str:
    return f"{abs(hops):3} {'hop ' if abs(hops) == 1 else 'hops'}"


def _rms(tensor: Tensor) -> float:
    return tensor.float().square().mean().sqrt().item()


def _neighbours(graph: Graph, node: int, ghn: GraphHyperNetwork) -> tuple[Neighbour, ...]:
    if not isinstance(ghn.gnn, GatedGNN):
        return ()
    found = []
    hops = (-graph.distances[:, node].astype(int), graph.distances[node].astype(int))
    for messages, far in zip(ghn.gnn.received(ghn.features(graph), graph, node), hops, strict=True):
        lengths = messages.norm(dim=1)
        shares = lengths / lengths.sum().clamp_min(1e-12)
        order = [int(j) for j in shares.argsort(descending=True, stable=True) if shares[j] > 0]
        nodes = graph.nodes
        found += [Neighbour(j, nodes[j].primitive, nodes[j].weight, int(far[j]), shares[j].item()) for j in order]
    return tuple(found)


@lru_cache(maxsize=1)
def _training_graphs() -> dict[str, Graph]:
    """Of some networks as hypernetworks are trained on unless they are told otherwise."""
    graphs = {}
    with counting(NETWORKS, "networks of meta-training", show=True) as done:
        for index in range(NETWORKS):
            with torch.device("meta"):
                network = deepnets.network("train", index)
            graphs[f"train {index}"] = read_in_eval_mode(network, torch.empty(2, 3, 32, 32)).graph
            done("")
    return graphs


def _nearest(graph: Graph, node: int, ghn: GraphHyperNetwork, among: Mapping[str, Graph], count: int) -> tuple[Near, ...]:
    if not among:
        return ()
    (own,) = ghn.embed_nodes([graph])
    found = []
    for name, other in among.items():
        (embeddings,) = ghn.embed_nodes([other])
        distances = (embeddings - own[node]).norm(dim=1) / own[node].norm().clamp_min(1e-12)
        for index, (one, distance) in enumerate(zip(other.nodes, distances.tolist(), strict=True)):
            if one.weight is not None and one.shape is not None:
                found.append(Near(name, index, one.primitive, one.weight, one.shape, distance))
    return tuple(sorted(found, key=lambda near: near.distance)[:count])

"""Scales of predicted parameters before fine-tuning: what a new head reads starts as small as it would by default.

A hypernetwork predicts for a head of its own. A random head on predicted features diverges at the rates that people use: the
sharpness of its loss grows with the features' squared norm, and in layers wider than the decoder channels are copies, which add
up (`benchmarks/first_steps.py`). One factor for a whole parameter leaves what was predicted as it is, up to that scale.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Graph
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.slots import Slot
from ghn_init.tracing.rules.reasons import REPARAMETRISES

FEATURES: Mapping[str, float] = {"bn": 0.25, "ln": 1.0}
"""Largest second moment of what the norms before a head add up to. Default init gives a layer norm one; a batch norm's feature
after ReLU and a mean over space has about (1/√(2π))² + 0.3² = 0.25. A bias that the head reads counts as a batch norm's."""

LOGITS = 0.5
"""Largest variance of the logits that a head's own weights make of such features, over ln(classes). Logits of variance v that
know nothing cost ln(classes) + v / 2. `nn.Linear`'s weights stay far below it; timm's EfficientNets begin with weights of
±1 / √classes, which on 1,280 features of 0.25 give ten classes a variance of 11, and two classes 53."""

SMALLEST = 1e-4
"""Second moment that features keep whatever the head's weights are: trained ones, say."""

ADDS_UP = "tiled copies would add up, no norm follows, and the model rescales the weight (weight standardisation)"
NO_SCALE = "no norm follows, and the model rescales the weight that its size was predicted for (weight standardisation)"


def adding_up(graph: Graph, slots: Mapping[str, Slot], ghn: GraphHyperNetwork) -> dict[str, str]:
    """Weights and biases that are better kept, by dotted name → why.

    Weights of `balanced` that would be divided by √k, but whose scale the model sets itself: in an NFNet features would grow by
    √k with each layer, 1,000 times in all. And the biases of such weights, tiled or not: they were predicted for weights of
    another scale, and in an NFNet those of the stem, which nothing takes out again, make all images alike.

    Args:
        graph: The model's.
        slots: Of what would be predicted.
        ghn: What would predict it.
    """
    reasons = set(graph.kept.values())
    found: dict[str, str] = {}
    for index in _before_head(graph, NORM_PRIMITIVES):
        slot = slots.get(graph.nodes[index].weight or "")
        if slot is None or slot.kind != "weight" or REPARAMETRISES.format(slot.name) not in reasons:
            continue
        following = (graph.nodes[end] for start, end in graph.edges if start == index)
        reasons_of = {node.weight: NO_SCALE for node in following if node.primitive == "bias"}
        if slot.sizes[1] > ghn.core_shape(slot, None)[1]:
            reasons_of[slot.name] = ADDS_UP
        found |= {name: reasons_of[own.name] for name, own in slots.items() if own.name in reasons_of}
    return found


def balanced(
    graph: Graph, slots: Mapping[str, Slot], cores: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, float]:
    """Dotted name → factor of the parameters to scale.

    Norms that the head reads, through sums and pools and weights without norms, and the biases that it reads without a weight
    in between get one factor together, so that the sum of their mean squares is at most `FEATURES`, and less where the head's
    own weights are so large that logits would have more than `LOGITS` of variance. A weight between norms and head that was
    tiled k times along its input channels is divided by √k: it sums k copies of one value, not k independent ones as fan-in
    scaling has it.

    Args:
        graph: The model's.
        slots: Of what is predicted, by dotted name.
        cores: Likewise what was decoded, before tiling.
        own: Likewise the model's parameters, of which those of the head count; on the meta device they have no values.

    Returns:
        Factors below one; nothing where there is no classification head, or where it reads nothing large.
    """
    scales: dict[str, float] = {}
    norms: dict[str, list[str]] = {primitive: [] for primitive in FEATURES}
    last = _before_head(graph, NORM_PRIMITIVES | WEIGHT_PRIMITIVES)
    for index in _before_head(graph, NORM_PRIMITIVES):
        node = graph.nodes[index]
        if node.primitive == "bias" and index in last:
            norms["bn"] += [slots[name].name for name in node.parameters if name in slots]
        elif node.primitive in NORM_PRIMITIVES:
            norms[node.primitive] += [slots[name].name for name in node.parameters if name in slots]
        elif node.primitive in WEIGHT_PRIMITIVES and node.weight is not None and node.weight in slots:
            name = slots[node.weight].name
            copies = slots[node.weight].sizes[1] / cores[name].shape[1]
            if copies > 1:
                scales[name] = 1 / math.sqrt(copies)
    bearable = _bearable(graph, {name: weight for name, weight in own.items() if name not in slots})
    for primitive, names in norms.items():
        moment = sum(float(cores[name].square().mean()) for name in names)
        largest = min(FEATURES[primitive], bearable)
        if moment > largest:
            scales |= dict.fromkeys(names, math.sqrt(largest / moment))
    return scales


def _bearable(graph: Graph, own: Mapping[str, Tensor]) -> float:
    """Second moment of features that gives no head's logits more than `LOGITS`."""
    found = math.inf
    for node in graph.nodes:
        weight = own.get(node.weight or "")
        classes = 0 if node.shape is None else node.shape[0]
        if node.head and node.primitive in WEIGHT_PRIMITIVES and classes > 1 and weight is not None and not weight.is_meta:
            length = torch.linalg.vector_norm(weight.detach(), dtype=torch.promote_types(weight.dtype, torch.float32))
            energy = (float(length) * node.scale) ** 2 / classes
            if 0 < energy < math.inf:
                found = min(found, max(LOGITS * math.log(classes) / energy, SMALLEST))
    return found


def _before_head(graph: Graph, until: Collection[str]) -> list[int]:
    """Indices of the nodes that lead to a head's weight with no primitive of `until` in between, those at its end included."""
    predecessors: dict[int, list[int]] = {}
    for i, j in graph.edges:
        predecessors.setdefault(j, []).append(i)
    heads = [k for k, node in enumerate(graph.nodes) if node.head and node.primitive in WEIGHT_PRIMITIVES]
    found: set[int] = set()
    stack = [i for head in heads for i in predecessors.get(head, [])]
    while stack:
        index = stack.pop()
        if index not in found and not graph.nodes[index].head:
            found.add(index)
            stack += [] if graph.nodes[index].primitive in until else predecessors.get(index, [])
    return sorted(found)

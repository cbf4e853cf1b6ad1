"""What is known of a prediction without running the network: sizes, shares, primitives, where its graph's embedding lies."""

# Axes: N nodes, D features of a node

from __future__ import annotations

from collections.abc import Mapping
from math import log, log2, prod

from torch import Tensor

from ghn_init.devices import in_float64
from ghn_init.graph import PRIMITIVES, Graph
from ghn_init.hypernetwork.slots import Slot
from ghn_init.tracing.inputs import Inputs

NARROW, SMALL = 64, 32
"""Channels and pixels that count as 0: those of most networks of meta-training."""


def clues(
    graph: Graph, slots: Mapping[str, Slot], cores: Mapping[str, Tensor], elements: int, embeddings: Tensor, pixels: int
) -> dict[str, float]:
    """Numbers by name; logarithms where they are sizes.

    Args:
        graph: The model's.
        slots: Of those parameters that are predicted, by dotted name.
        cores: What was decoded, by the slots' names.
        elements: Of all the model's parameters.
        embeddings: (N, D) of the graph's nodes.
        pixels: The images' larger side.
    """
    filled = sum(prod(slot.shape) for slot in slots.values())
    decoded = sum(core.numel() for core in cores.values())
    weights = [node.shape for node in graph.nodes if node.shape and node.weight and node.primitive != "bias"]
    outputs = [shape[0] for shape in weights if shape[0]] or [NARROW]
    found = {
        "nodes": log(graph.num_nodes),
        "depth": log(1 + max(graph.depths)),
        "weights": log(len(outputs)),
        "elements": log(max(elements, 1)),
        "predicted": filled / max(elements, 1),
        "copies": log(max(filled, 1) / max(decoded, 1)),
        "width": sum(log2(width / NARROW) for width in outputs) / len(outputs),
        "largest width": log2(max(outputs) / NARROW),
        "pixels": log2(pixels / SMALL),
    }
    found |= {f"share of {name}": graph.primitives.get(name, 0) / graph.num_nodes for name in PRIMITIVES}
    return found | {f"embedding {k}": value for k, value in enumerate(in_float64(embeddings).mean(0).tolist())}


def side(inputs: Inputs) -> int | None:
    """The larger side of the first images among the inputs; None where there are none."""
    for value in (*inputs.args, *inputs.kwargs.values()):
        if isinstance(value, Tensor) and value.dim() == 4 and value.is_floating_point():
            return max(value.shape[2:])
    return None

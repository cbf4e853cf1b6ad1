"""Where a model's classification heads are, by their place in its graph: the last weights before an output."""

# Axes: B images, K classes

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ghn_init.errors import HeadError
from ghn_init.graph import WEIGHT_PRIMITIVES, Graph
from ghn_init.tracing.rules import build_graph
from ghn_init.tracing.trace import read_in_eval_mode


@dataclass(frozen=True)
class Head:
    """One layer: dotted names of its weight and of its bias, None where it has none."""

    weight: str
    bias: str | None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Its names."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True)
class Place:
    """An output of the model and the heads whose results add up to it.

    Attributes:
        output: Its number among the tensors that the forward returns in eval mode.
        classes: K.
        heads: Usually one; several where their results are averaged, as in a distilled DeiT.
        last: Number of the call that reads the weight of the last one to run.
        outputs: How many tensors the forward returns.
    """

    output: int
    classes: int
    heads: tuple[Head, ...]
    last: int
    outputs: int

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of all of its heads'."""
        return tuple(name for head in self.heads for name in head.parameters)


def find_heads(model: nn.Module, example_inputs: Any) -> tuple[Place, ...]:
    """Finds the heads of the model's first output, and of others as wide as it.

    Args:
        model: Without wrappers.
        example_inputs: As for `ghn_init.trace`.

    Raises:
        HeadError: The first output is no (B, K) tensor, or no layer makes it.
        TraceError: The forward pass fails on the inputs in eval mode.
    """
    record = read_in_eval_mode(model, example_inputs).record
    first = record.outputs[0].shape
    several = ""
    if len(record.outputs) > 1:
        several = f" The first of its {len(record.outputs)} outputs is what counts: let the forward return its classes first."
    if len(first) != 2:
        raise HeadError(
            f"the first output of {type(model).__name__} is of shape {tuple(first)}; a head can be fitted where it is "
            f"(images, classes).{several}"
        )
    read = {value.name: k for k, call in enumerate(record.calls) for value in call.inputs if value.source == "parameter"}
    places = []
    for number, output in enumerate(record.outputs):
        if output.shape == first:
            heads = _begun(_heads(build_graph(replace(record, outputs=(output,))), first[1]), dict(model.named_parameters()))
            if heads:
                places.append(Place(number, first[1], heads, max(read[head.weight] for head in heads), len(record.outputs)))
    if not places or places[0].output:
        raise HeadError(
            f"{type(model).__name__} has no classification head that was found: no linear layer or convolution of {first[1]} "
            f"outputs is the last thing that is learned before its first output.{several}"
        )
    return tuple(places)


def frozen_beside(places: Sequence[Place], parameters: Mapping[str, nn.Parameter]) -> list[Place]:
    """Further outputs whose heads are frozen as a whole while other parameters are trainable: a teacher's beside its student's.

    The first output is the user's: a frozen head with a frozen body and a fitted head is a linear probe.
    """
    if not any(parameter.requires_grad for parameter in parameters.values()):
        return []
    return [place for place in places if place.output and not any(parameters[name].requires_grad for name in place.parameters)]


def _begun(heads: tuple[Head, ...], parameters: Mapping[str, nn.Parameter]) -> tuple[Head, ...]:
    """Without those that are all zero beside others that aren't: an adapter's on the head (LoRA's B), which starts there."""
    begun = tuple(head for head in heads if any(bool(parameters[name].any()) for name in head.parameters))
    return begun or heads


def _heads(graph: Graph, classes: int) -> tuple[Head, ...]:
    """Heads that have an output for each class; none where some make only a part of it."""
    weights = [k for k, node in enumerate(graph.nodes) if node.head and node.primitive in WEIGHT_PRIMITIVES]
    if any((graph.nodes[k].shape or (0,))[0] != classes for k in weights):
        return ()
    biases = {i: graph.nodes[j].weight for i, j in graph.edges if graph.nodes[j].head and graph.nodes[j].primitive == "bias"}
    return tuple(Head(weight, biases.get(k)) for k in weights if (weight := graph.nodes[k].weight) is not None)

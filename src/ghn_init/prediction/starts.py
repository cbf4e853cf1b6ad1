"""Layers whose weights start as something on purpose: as nothing or next to it, the identity, one number, logarithms, gains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from torch import Tensor

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Graph, Node

ZERO = "it starts at zero, so that its layer adds nothing at first (a zero convolution, LoRA's B)"
NEAR_ZERO = "it starts so near to zero that its layer adds next to nothing at first (a near-identity adapter)"
UNMIXED = "it starts by passing channels on one by one, all by the same kernel (the identity, an upsampling)"
BESIDE = "the weight of its layer starts as nothing or mixes no channels, so that it sets what the layer gives at first"
SAME = "its values are all the same, as those of scales and masks are, and of no layer's weight"
OFF_CENTRE = (
    "the model computes the layer's weight from it, and its values lie around another number than zero (a log deviation)"
)
GAINS = "its values lie around a number that is not zero, as gains of a conditional norm do"
NEAR = 0.01
"""Times 1/√fan_in: usual inits have 0.5 at least, and GPT-2's fixed 0.02 has 0.08 in a network as narrow as 16."""
SMALL, LEAST = 0.005, 16
"""A fixed deviation of 0.01 or 0.02 is no purpose either, however few the inputs; of few elements it may come out smaller."""
FIRST = 1000
"""Elements that mostly tell, and cost less than all."""
OFF = 3.0
"""Standard deviations of the values that their mean is away from zero."""
FEW, ROWS = 4, 64
"""How many rows of an embedding say something of its columns, and are enough."""


def starts(graph: Graph, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Weights of layers that start as something on purpose, with the biases of such layers, by dotted name → why; no heads.

    What all layers do is no purpose of one: a model that was never initialised is zero, some inits make all layers identities,
    or most of them as small as next to nothing. Nor is it one to be small before a norm, which makes up for it.
    """
    layers = {
        index: (node.weight, why_special(node, parameters[node.weight]))
        for index, node in enumerate(graph.nodes)
        if node.weight is not None and _is_layer(graph, index, node) and not parameters[node.weight].is_meta
    }
    body = {index: found for index, found in layers.items() if not (graph.nodes[index].head or graph.nodes[index].side_head)}
    reasons = [why for _, why in body.values()]
    if all(why for _, why in layers.values()) or _is_init_of_all(reasons):
        return {}
    followers: dict[int, list[int]] = {}
    for start, end in graph.edges if any(reasons) else ():
        followers.setdefault(start, []).append(end)
    few = 2 * reasons.count(NEAR_ZERO) <= len(reasons)
    found = {}
    for index, (name, why) in body.items():
        if why is None or (why == NEAR_ZERO and (not few or _meets_norm(graph, followers, index))):
            continue
        found[name] = why
        for end in followers.get(index, ()) if why in (ZERO, NEAR_ZERO, UNMIXED) else ():
            bias = graph.nodes[end].weight if graph.nodes[end].primitive == "bias" else None
            if bias is not None:
                found[bias] = ZERO if _is_zero(parameters[bias]) else BESIDE
    return found


def _is_init_of_all(reasons: Sequence[str | None]) -> bool:
    """Whether all layers, heads left aside, start as the same thing, but for zero: one zero convolution may be all there is."""
    same = len(set(reasons)) == 1 and reasons[0] not in (None, ZERO)
    return same and (len(reasons) > 1 or reasons[0] == UNMIXED)


def _meets_norm(graph: Graph, followers: Mapping[int, Sequence[int]], index: int) -> bool:
    """Whether a norm follows a layer, with or without a bias in between."""
    ends = list(followers.get(index, ()))
    ends += [after for end in ends if graph.nodes[end].primitive == "bias" for after in followers.get(end, ())]
    return any(graph.nodes[end].primitive in NORM_PRIMITIVES for end in ends)


def why_special(node: Node, parameter: Tensor) -> str | None:
    """What a layer's weight starts as, if it is nothing that an init for layers gives."""
    if parameter.numel() == 0:
        return None
    if _is_zero(parameter):
        return ZERO
    value = parameter.detach()
    if not value.is_floating_point():
        return None
    if node.primitive not in WEIGHT_PRIMITIVES:
        return GAINS if _has_gains(value) else None
    return next(_others(node, value), None)


def _others(node: Node, value: Tensor) -> Iterator[str]:
    first = value[(0,) * value.dim()]
    if value.numel() > 1 and value.reshape(-1)[-1] == first and bool((value == first).all()):
        yield SAME
    if node.stack is None and is_unmixed(value):
        yield UNMIXED
    if node.computed:
        if _is_off_centre(value.flatten()[:FIRST]) and _is_off_centre(value):
            yield OFF_CENTRE
    elif value.numel() >= LEAST:
        limit = min(SMALL**2, NEAR**2 / prod((node.shape or (1,))[1:])) / node.scale**2
        if _square(value[0]) < limit and _square(value) < limit:
            yield NEAR_ZERO


def is_unmixed(weight: Tensor) -> bool:
    """Whether each channel goes into a channel of its own, by one kernel for all: (O, I, …) with at most one I for each O.

    So are `eye_` and `dirac_` of any shape, scaled or in groups, permutations, and bilinear kernels of upsampling convolutions.
    """
    if weight.dim() < 2 or int(weight[0].flatten(1).any(1).sum() if weight.dim() > 2 else weight[0].count_nonzero()) > 1:
        return False  # mostly told by the first channel
    kernels = weight.flatten(2) if weight.dim() > 2 else weight[..., None]
    passed = kernels.any(2)
    if bool((passed.sum(1) > 1).any()) or not bool(passed.any()) or (int(passed.sum()) == 1 and bool(weight.all())):
        return False
    used = kernels[passed]
    return bool((used == used[0]).all())


def _has_gains(table: Tensor) -> bool:
    """Whether a quarter of an embedding's columns, in its first rows, is around another number than zero (BigGAN's norms)."""
    rows = table[:ROWS].float()
    if rows.dim() != 2 or len(rows) < FEW:
        return False
    columns = rows.mean(0).abs() > OFF * rows.std(0)
    return float(columns.float().mean()) >= 0.25


def _is_off_centre(value: Tensor) -> bool:
    return value.numel() > 1 and bool(value.float().mean().abs() > OFF * value.float().std())


def _square(value: Tensor) -> float:
    return float(value.float().square().mean())


def _is_layer(graph: Graph, index: int, node: Node) -> bool:
    """A layer's weight, or a table in which tokens are looked up; positions that are added don't make a layer."""
    return node.primitive in WEIGHT_PRIMITIVES or (node.primitive == "pos_enc" and bool((graph.edge_index[1] == index).any()))


def _is_zero(parameter: Tensor) -> bool:
    if parameter.is_meta or parameter.numel() == 0:
        return False
    value = parameter.detach()
    return not bool(value[(0,) * value.dim()]) and not bool(value.any())  # one element mostly tells, and costs less

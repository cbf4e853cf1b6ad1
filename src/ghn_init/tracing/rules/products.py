"""Products of streams, parameters and constants: gates, scales, masks, the weights of norms written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from math import prod

from ghn_init.graph import WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import FACTOR, FUNCTION, MASKED, Factors, Flow, GraphBuilder, as_stream, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import main_parameter, unexpanded
from ghn_init.tracing.rules.reasons import COMPUTED_WEIGHT, OFFSET, QUERY, REPARAMETRISES, SCALE
from ghn_init.tracing.rules.registry import argument, rule


@rule("mul", "multiply")
def _mul(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    if not any(flow.data for flow in flows):
        b.contract(call)
        constants = [value for value in (argument(call, 0), argument(call, 1, "other")) if not _has_parameters(b, value)]
        return b.assign(call.outputs, times(b, call, flows, values, constants))
    flows = [as_stream(flow) for flow in flows]
    streams = [flow for flow in flows if flow.data]
    if len(streams) == 2:
        return b.assign(call.outputs, gate(b, values, flows))
    if len(streams) == 1 and len(values) == 2:
        x = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            result = scale_by_parameter(b, x, parameter)
            stream = values[1] if parameter is values[0] else values[0]
            names = b.flow(parameter).params
            mixed = names if prod(call.outputs[0].shape) > prod(stream.shape) else ()
            factors = Factors(call.outputs[0], stream, parameter) if b.node_of.keys().isdisjoint(names) else None
            return b.assign(call.outputs, replace(result, mixed=mixed or result.mixed, factors=factors))
    b.contract(call)
    if len(streams) == 1:
        constant = values[0] if len(values) == 2 and flows[1].data else argument(call, 1, "other")
        b.assign(call.outputs, stream_times(b, streams[0], b.flow(call.outputs[0]), constant))


def stream_times(b: GraphBuilder, x: Flow, result: Flow, constant: object, inverse: bool = False) -> Flow:
    """A stream that is multiplied with a constant, or divided by it.

    Where it comes from a layer, its node notes the product of the constants behind it, if that is the same for all who see it.
    """
    result = replace(result, gain=x.gain)
    if isinstance(constant, Value) and prod(constant.shape) != 1:
        return result
    number = constant.number if isinstance(constant, Value) else constant
    factor = float(number) if isinstance(number, int | float) and number else math.nan
    factor = (1 / factor if inverse else factor) * (1.0 if x.rescaled is None else x.rescaled)
    for index in layer_of(b, x):
        known = b.nodes[index].factor
        same = known in (None, factor) or known == x.rescaled  # else others see another product
        b.nodes[index] = replace(b.nodes[index], rescaled=True, factor=factor if same else math.nan)
    return replace(result, rescaled=factor)


def layer_of(b: GraphBuilder, x: Flow) -> set[int]:
    """The layer whose result a stream is, with or without its bias, if it is one's alone."""
    nodes = x.nodes
    if len(nodes) == 1 and b.nodes[next(iter(nodes))].primitive == "bias":
        nodes = frozenset(b.preds[next(iter(nodes))])
    return {index for index in nodes if b.nodes[index].primitive in WEIGHT_PRIMITIVES} if len(nodes) == 1 else set()


def _has_parameters(b: GraphBuilder, value: object) -> bool:
    return isinstance(value, Value) and bool(b.flow(value).params)


def times(b: GraphBuilder, call: Call, flows: list[Flow], values: list[Value], constants: list[object]) -> Flow:
    """A product of parameters and constants: a weight with a scale or a mask, an outer product, a norm of learned queries."""
    result = b.flow(call.outputs[0])
    if not result.params:
        return result
    if constants:
        x = flows[0] if flows[0].params else flows[-1]
        return parts_times(b, call, x, constants[0]) or constant_times(result, x.scale, constants[0], inverse=False)
    for x, parameter in ((flows[0], values[-1]), (flows[-1], values[0])):
        if x.normalised and is_vector(b, parameter) and set(x.params) != set(b.flow(parameter).params):
            return replace(result, normalised=False, stream=partial(norm_of_constants, b, x, parameter))
    shared = set(flows[0].params) & set(flows[-1].params)
    if shared and any(flow.deviation for flow in flows):
        return replace(result, deviation=False, normalised=True)
    if not any(_sets(b, value, prod(call.outputs[0].shape)) for value in values):
        return replace(result, lost=True).ranked(FACTOR)
    return result


def _sets(b: GraphBuilder, value: Value, size: int) -> bool:
    """Whether a factor is the weight that the other one scales: of the product's size, and no vector that was repeated."""
    shapes = [b.shapes[name] for name in b.flow(value).params]
    matrix = any(sum(axis > 1 for axis in shape) > 1 for shape in shapes)
    return prod(value.shape) == size and (matrix or sum(map(prod, shapes)) >= size)


def is_vector(b: GraphBuilder, value: Value) -> bool:
    """Whether a value is a parameter with one axis, as weights of norms are."""
    flow = b.flow(value)
    return len(flow.params) == 1 and not flow.data and sum(size > 1 for size in value.shape) == 1


def norm_of_constants(b: GraphBuilder, x: Flow, weight: Value) -> Flow:
    """A norm of learned queries, written out by hand."""
    b.keep(x.params, QUERY)
    return scale_by_parameter(b, Flow(data=True, nodes=x.nodes, normalised=True), weight)


def constant_times(result: Flow, scale: float | None, constant: object, inverse: bool) -> Flow:
    """A parameter that is multiplied with a constant, or divided by it.

    Args:
        result: The product, so far.
        scale: What the parameter was multiplied with before.
        constant: A number, or the value of a tensor.
        inverse: It is the divisor.
    """
    if isinstance(constant, Value) and prod(constant.shape) != 1:
        return result.ranked(MASKED)
    number = constant.number if isinstance(constant, Value) else constant
    if len(result.params) != 1 or result.rank(result.params[0]):
        return result
    if not isinstance(number, int | float) or scale is None:
        return replace(result, scale=None)
    if not (math.isfinite(number) and number):
        return result
    return replace(result, scale=scale / number if inverse else scale * number)


def parts_times(b: GraphBuilder, call: Call, x: Flow, constant: object, inverse: bool = False) -> Flow | None:
    """A concatenation of parameters times a constant, or divided by it: so is each part. None of what is no concatenation."""
    if sum(prod(part.shape) for part in x.parts) != prod(call.outputs[0].shape):
        return None
    parts = []
    for part in x.parts:
        flow = b.flow(part)
        parts.append(Value(part.shape, "call"))
        b.assign(parts[-1:], constant_times(flow, flow.scale, constant, inverse) if flow.params else flow)
    return replace(x, parts=tuple(parts))


def gate(b: GraphBuilder, values: list[Value], flows: list[Flow]) -> Flow:
    """stream × stream: a gate, unless one is the other's deviation, or was given with the inputs."""
    if any(flow.deviation for flow in flows):
        return normalised(b, union(flows), values, flows)
    # Published graphs contract the averaging inside a gate (16 of EfficientNet-B0's 17) and keep the one before the classifier.
    # Inside is what the smaller factor, which is repeated over space, has gone through and the larger one has not.
    sizes = [prod(value.shape) for value in values]
    if sizes[0] != sizes[1]:
        small, large = (0, 1) if sizes[0] < sizes[1] else (1, 0)
        if flows[small].nodes <= {0} and not flows[large].nodes <= {0}:
            return flows[large]  # a mask, or weights of edges: given, and not computed
        inside = b.ancestors(flows[small].nodes) - b.ancestors(flows[large].nodes)
        b.contracted |= {i for i in inside if b.nodes[i].primitive == "glob_avg"}
    return replace(b.merge("cse", flows), softmax=False)


def normalised(b: GraphBuilder, x: Flow, values: list[Value], flows: list[Flow]) -> Flow:
    """A stream that was divided by its deviation; a parameter that scaled either of them before is the norm's weight."""
    for value, flow in zip(values, flows, strict=True):
        if flow.rescaled is not None and not flow.deviation and len(flow.nodes) == 1 and b.uses(value) == 2:
            # The deviation and this division are all that see the constant, and it cancels out (SwiftFormer's attention).
            for index in layer_of(b, flow):
                b.nodes[index] = replace(b.nodes[index], rescaled=False, factor=None)
    inside = [flow.inside for flow in flows if flow.deviation]
    gains = [flow.gain for flow in flows if flow.gain is not None and flow.gain not in inside]
    x = replace(x, deviation=False, normalised=True, batch=any(flow.batch for flow in flows), gain=None, inside=None)
    return scale_by_parameter(b, x, gains[0]) if gains else x


def _is_gain_of_heads(b: GraphBuilder, name: str, value: Value) -> bool:
    """Whether a norm's weight has an axis of heads before that of the channels."""
    sizes = [size for size in value.shape if size > 1]
    return len(sizes) == 2 and value.shape[-1] > 1 and prod(sizes) == prod(b.shapes[name])


def scale_by_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream × parameter: the affine part of a norm written out by hand, or a scale that has no primitive."""
    value = unexpanded(b, value)
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape) or (flow.params[0] if len(flow.params) == 1 else None)
    vector = name is not None and sum(size > 1 for size in value.shape) == 1
    if x.normalised and flow.offset:
        b.keep(flow.params, OFFSET)
    elif x.normalised and name is not None and flow.rank(name) >= FUNCTION:
        b.keep(flow.params, COMPUTED_WEIGHT)
    elif x.normalised and name is not None and (vector or _is_gain_of_heads(b, name, value)):
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        return b.add(Node("bn" if x.batch else "ln", tuple(b.shapes[name]), name), x.nodes)
    b.keep(flow.params, SCALE)
    # Where the stream is divided by its deviation only later, `g * (z - mean) / std`, this will have been the norm's weight.
    return replace(x, normalised=False, gain=value if vector and not flow.offset and not x.normalised else None)

"""Norms: one node for weight and bias together."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.graph import Node
from ghn_init.tracing.flow import Flow, GraphBuilder, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import b_numel, main_parameter
from ghn_init.tracing.rules.reasons import REPARAMETRISES
from ghn_init.tracing.rules.registry import argument, rule


def normalise(b: GraphBuilder, x: Flow, weight: Value | None, bias: Value | None, primitive: str) -> Flow:
    """A norm: one node for weight and bias together; a norm without parameters is contracted.

    Args:
        b: The graph that grows.
        x: What is normalised.
        weight: (channels,), or None.
        bias: (channels,), or None.
        primitive: 'bn' where running statistics are kept, else 'ln'.

    Returns:
        What the result holds.
    """
    if not x.data:  # weight standardisation written as a norm of the weight
        return union([x, b.flow(weight), b.flow(bias)])
    names = []
    for value in (weight, bias):
        flow = b.flow(value)
        name = main_parameter(b, flow, value.shape) if value is not None else None
        if value is not None and name is None:
            # Repeated over the batch, as instance norm does.
            name = next((p for p in flow.params if value.shape and value.shape[0] % b_numel(b, p) == 0), None)
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        names.append(name)
    name = names[0] or names[1]
    if name is None:  # a weight and a bias may follow by hand
        return replace(x, softmax=False, product=False, normalised=primitive == "ln")
    return b.add(Node(primitive, tuple(b.shapes[name]), names[0], names[1]), x.nodes)


def _normalise(b: GraphBuilder, call: Call, weight: Value | None, bias: Value | None, primitive: str) -> None:
    b.assign(call.outputs, normalise(b, b.flow(call.args[0]), weight, bias, primitive))


@rule("batch_norm", "instance_norm", "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit")
def _batch_norm(b: GraphBuilder, call: Call) -> None:
    _normalise(b, call, argument(call, 1, "weight"), argument(call, 2, "bias"), "bn")


@rule("layer_norm", "native_layer_norm", "group_norm")
def _layer_norm(b: GraphBuilder, call: Call) -> None:
    _normalise(b, call, argument(call, 2, "weight"), argument(call, 3, "bias"), "ln")


@rule("rms_norm", "_fused_rms_norm")
def _rms_norm(b: GraphBuilder, call: Call) -> None:
    _normalise(b, call, argument(call, 2, "weight"), None, "ln")


@rule("native_group_norm")
def _native_group_norm(b: GraphBuilder, call: Call) -> None:
    _normalise(b, call, argument(call, 1, "weight"), argument(call, 2, "bias"), "ln")


@rule("sqrt", "rsqrt", "std")
def _deviation(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, deviation=flow.data))


@rule("div", "true_divide")
def _div(b: GraphBuilder, call: Call) -> None:
    divisor = argument(call, 1, "other")
    b.contract(call)
    if isinstance(divisor, Value) and b.flow(divisor).deviation:
        flow = b.flow(call.outputs[0])
        b.assign(call.outputs, replace(flow, deviation=False, normalised=flow.data))

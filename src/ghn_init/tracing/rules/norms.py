"""Norms: one node for weight and bias together."""

from __future__ import annotations

from dataclasses import replace

from ghn_init.graph import Node
from ghn_init.tracing.flow import CONSTANT, FUNCTION, Flow, GraphBuilder, as_stream, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import b_numel, main_parameter
from ghn_init.tracing.rules.products import constant_times, is_vector, normalised, parts_times, stream_times
from ghn_init.tracing.rules.reasons import COMPUTED_WEIGHT, QUERY, REPARAMETRISES
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
    if not x.data:  # weight standardisation written as a norm of the weight, or else a norm of learned queries
        together = union([x, b.flow(weight), b.flow(bias)])
        if not x.params or (weight is None and bias is None):
            return together

        def of_constants() -> Flow:
            before = as_stream(x)
            b.keep(before.params, QUERY)
            return normalise(b, Flow(data=True, nodes=before.nodes), weight, bias, primitive)

        return replace(together, stream=of_constants)
    names = []
    for value in (weight, bias):
        flow = b.flow(value)
        name = main_parameter(b, flow, value.shape) if value is not None else None
        if value is not None and name is None:
            # Repeated over the batch, as instance norm does.
            name = next((p for p in flow.params if value.shape and value.shape[0] % b_numel(b, p) == 0), None)
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        if value is weight and name is not None and flow.rank(name) >= FUNCTION:
            b.keep([name], COMPUTED_WEIGHT)
            name = None
        names.append(name)
    name = names[0] or names[1]
    if name is None:  # a weight and a bias may follow by hand
        return replace(x, softmax=False, product=False, normalised=True, batch=primitive == "bn")
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


@rule("var", "std", "norm", "linalg_vector_norm", "linalg_norm", "frobenius_norm")
def _statistic(b: GraphBuilder, call: Call) -> None:
    """Statistics of a stream; a variance becomes a deviation by its root."""
    b.contract(call)
    flow = b.flow(call.outputs[0])
    root = not call.op.startswith("var")
    b.assign(call.outputs, replace(flow, deviation=root and held(flow), batch=over_examples(call), inside=flow.gain, gain=None))


@rule("var_mean", "std_mean")
def _statistics(b: GraphBuilder, call: Call) -> None:
    _statistic(b, call)
    b.assign(call.outputs[1:], replace(b.flow(call.outputs[1]), deviation=False, batch=False))


def over_examples(call: Call) -> bool:
    """Whether a reduction goes over the examples of the batch and places, as batch norms do, and leaves channels."""
    lists = [argument for argument in (*call.args[1:], *call.kwargs.values()) if isinstance(argument, list | tuple)]
    return any(0 in axes and len(axes) > 1 for axes in lists)


def held(flow: Flow) -> bool:
    """Whether there is anything in it: the deviation of constants is a constant."""
    return flow.data or bool(flow.params)


@rule("sqrt", "rsqrt")
def _deviation(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    _take_root(b, call)


def _take_root(b: GraphBuilder, call: Call) -> None:
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, deviation=held(flow), inside=flow.gain or flow.inside, gain=None))


@rule("pow")
def _pow(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    exponent = argument(call, 1, "exponent")
    if exponent in (0.5, -0.5):
        _take_root(b, call)


@rule("div", "true_divide", "divide")
def _div(b: GraphBuilder, call: Call) -> None:
    dividend, divisor = call.args[0], argument(call, 1, "other")
    x, y = (b.flow(value) if isinstance(value, Value) else CONSTANT for value in (dividend, divisor))
    if (x.data or y.data) and y.deviation and (x.params and is_vector(b, dividend)):
        return b.assign(call.outputs, replace(y, gain=dividend))  # `z * (g / std)`
    b.contract(call)
    flow = b.flow(call.outputs[0])
    if y.deviation and x.data and y.data:
        return b.assign(call.outputs, normalised(b, flow, [dividend, divisor], [x, y]))
    if y.deviation and x.params:
        return b.assign(call.outputs, replace(flow, deviation=False, normalised=held(flow)))
    if x.params and not x.data and not (y.params or y.data):
        result = parts_times(b, call, x, divisor, inverse=True) or constant_times(flow, x.scale, divisor, inverse=True)
        b.assign(call.outputs, result)
    elif x.data and not (y.params or y.data):
        b.assign(call.outputs, stream_times(b, x, flow, divisor, inverse=True))

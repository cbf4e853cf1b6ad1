"""Linear layers, convolutions, recurrent cells, embeddings: x → weight → bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ghn_init.graph import WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import UNKNOWN, Flow, GraphBuilder, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import b_numel, layout, main_parameter
from ghn_init.tracing.rules.reasons import MIXED_KERNEL, POSITION_TABLE, QUERY, REPARAMETRISES, SHIFT
from ghn_init.tracing.rules.registry import argument, rule


def apply_weight(
    b: GraphBuilder,
    x: Flow,
    weight: Value,
    bias: Value | None,
    primitive: str,
    *,
    stored_flipped: bool = False,
) -> Flow:
    """A layer with a weight, x → weight → bias.

    The weight may be computed from several parameters (weight norm, standardisation, slices of a packed one): the one of its
    size gets the node, the others keep their values, and where none fits all do, with their reason.

    Args:
        b: The graph that grows.
        x: What the layer is applied to.
        weight: (out, in) or (out, in / groups, …), at least two axes.
        bias: (out,), or None.
        primitive: 'conv' also for linear layers, 'sep_conv', 'dil_conv'.
        stored_flipped: The operator takes the weight input channels first, (in, out), as in `x @ weight`.

    Returns:
        What the layer's result holds.
    """
    w = b.flow(weight)
    name = main_parameter(b, w, weight.shape)
    b.keep(x.params, QUERY)
    if name is None:
        b.keep(w.params, UNKNOWN.format("convolution" if len(weight.shape) > 2 else "linear"))
        # `attention(x) @ kernels` made the kernel: the product looked like a linear layer whose weight is a list of kernels.
        for index in w.nodes if len(weight.shape) > 2 else ():
            if b.nodes[index].primitive in WEIGHT_PRIMITIVES:
                mixed = b.nodes[index].weight
                b.contracted.add(index)
                b.keep([mixed] if mixed else [], MIXED_KERNEL)
        result = union([replace(x, params=(), data=True), replace(w, params=(), data=True)])
    else:
        b.keep((other for other in w.params if other != name), REPARAMETRISES.format(name))
        flipped = w.flipped != stored_flipped
        shape = layout(b.shapes[name], weight.shape, flipped)
        result = b.add(Node(primitive, shape, name, transposed=flipped), x.nodes)
    return result if bias is None else apply_bias(b, result, bias)


def apply_bias(b: GraphBuilder, x: Flow, bias: Value) -> Flow:
    """The bias of a layer, after the layer's weight.

    Args:
        b: The graph that grows.
        x: What the layer's weight gave.
        bias: (out,).

    Returns:
        What the layer's result holds.
    """
    flow = b.flow(bias)
    name = main_parameter(b, flow, bias.shape)
    if name is not None:
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        return b.add(Node("bias", (b_numel(b, name),), name), x.nodes)
    if flow.params and not flow.data and all(len(b.shapes[p]) == 1 for p in flow.params):
        # Concatenated from several, as where queries and values have a bias and keys have none.
        return union([b.add(Node("bias", tuple(b.shapes[p]), p), x.nodes) for p in flow.params])
    b.keep(flow.params, SHIFT)
    return union([x, replace(flow, params=())])


@rule("linear")
def _linear(b: GraphBuilder, call: Call) -> None:
    x = b.flow(call.args[0])
    b.assign(call.outputs, apply_weight(b, x, call.args[1], argument(call, 2, "bias"), "conv"))


@rule("mm", "bmm", "matmul", "dot", "mv")
def _matmul(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, product(b, call, call.args[0], call.args[1]))


def product(b: GraphBuilder, call: Call, left: Value, right: Value) -> Flow:
    """A matrix product: a linear layer's, an attention's, or one of two streams."""
    x, y = b.flow(left), b.flow(right)
    if (x.gathered or y.gathered) and x.data != y.data:
        b.keep(x.params + y.params, POSITION_TABLE)
        return union([x, y])
    if x.data and y.data:
        if x.softmax or y.softmax:
            return b.add(Node("msa"), x.nodes | y.nodes)
        return replace(union([x, y]), product=True)
    if (x.data and y.params) or (not x.params and y.params and len(right.shape) == 2):
        if len(right.shape) >= 2:
            return apply_weight(b, x, right, None, "conv", stored_flipped=True)  # `x @ w`: w is (in, out)
    elif y.data and x.params and len(left.shape) >= 2:
        return apply_weight(b, y, left, None, "conv")
    if x.data or y.data:
        b.keep(x.params + y.params, UNKNOWN.format(call.op))
    return union([x, y])


@rule("conv1d", "conv2d", "conv3d")
def _convolution(b: GraphBuilder, call: Call) -> None:
    dilation, groups = argument(call, 5, "dilation", 1), argument(call, 6, "groups", 1)
    _convolve(b, call, dilation, groups, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution_transposed(b: GraphBuilder, call: Call) -> None:
    groups, dilation = argument(call, 6, "groups", 1), argument(call, 7, "dilation", 1)
    _convolve(b, call, dilation, groups, transposed=True)


@rule("convolution", "_convolution")
def _general_convolution(b: GraphBuilder, call: Call) -> None:
    dilation, transposed, groups = argument(call, 5), argument(call, 6), argument(call, 8)
    _convolve(b, call, dilation, groups, transposed)


def _convolve(b: GraphBuilder, call: Call, dilation: Any, groups: int, transposed: bool) -> None:
    x, weight, bias = b.flow(call.args[0]), call.args[1], argument(call, 2, "bias")
    b.assign(call.outputs, convolve(b, x, weight, bias, dilation=dilation, groups=groups, transposed=transposed))


def convolve(
    b: GraphBuilder,
    x: Flow,
    weight: Value,
    bias: Value | None = None,
    *,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    transposed: bool = False,
) -> Flow:
    """A convolution: `sep_conv` where it is grouped, `dil_conv` where it is dilated in every axis as well, else `conv`.

    Args:
        b: The graph that grows.
        x: What is convolved.
        weight: (out, in / groups, …); transposed ones (in, out / groups, …).
        bias: (out,), or None.
        dilation: One for all spatial axes, or one each.
        groups: How many.
        transposed: It is a transposed convolution.

    Returns:
        What the result holds.
    """
    least = dilation if isinstance(dilation, int) else min(dilation)
    primitive = "conv" if groups == 1 else "dil_conv" if least > 1 else "sep_conv"
    # Grouped transposed weights, (in, out / groups, …), can't be turned: they are predicted as they are stored.
    return apply_weight(b, x, weight, bias, primitive, stored_flipped=transposed and groups == 1)


@rule("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent(b: GraphBuilder, call: Call) -> None:
    """Each direction of each layer: x → input weight → bias → recurrent weight → bias; directions are concatenated."""
    if isinstance(call.args[3], list | tuple):  # packed sequence: (data, batch sizes, state, parameters, …)
        params, has_biases, layers, bidirectional = (*call.args[3:6], call.args[8])
    else:
        params, has_biases, layers, bidirectional = (*call.args[2:5], call.args[7])
    directions = 2 if bidirectional else 1
    per_direction = len(params) // (layers * directions)
    flow, params = b.flow(call.args[0]), list(params)
    for _ in range(layers):
        ends = []
        for _ in range(directions):
            weights, params = params[:per_direction], params[per_direction:]
            ends.append(cell(b, flow, weights, has_biases))
        flow = b.merge("concat", ends)
    b.assign(call.outputs, flow)


@rule("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _recurrent_cell(b: GraphBuilder, call: Call) -> None:
    state = call.args[1] if isinstance(call.args[1], list | tuple) else [call.args[1]]
    flow = union([b.flow(call.args[0]), *(b.flow(value) for value in state)])
    weights = [value for value in call.args[2:] if isinstance(value, Value)]
    b.assign(call.outputs, cell(b, flow, weights, has_biases=len(weights) > 2))


def cell(b: GraphBuilder, x: Flow, weights: list[Value], has_biases: bool) -> Flow:
    """Parameters of one recurrent cell in PyTorch's order: w_ih, w_hh, b_ih, b_hh, and w_hr of a projected LSTM."""
    biases = weights[2:4] if has_biases else [None, None]
    for weight, bias in zip(weights[:2], biases, strict=True):
        x = apply_weight(b, x, weight, bias, "conv")
    for projection in weights[4 if has_biases else 2 :]:
        x = apply_weight(b, x, projection, None, "conv")
    return x


@rule("embedding_renorm")
def _embedding_renorm(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.flow(call.args[0]))  # which rows are long is looked up by the input, but all stay a table's


@rule("embedding", "embedding_bag")
def _embedding(b: GraphBuilder, call: Call) -> None:
    table, index = call.args[:2]
    name = main_parameter(b, b.flow(table), table.shape)
    if name is None:
        return b.contract(call)
    flow = b.add(Node("pos_enc", tuple(b.shapes[name]), name), b.flow(index).nodes)
    b.assign(call.outputs, flow)

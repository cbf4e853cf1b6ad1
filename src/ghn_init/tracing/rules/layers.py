"""Linear layers, convolutions, recurrent cells, embeddings: x → weight → bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ghn_init.graph import WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import FACTOR, FUNCTION, UNKNOWN, Flow, GraphBuilder, as_stream, union
from ghn_init.tracing.record import Call, Value
from ghn_init.tracing.rules.parameters import b_numel, bias_of_slices, inputs_first, layout, main_parameter, stack_in
from ghn_init.tracing.rules.reasons import (
    COMPUTED_SHIFT,
    MIXED_KERNEL,
    POSITION_TABLE,
    PRODUCT,
    QUERY,
    REPARAMETRISES,
    SHIFT,
    UNKNOWN_SCALE,
)
from ghn_init.tracing.rules.registry import argument, rule


def apply_weight(
    b: GraphBuilder,
    x: Flow,
    weight: Value,
    bias: Value | None,
    primitive: str,
    *,
    stored_flipped: bool = False,
    batched: bool = False,
) -> Flow:
    """A layer with a weight, x → weight → bias.

    The weight may be computed from several parameters (weight norm, standardisation, slices of a packed one): the one of its
    size gets the node, the others keep their values, and where none fits all do, with their reason. A parameter that is a
    stack of weights (experts, heads) has one node, of the shape of one of them; the parts of a concatenation have one each.

    Args:
        b: The graph that grows.
        x: What the layer is applied to.
        weight: (out, in) or (out, in / groups, …), at least two axes.
        bias: (out,), or None.
        primitive: 'conv' also for linear layers, 'sep_conv', 'dil_conv'.
        stored_flipped: The operator takes the weight input channels first, (in, out), as in `x @ weight`.
        batched: The last two axes are the matrix, those before them a batch, as in `bmm`.

    Returns:
        What the layer's result holds.
    """
    w = b.flow(weight)
    x = as_stream(x)
    b.keep(x.params, QUERY)
    flipped = w.flipped != stored_flipped
    stack = stack_in(b, w, weight.shape, stored_flipped, batched or len(weight.shape) == 2)
    name = w.of if stack is not None else main_parameter(b, w, weight.shape)
    if w.parts:
        first, before = flipped if stack is None else inputs_first(stack), replace(x, nodes=x.nodes | w.nodes)
        parts = held_parts(b, w)
        result = union(
            [apply_weight(b, before, part, None, primitive, stored_flipped=first, batched=batched) for part in parts]
        )
    elif name is None:
        result = _keep_weight(
            b, x, w, weight.shape, "matmul" if batched else "linear" if len(weight.shape) == 2 else "convolution"
        )
    elif w.scale is None:
        b.keep(w.params, UNKNOWN_SCALE)
        result = replace(union([x, w]), data=True, params=())
    else:
        b.keep((other for other in w.params if other != name), REPARAMETRISES.format(name))
        shape = stack.shape if stack is not None else layout(b.shapes[name], weight.shape, flipped)
        node = Node(
            primitive,
            shape,
            name,
            transposed=flipped and stack is None,
            stack=stack,
            scale=w.scale if len(w.params) == 1 else 1.0,
            rescaled=x.rescaled is not None,
            computed=w.rank(name) >= FUNCTION,
        )
        result = b.add(node, x.nodes | w.nodes)
    return result if bias is None else apply_bias(b, result, bias)


def _keep_weight(b: GraphBuilder, x: Flow, w: Flow, shape: tuple[int, ...], operation: str) -> Flow:
    """A layer whose weight is no parameter: what the weight was made from keeps its values."""
    b.keep((param for param in w.params if w.rank(param) >= FACTOR), PRODUCT)
    b.keep(w.params, UNKNOWN.format(operation))
    b.kept |= dict.fromkeys(w.mixed, MIXED_KERNEL)  # it looked like a scale of the stream that scales it
    # `attention(x) @ kernels` made the kernel: the product looked like a linear layer whose weight is a list of kernels.
    for index in w.nodes if len(shape) > 2 and not w.mixed else ():
        if b.nodes[index].primitive in WEIGHT_PRIMITIVES:
            mixed = b.nodes[index].weight
            b.contracted.add(index)
            b.keep([mixed] if mixed else [], MIXED_KERNEL)
    return union([replace(x, params=(), data=True), replace(w, params=(), data=True)])


def held_parts(b: GraphBuilder, w: Flow) -> list[Value]:
    """Parts of a concatenation that come from parameters."""
    return [part for part in w.parts if b.flow(part).params]


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
    if flow.parts and not flow.data:  # as where queries and values have a bias and keys have none
        return union([apply_bias(b, x, part) for part in held_parts(b, flow)])
    name = main_parameter(b, flow, bias.shape) or bias_of_slices(b, x, bias)
    if name is not None and flow.rank(name) >= FUNCTION:
        b.keep(flow.params, COMPUTED_SHIFT)
        return x
    if name is not None:
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        scale = flow.scale if flow.scale is not None and len(flow.params) == 1 else 1.0
        return b.add(Node("bias", (b_numel(b, name),), name, scale=scale), x.nodes)
    if flow.params and not flow.data and all(len(b.shapes[p]) == 1 for p in flow.params):  # lengthened, or several joined
        return union([b.add(Node("bias", tuple(b.shapes[p]), p), x.nodes) for p in flow.params])
    b.keep(flow.params, SHIFT)
    return union([x, replace(flow, params=())])


@rule("linear")
def _linear(b: GraphBuilder, call: Call) -> None:
    x = b.flow(call.args[0])
    b.assign(call.outputs, apply_weight(b, x, call.args[1], argument(call, 2, "bias"), "conv"))


@rule("bilinear")
def _bilinear(b: GraphBuilder, call: Call) -> None:
    left, right, weight, bias = call.args[0], call.args[1], call.args[2], argument(call, 3, "bias")
    b.keep(b.flow(weight).params, UNKNOWN.format(call.op))
    x = union([as_stream(b.flow(left)), as_stream(b.flow(right))])
    b.assign(call.outputs, x if bias is None else apply_bias(b, x, bias))


@rule("mm", "bmm", "matmul", "dot", "mv")
def _matmul(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, product(b, call, call.args[0], call.args[1]))


def product(b: GraphBuilder, call: Call, left: Value, right: Value) -> Flow:
    """A matrix product: a linear layer's, an attention's, or one of two streams; a weight's, of parameters alone."""
    x, y = b.flow(left), b.flow(right)
    if x.data or y.data:
        x, y = as_stream(x), as_stream(y)
    elif x.params or y.params:
        return _product_of_parameters(b, x, y, left, right)
    weight_on_right = x.data and bool(y.params) and len(right.shape) >= 2
    if (x.gathered or y.gathered) and x.data != y.data and not _is_stack(b, y if weight_on_right else x, weight_on_right):
        b.keep(x.params + y.params, POSITION_TABLE)
        return union([x, y])
    if x.data and y.data:
        b.kept |= dict.fromkeys(x.mixed + y.mixed, MIXED_KERNEL)
        mixed = [_mixed_map(b, x, left.shape), _mixed_map(b, y, right.shape)]
        indices = [index for index in mixed if index is not None]
        if len(indices) == 1:  # as in `attention(x) @ kernels`
            b.contracted.add(indices[0])
            b.keep(b.nodes[indices[0]].parameters, MIXED_KERNEL)
        if x.softmax or y.softmax:
            return b.add(Node("msa"), x.nodes | y.nodes)
        return replace(union([x, y]), product=True)
    if weight_on_right:
        return apply_weight(b, x, right, None, "conv", stored_flipped=True, batched=True)  # `x @ w`: w is (in, out)
    if y.data and x.params and len(left.shape) >= 2:
        return apply_weight(b, y, left, None, "conv", batched=True)
    if x.data or y.data:
        b.keep(x.params + y.params, UNKNOWN.format(call.op))
    return union([x, y])


def _mixed_map(b: GraphBuilder, flow: Flow, shape: tuple[int, ...]) -> int | None:
    """The node of a stack of maps which the data mixed: a stream of maps of its shape, made by one layer over the stack."""
    for index in flow.nodes if len(flow.nodes) == 1 and len(shape) > 2 else ():
        node = b.nodes[index]
        stored = b.shapes[node.weight] if node.weight is not None and node.stack is not None else ()
        if len(stored) == 3 and node.shape == (stored[1] * stored[2], stored[0]) and sorted(stored[1:]) == sorted(shape[-2:]):
            return index
    return None


def _is_stack(b: GraphBuilder, flow: Flow, flipped: bool) -> bool:
    """Whether what was looked up in a parameter are whole matrices, as experts are, and no rows of a table."""
    return bool(flow.of) and not flow.lost and stack_in(b, flow, tuple(0 for _ in b.axes_of(flow)), flipped, True) is not None


def _product_of_parameters(b: GraphBuilder, x: Flow, y: Flow, left: Value, right: Value) -> Flow:
    """Factors of a weight, `u @ v`; or, where the result turns out to be a stream, a layer of constants."""
    together = replace(union([x, y]), lost=True, flipped=False).ranked(FACTOR)
    if not x.params and len(right.shape) == 2:

        def layer() -> Flow:
            return apply_weight(b, x, right, None, "conv", stored_flipped=True, batched=True)

        return replace(together, stream=layer)
    return together


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
    biases, before = weights[2:4] if has_biases else [None, None], len(b.nodes)
    for weight, bias in zip(weights[:2], biases, strict=True):
        x = apply_weight(b, x, weight, bias, "conv")
    for projection in weights[4 if has_biases else 2 :]:
        x = apply_weight(b, x, projection, None, "conv")
    b.recurrent.update(range(before, len(b.nodes)))
    return x


@rule("embedding_renorm")
def _embedding_renorm(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.flow(call.args[0]))  # which rows are long is looked up by the input, but all stay a table's


@rule("embedding", "embedding_bag")
def _embedding(b: GraphBuilder, call: Call) -> None:
    table, index = call.args[:2]
    flow = b.flow(table)
    name = main_parameter(b, flow, table.shape)
    if name is None and flow.parts:
        named = ((part, main_parameter(b, b.flow(part), part.shape)) for part in held_parts(b, flow))
        nodes = [Node("pos_enc", tuple(b.shapes[own]), own, scale=b.flow(part).scale or 1.0) for part, own in named if own]
        return b.assign(call.outputs, union([b.add(node, b.flow(index).nodes) for node in nodes]))
    if name is None:
        return b.contract(call)
    b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
    at = 8 if call.op == "embedding_bag" else 2
    padding = argument(call, at, "padding_idx", -1)
    row = padding if isinstance(padding, int) and 0 <= padding < table.shape[0] else None
    node = Node("pos_enc", tuple(b.shapes[name]), name, scale=flow.scale or 1.0, padding=row)
    b.assign(call.outputs, b.add(node, b.flow(index).nodes))


@rule("_grouped_mm")
def _grouped_product(b: GraphBuilder, call: Call) -> None:
    """Rows of x by group, each with an own weight: (rows, in) × (groups, in, out)."""
    result = product(b, call, call.args[0], call.args[1])
    bias = argument(call, 3, "bias")
    b.assign(call.outputs, result if bias is None else apply_bias(b, result, bias))


@rule("torchvision::deform_conv2d")
def _deformable_convolution(b: GraphBuilder, call: Call) -> None:
    x, weight, offset, mask, bias = call.args[:5]
    stream = union([b.flow(value) for value in (x, offset, mask)])
    dilation, groups = call.args[9:11], call.args[11]
    b.assign(call.outputs, convolve(b, stream, weight, bias, dilation=dilation, groups=groups))

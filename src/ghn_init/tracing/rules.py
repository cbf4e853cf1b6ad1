"""One rule per operation that has a primitive; everything else is contracted.

Rules recognise what an operation computes, never the class of the module that called it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Graph, Node
from ghn_init.tracing.flow import CONSTANT, UNKNOWN, Flow, GraphBuilder, union
from ghn_init.tracing.record import Call, Record, Value

Rule = Callable[[GraphBuilder, Call], None]
RULES: dict[str, Rule] = {}

REPARAMETRISES = "it reparametrises '{}', which is predicted"
SCALE = "it scales a stream (layer scale, gate or logit scale): no primitive covers it"
OFFSET = "the model adds a constant to this norm's weight, so a predicted weight would scale twice"
TOKEN = "it is concatenated with the stream (class or register token): no primitive covers it"
POSITION_TABLE = "it is added to attention logits (relative position bias): no primitive covers it"
SHIFT = "it shifts a stream outside of any layer: no primitive covers it"
QUERY = "it is a learned query: no primitive covers it"
MIXED_KERNEL = "the model's data mix kernels from it (dynamic convolution): no primitive covers it"


def build_graph(record: Record) -> Graph:
    """Turns a record of one run into the architecture graph."""
    builder = GraphBuilder(record)
    for call in record.calls:
        RULES.get(call.op, GraphBuilder.contract)(builder, call)
    return builder.finish(record.outputs)


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Registers a rule for ATen operations, in-place variants included."""

    def register(function: Rule) -> Rule:
        for op in ops:
            RULES[op] = RULES[op + "_"] = function
        return function

    return register


def argument(call: Call, position: int, name: str = "", default: Any = None) -> Any:
    """An operation's argument, however it was passed."""
    if position < len(call.args):
        return call.args[position]
    return call.kwargs.get(name, default)


# Weights and biases


def apply_weight(
    b: GraphBuilder,
    x: Flow,
    weight: Value,
    bias: Value | None,
    primitive: str,
    *,
    stored_flipped: bool = False,
) -> Flow:
    """x → weight → bias; returns what the layer's result holds."""
    w = b.flow(weight)
    name = main_parameter(b, w, weight.shape)
    b.keep(x.params, QUERY)
    if name is None:
        b.keep(w.params, UNKNOWN.format("convolution" if len(weight.shape) > 2 else "linear"))
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


def layout(stored: tuple[int, ...], used: tuple[int, ...], flipped: bool) -> tuple[int, ...]:
    """A weight's shape with output channels first: as it is stored, or as it is used where it was reshaped for that."""
    reshaped = len(stored) < 2 or (len(stored) > 2 and len(stored) != len(used))
    shape = tuple(used if reshaped and prod(used) == prod(stored) else stored)
    return (shape[1], shape[0], *shape[2:]) if flipped and len(shape) > 1 else shape


def apply_bias(b: GraphBuilder, x: Flow, bias: Value) -> Flow:
    """The bias node of a layer, after the layer's weight."""
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


def b_numel(b: GraphBuilder, name: str) -> int:
    """Number of elements of a parameter."""
    return prod(b.shapes[name])


def main_parameter(b: GraphBuilder, flow: Flow, shape: tuple[int, ...]) -> str | None:
    """Of the parameters that a weight was computed from, the one of the weight's own size."""
    if flow.data or not flow.params:
        return None
    same_shape = [name for name in flow.params if tuple(b.shapes[name]) == tuple(shape)]
    same_size = [name for name in flow.params if b_numel(b, name) == prod(shape)]
    if same_shape or same_size:
        return (same_shape or same_size)[0]
    # A batched product sees the weight expanded over the batch.
    inner = [name for name in flow.params if len(shape) == 3 and sorted(b.shapes[name]) == sorted(shape[1:])]
    if inner:
        return inner[0]
    return flow.params[0] if len(flow.params) == 1 and is_piece(shape, b.shapes[flow.params[0]], flow.flipped) else None


def is_piece(shape: tuple[int, ...], whole: tuple[int, ...], flipped: bool) -> bool:
    """Whether a weight is some output channels of a parameter, as queries, keys and values packed in one are."""
    shape = (*shape[:-2], shape[-1], shape[-2]) if flipped and len(shape) > 1 else shape
    return len(shape) == len(whole) and shape[1:] == tuple(whole[1:]) and 0 < shape[0] < whole[0]


@rule("linear")
def _linear(b: GraphBuilder, call: Call) -> None:
    x = b.flow(call.args[0])
    b.assign(call.outputs, apply_weight(b, x, call.args[1], argument(call, 2, "bias"), "conv"))


@rule("addmm", "baddbmm")
def _addmm(b: GraphBuilder, call: Call) -> None:
    bias, left, right = call.args[:3]
    result = product(b, call, left, right)
    flow = b.flow(bias)
    if flow.data:
        result = merge(b, "sum", [flow, result])
    elif flow.params:
        result = add_parameter(b, result, bias)
    b.assign(call.outputs, result)


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
    convolve(b, call, dilation, groups, transposed=False)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution_transposed(b: GraphBuilder, call: Call) -> None:
    groups, dilation = argument(call, 6, "groups", 1), argument(call, 7, "dilation", 1)
    convolve(b, call, dilation, groups, transposed=True)


@rule("convolution", "_convolution")
def _general_convolution(b: GraphBuilder, call: Call) -> None:
    dilation, transposed, groups = argument(call, 5), argument(call, 6), argument(call, 8)
    convolve(b, call, dilation, groups, transposed)


def convolve(b: GraphBuilder, call: Call, dilation: Any, groups: int, transposed: bool) -> None:
    """Grouped convolutions are `sep_conv`, dilated on top `dil_conv`, others `conv`."""
    dilation = dilation if isinstance(dilation, list | tuple) else [dilation]
    primitive = "conv" if groups == 1 else "dil_conv" if min(dilation) > 1 else "sep_conv"
    flipped = transposed and groups == 1  # (in, out, …); grouped ones are (in, out / groups, …)
    result = apply_weight(b, b.flow(call.args[0]), call.args[1], argument(call, 2, "bias"), primitive, stored_flipped=flipped)
    b.assign(call.outputs, result)


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
        flow = merge(b, "concat", ends)
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


@rule("embedding", "embedding_bag")
def _embedding(b: GraphBuilder, call: Call) -> None:
    table, index = call.args[:2]
    name = main_parameter(b, b.flow(table), table.shape)
    if name is None:
        return b.contract(call)
    flow = b.add(Node("pos_enc", tuple(b.shapes[name]), name), b.flow(index).nodes)
    b.assign(call.outputs, flow)


# Norms


def normalise(b: GraphBuilder, call: Call, weight: Value | None, bias: Value | None, primitive: str) -> None:
    """One node for weight and bias together; a norm without parameters is contracted."""
    x = b.flow(call.args[0])
    if not x.data:  # weight standardisation written as a norm of the weight
        return b.contract(call)
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
        return b.assign(call.outputs, replace(x, softmax=False, product=False, normalised=primitive == "ln"))
    shape = tuple(b.shapes[name])
    b.assign(call.outputs, b.add(Node(primitive, shape, names[0], names[1]), x.nodes))


@rule("batch_norm", "instance_norm", "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit")
def _batch_norm(b: GraphBuilder, call: Call) -> None:
    normalise(b, call, argument(call, 1, "weight"), argument(call, 2, "bias"), "bn")


@rule("layer_norm", "native_layer_norm", "group_norm")
def _layer_norm(b: GraphBuilder, call: Call) -> None:
    normalise(b, call, argument(call, 2, "weight"), argument(call, 3, "bias"), "ln")


@rule("rms_norm", "_fused_rms_norm")
def _rms_norm(b: GraphBuilder, call: Call) -> None:
    normalise(b, call, argument(call, 2, "weight"), None, "ln")


@rule("native_group_norm")
def _native_group_norm(b: GraphBuilder, call: Call) -> None:
    normalise(b, call, argument(call, 1, "weight"), argument(call, 2, "bias"), "ln")


@rule("sqrt", "rsqrt", "std")
def _deviation(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, deviation=flow.data))


# Pools


@rule("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(b: GraphBuilder, call: Call) -> None:
    pool(b, call, "max_pool", argument(call, 1, "kernel_size"))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(b: GraphBuilder, call: Call) -> None:
    pool(b, call, "avg_pool", argument(call, 1, "kernel_size"))


def pool(b: GraphBuilder, call: Call, primitive: str, kernel: Any) -> None:
    """A pool's node carries its kernel, (1, 1, kh, kw)."""
    x = b.flow(call.args[0])
    if not x.data:
        return b.contract(call)
    sizes = list(kernel) if isinstance(kernel, list | tuple) else [kernel]
    if len(sizes) == 1:
        sizes = sizes * 2
    b.assign(call.outputs, b.add(Node(primitive, (1, 1, sizes[-2], sizes[-1])), x.nodes))


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")
def _adaptive_avg_pool(b: GraphBuilder, call: Call) -> None:
    x = b.flow(call.args[0])
    if x.data:
        b.assign(call.outputs, b.add(Node("glob_avg"), x.nodes))
    else:
        b.contract(call)


@rule("mean")
def _mean(b: GraphBuilder, call: Call) -> None:
    x, value = b.flow(call.args[0]), call.args[0]
    if not x.data or not averages_space(b, x, value.shape, argument(call, 1, "dim")):
        return b.contract(call)
    b.assign(call.outputs, b.add(Node("glob_avg"), x.nodes))


def averages_space(b: GraphBuilder, x: Flow, shape: tuple[int, ...], dim: Any) -> bool:
    """Whether a mean over `dim` leaves batch and channels and nothing else."""
    if not isinstance(dim, list | tuple) or len(dim) != len(shape) - 2:
        return isinstance(dim, int) and len(shape) == 3 and averages_space(b, x, shape, [dim])
    axes = {d % len(shape) for d in dim}
    if 0 in axes:
        return False
    if len(shape) > 3:
        return axes == set(range(2, len(shape))) or axes == set(range(1, len(shape) - 1))
    if axes == {1}:
        return True
    widths = {(b.nodes[i].shape or (0,))[0] for i in x.nodes}  # (B, C, L): the last layer's width is axis 1
    return widths == {shape[1]} and shape[1] != shape[2]


# Attention


@rule("softmax", "_softmax", "_safe_softmax")
def _softmax(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, softmax=flow.data))


@rule(
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def _attention(b: GraphBuilder, call: Call) -> None:
    flows = [b.flow(value) for value in call.args[:3]]
    mask = argument(call, 3, "attn_mask")
    if isinstance(mask, Value):
        b.keep(b.flow(mask).params, POSITION_TABLE)
        if not drop_position_table(b, b.flow(mask)):
            flows.append(b.flow(mask))
    for flow in flows[:3]:
        b.keep(flow.params, QUERY)
    b.assign(call.outputs[:1], b.add(Node("msa"), frozenset().union(*(flow.nodes for flow in flows))))
    b.assign(call.outputs[1:], CONSTANT)


# Sums, concatenations, gates


def merge(b: GraphBuilder, primitive: str, flows: list[Flow]) -> Flow:
    """A node where two or more different nodes flow in, else nothing."""
    together = union(flows)
    if len({flow.nodes for flow in flows}) < 2 or len(together.nodes) < 2:
        return together
    return replace(b.add(Node(primitive), together.nodes), softmax=together.softmax, product=together.product)


@rule("add", "sub", "rsub")
def _add(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    streams = [flow for flow in flows if flow.data]
    if not streams or len(values) < 2:
        b.contract(call)
        result = b.flow(call.outputs[0])
        return b.assign(call.outputs, replace(result, offset=result.offset or sum(bool(f.params) for f in flows) == 1))
    if len(streams) == 2:
        result = add_streams(b, streams)
    else:
        result = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            result = add_parameter(b, result, parameter)
    b.assign(call.outputs, result)


def add_streams(b: GraphBuilder, streams: list[Flow]) -> Flow:
    """A sum, unless one of the two is a table of relative positions that was looked up for attention logits."""
    for logits, other in (streams, streams[::-1]):
        if logits.product and drop_position_table(b, other):
            return logits
    result = merge(b, "sum", streams)
    return replace(result, softmax=all(flow.softmax for flow in streams))


def drop_position_table(b: GraphBuilder, x: Flow) -> bool:
    """Takes embedding tables out of the graph again if `x` is nothing else, as where attention adds them to its logits."""
    if not x.nodes or any(b.nodes[index].primitive != "pos_enc" for index in x.nodes):
        return False
    b.contracted |= x.nodes
    b.keep((name for index in x.nodes for name in b.nodes[index].parameters), POSITION_TABLE)
    return True


def add_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream + parameter: the bias of the layer before, a positional embedding, or nothing that has a primitive."""
    flow = b.flow(value)
    if x.product or x.softmax:
        b.keep(flow.params, POSITION_TABLE)
        return x
    name = main_parameter(b, flow, value.shape)
    sizes = [size for size in value.shape if size > 1]
    b.keep(flow.params if len(sizes) < 2 else (), SHIFT)
    owner = next(iter(x.nodes)) if len(x.nodes) == 1 else None
    if name is not None and owner is not None and len(sizes) == 1:
        node = b.nodes[owner]
        is_norm = node.primitive in NORM_PRIMITIVES and node.bias is None and prod(node.shape or ()) == sizes[0]
        if is_norm and name not in b.node_of:
            b.nodes[owner] = replace(node, bias=name)
            b.node_of[name] = owner
            return x
        if node.primitive in WEIGHT_PRIMITIVES and (node.shape or (0,))[0] == sizes[0]:
            return apply_bias(b, x, value)
    return add_positions(b, x, flow, value) if len(sizes) >= 2 else x


def add_positions(b: GraphBuilder, x: Flow, flow: Flow, value: Value) -> Flow:
    """stream + embedding of its positions; the embedding may be interpolated, or a sum of several."""
    names = [name for name in flow.params if sum(size > 1 for size in b.shapes[name]) >= 2]
    b.keep((name for name in flow.params if name not in names), SHIFT)
    positions = [b.add(Node("pos_enc", tuple(b.shapes[name]), name), ()) for name in names]
    return merge(b, "sum", [x, *positions]) if positions else x


@rule("cat", "concat", "concatenate", "stack", "hstack", "vstack")
def _concat(b: GraphBuilder, call: Call) -> None:
    flows = [b.flow(value) for value in call.inputs]
    streams = [flow for flow in flows if flow.data]
    if not streams:
        return b.contract(call)
    b.keep((name for flow in flows for name in flow.params), TOKEN)
    b.assign(call.outputs, merge(b, "concat", streams))


@rule("mul", "multiply")
def _mul(b: GraphBuilder, call: Call) -> None:
    values = [value for value in (argument(call, 0), argument(call, 1, "other")) if isinstance(value, Value)]
    flows = [b.flow(value) for value in values]
    streams = [flow for flow in flows if flow.data]
    if len(streams) == 2:
        return b.assign(call.outputs, gate(b, values, flows, call.outputs[0].shape))
    if len(streams) == 1 and len(values) == 2:
        x = streams[0]
        parameter = values[0] if flows[1].data else values[1]
        if b.flow(parameter).params:
            return b.assign(call.outputs, scale_by_parameter(b, x, parameter))
    b.contract(call)


def gate(b: GraphBuilder, values: list[Value], flows: list[Flow], out_shape: tuple[int, ...]) -> Flow:
    """stream × stream: a gate, unless both come from the same nodes or one is the other's deviation."""
    if any(flow.deviation for flow in flows):
        return replace(union(flows), deviation=False, normalised=True)
    sizes = [prod(value.shape) for value in values]
    if sizes[0] != sizes[1]:
        small, large = (0, 1) if sizes[0] < sizes[1] else (1, 0)
        inside = b.ancestors(flows[small].nodes) - b.ancestors(flows[large].nodes)
        b.contracted |= {i for i in inside if b.nodes[i].primitive == "glob_avg"}
    return replace(merge(b, "cse", flows), softmax=False)


def scale_by_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream × parameter: the affine part of a norm written out by hand, or a scale that has no primitive."""
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape) or (flow.params[0] if len(flow.params) == 1 else None)
    if x.normalised and flow.offset:
        b.keep(flow.params, OFFSET)
    elif x.normalised and name is not None and len([size for size in value.shape if size > 1]) == 1:
        b.keep((other for other in flow.params if other != name), REPARAMETRISES.format(name))
        return b.add(Node("ln", tuple(b.shapes[name]), name), x.nodes)
    b.keep(flow.params, SCALE)
    return replace(x, normalised=False)


@rule("div", "true_divide")
def _div(b: GraphBuilder, call: Call) -> None:
    divisor = argument(call, 1, "other")
    b.contract(call)
    if isinstance(divisor, Value) and b.flow(divisor).deviation:
        flow = b.flow(call.outputs[0])
        b.assign(call.outputs, replace(flow, deviation=False, normalised=flow.data))


# Rearrangements that change how a parameter is read


@rule("t", "transpose", "permute", "numpy_T", "mT", "swapaxes", "movedim")
def _transpose(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow, rank = b.flow(call.outputs[0]), len(call.args[0].shape)
    if not flow.params:
        return
    if call.op == "transpose" or call.op == "swapaxes":
        swapped = {call.args[1] % rank, call.args[2] % rank} == {rank - 2, rank - 1} or rank == 2
    elif call.op == "permute":
        order = [axis % rank for axis in call.args[1]]
        kept = [axis for axis in order if call.args[0].shape[axis] > 1]
        swapped = len(kept) >= 2 and kept[-2] > kept[-1]
    else:
        swapped = True
    b.assign(call.outputs, replace(flow, flipped=flow.flipped != swapped))


@rule("index", "index_select", "gather", "take")
def _index(b: GraphBuilder, call: Call) -> None:
    b.contract(call)
    flow = b.flow(call.outputs[0])
    b.assign(call.outputs, replace(flow, gathered=flow.gathered or bool(flow.params)))


@rule("fill", "zero", "uniform", "normal", "bernoulli")
def _fill(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, b.flow(call.args[0]))


@rule("new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
@rule("rand_like", "randn_like")
def _constant(b: GraphBuilder, call: Call) -> None:
    b.assign(call.outputs, CONSTANT)  # takes no more than the shape from its operand


WHOLE = frozenset(RULES)
"""Operations that the recorder must not take apart."""

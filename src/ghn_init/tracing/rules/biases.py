"""Parameters that are added to a stream: biases, the shifts of norms, positional embeddings."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.flow import FUNCTION, Flow, GraphBuilder
from ghn_init.tracing.record import Value
from ghn_init.tracing.rules.layers import apply_bias, held_parts
from ghn_init.tracing.rules.parameters import b_numel, bias_of_slices, main_parameter, unexpanded
from ghn_init.tracing.rules.reasons import POSITION_TABLE, QUERY, SHIFT


def add_parameter(b: GraphBuilder, x: Flow, value: Value) -> Flow:
    """stream + parameter: the bias of the layer before, a positional embedding, or nothing that has a primitive."""
    value = unexpanded(b, value)
    flow = b.flow(value)
    name = main_parameter(b, flow, value.shape) or bias_of_slices(b, x, value)
    sizes = [size for size in value.shape if size > 1]
    bias = layer_bias(b, x, value, name)
    if bias is not None:
        return bias
    # The published construction has no node for tables of relative positions, and its models keep theirs at their init.
    if x.product or x.softmax:
        # One number, as SigLIP's bias of logits, or a vector, unless it was looked up, is no table.
        b.keep(flow.params, POSITION_TABLE if len(sizes) > 1 or flow.gathered else SHIFT)
        return x
    b.keep(flow.params if len(sizes) < 2 else (), SHIFT)
    return add_positions(b, x, flow, value) if len(sizes) >= 2 else x


def layer_bias(b: GraphBuilder, x: Flow, value: Value, name: str | None) -> Flow | None:
    """The stream with the bias of the norm or the layer before, if a parameter of this shape can be that."""
    if _is_stack_of_biases(b, x, value):
        return apply_bias(b, replace(x, product=False), value)
    sizes = [size for size in value.shape if size > 1]
    channels = prod(sizes)
    last = len(sizes) == 1 and value.shape[-1] == channels
    if name is None or (x.product and not last) or x.softmax:
        return None
    owner = owner_of(b, x, value.shape[-1] if value.shape else 1)
    if owner is None:
        return None
    node = b.nodes[owner]
    # A norm written out by hand has its bias last, too late for the node that its weight made.
    is_norm = node.primitive in NORM_PRIMITIVES and node.bias is None and prod(node.shape or ()) == channels
    alike = len(sizes) == 1 or sizes == [size for size in node.shape or () if size > 1]
    if is_norm and alike and name not in b.node_of and b.flow(value).rank(name) < FUNCTION:
        b.nodes[owner] = replace(node, bias=name)
        b.node_of[name] = owner
        return x
    if node.primitive in ("msa", "cse") and last and attended(b, owner, channels):
        return apply_bias(b, x, value)
    if node.primitive == "sum" and len(sizes) == 1 and adds_layers(b, owner, channels, x.product):
        return apply_bias(b, replace(x, product=False), value)
    if node.primitive not in WEIGHT_PRIMITIVES:
        return None
    outputs = (node.shape or (0,))[0]
    # More axes than one: of heads, into which a layer's channels were split, or of a stack of layers with a bias each, whose
    # channels may stand before their places (locally connected layers) or be put together with the slices.
    slices = 1 if node.stack is None else node.stack.slices
    stacked = slices > 1 and b_numel(b, name) == slices * outputs and (len(sizes) == 1 or outputs in sizes)
    return apply_bias(b, replace(x, product=False), value) if sizes and (channels == outputs or stacked) else None


def _is_stack_of_biases(b: GraphBuilder, x: Flow, value: Value) -> bool:
    """Whether separate vectors were stacked or concatenated that are as wide as the layers whose results the stream is."""
    widths = {(b.nodes[i].shape or (0,))[0] if b.nodes[i].primitive in WEIGHT_PRIMITIVES else 0 for i in x.nodes}
    flows = [b.flow(part) for part in held_parts(b, b.flow(value))]
    numbers = {b_numel(b, name) for flow in flows for name in flow.params}
    vectors = all(is_vector(b, name) for flow in flows for name in flow.params)
    return bool(flows) and vectors and not x.softmax and widths == numbers and len(numbers) == 1


def is_vector(b: GraphBuilder, name: str) -> bool:
    """Whether a parameter has one axis of more than one element."""
    return sum(size > 1 for size in b.shapes[name]) == 1


def adds_layers(b: GraphBuilder, index: int, channels: int, aggregated: bool) -> bool:
    """Whether a sum is one of layers of so many channels, without biases, as of a graph convolution's neighbourhoods.

    Args:
        b: The graph that grows.
        index: The sum's node.
        channels: Of each layer's results.
        aggregated: Other inputs may have aggregated them, `adjacency @ (x @ w)`.
    """

    def adds(i: int) -> bool:
        node = b.nodes[i]
        if node.primitive == "sum":
            return adds_layers(b, i, channels, aggregated)
        return node.primitive in WEIGHT_PRIMITIVES and (node.shape or (0,))[0] == channels

    return all(adds(i) for i in b.preds[index] - ({0} if aggregated else set()))


def owner_of(b: GraphBuilder, x: Flow, channels: int | None = None) -> int | None:
    """The layer whose result a stream is, also where other inputs aggregated it (`adjacency @ (x @ w)`, scattered messages)."""
    if len(x.nodes) == 1:
        return next(iter(x.nodes))
    layers = [i for i in x.nodes if b.nodes[i].primitive in WEIGHT_PRIMITIVES]
    fitting = [i for i in layers if channels in (None, (b.nodes[i].shape or (0,))[0])]
    others = x.nodes - set(fitting)
    return fitting[0] if len(fitting) == 1 and (x.product or others <= {0}) else None


def attended(b: GraphBuilder, attention: int, channels: int) -> bool:
    """Whether what an attention or a gate weighs are results of a layer of so many channels, as in graph attention networks."""
    stack, seen = list(b.preds[attention]), set()
    while stack:
        index = stack.pop()
        node = b.nodes[index]
        if node.primitive in WEIGHT_PRIMITIVES:
            if (node.shape or (0,))[0] == channels:
                return True
        elif index not in seen:
            stack.extend(b.preds[index])
        seen.add(index)
    return False


def looked_up_bias(b: GraphBuilder, x: Flow, other: Flow) -> Flow | None:
    """Rows of a table that were added to those maps of a stack that the same index chose: their biases, and no embedding."""
    owner = owner_of(b, x)
    table = next(iter(other.nodes)) if len(other.nodes) == 1 else 0
    node = b.nodes[table]
    if owner is None or node.primitive != "pos_enc" or node.weight is None or b.preds[table] == set():
        return None
    stack, shape = b.nodes[owner].stack, node.shape or ()
    if stack is None or shape != (stack.slices, stack.shape[0]):
        return None
    b.contracted.add(table)
    del b.node_of[node.weight]
    return b.add(Node("bias", (prod(shape),), node.weight), x.nodes)


def add_positions(b: GraphBuilder, x: Flow, flow: Flow, value: Value) -> Flow:
    """stream + embedding of its positions; the embedding may be interpolated, or a sum of several."""
    names = [name for name in flow.params if sum(size > 1 for size in b.shapes[name]) >= 2 and b.kept.get(name) != QUERY]
    b.keep((name for name in flow.params if name not in names), SHIFT)
    positions = [b.add(Node("pos_enc", tuple(b.shapes[name]), name), ()) for name in names]
    return b.merge("sum", [x, *positions]) if positions else x

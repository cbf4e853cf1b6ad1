"""Follows the recorded calls and builds the architecture graph: list of calls → nodes and edges.

Each value of the run carries a `Flow`: the nodes whose results it holds, or the parameters that it was made from. Operations
without a primitive are contracted, which here means that their result carries the flows of their operands. That is what wiring
a node's inputs to its outputs and dropping the node comes to, as the published construction does, without making the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ghn_init.graph import PRIMITIVES, Graph, Node
from ghn_init.tracing.axes import Axes, fits, stored
from ghn_init.tracing.heads import Heads
from ghn_init.tracing.operators import BOUNDED, SAME
from ghn_init.tracing.order import ancestors, topological
from ghn_init.tracing.reach import parameters_behind
from ghn_init.tracing.record import Call, Record, Value
from ghn_init.tracing.tied import tied_heads

UNUSED = "the forward pass does not use it with these inputs"
UNREACHED = "not reached with these inputs: the forward pass chooses by values or at random, and did not use it"
DEAD_END = "its result does not reach the model's output"
UNSEEN = f"{DEAD_END}, but may decide what is computed: the forward pass chooses by values or at random"
UNCOVERED = "no primitive covers what the model does with it"
SECOND_BIAS = "its norm shares '{}' with a norm that has another bias"
RETURNED = "the model returns it as an output that depends on no input: no primitive covers it"
UNKNOWN = "no primitive covers the operation '{}' that uses it"


@dataclass(frozen=True, slots=True)
class Factors:
    """A stream times a parameter, which is a linear map if the product is summed over input channels."""

    product: Value
    stream: Value
    weight: Value


@dataclass(frozen=True, slots=True)
class Flow:
    """What a value holds.

    The flags recognise layers that are written out by hand, where the operation alone doesn't say what it is part of.

    Attributes:
        data: It depends on the model's input, or on the result of a weight.
        nodes: The nodes whose results it holds.
        params: Parameters that it was computed from, as long as it holds no data.
        flipped: Its last two axes are swapped against the parameter's: in `x @ w.T` the stored weight is (out, in), in `x @ w`
            (in, out).
        gathered: Picked by index from a parameter: `q @ table[index].T` is no layer but an attention's relative positions.
        softmax: Attention weights: their product with the values is the `msa` node (Swin).
        product: A product of two streams, as attention logits are: a table added to them is no positional embedding (Swin).
        deviation: A root of a stream's statistics: dividing by it is a norm, and multiplying with its inverse no gate.
        normalised: A stream divided by its deviation: a parameter that it is multiplied with next is a norm's weight.
        offset: A parameter with a constant added: in `x * (1 + w)`, Gemma's norm, a predicted w, around 1, would scale by 2.
        gain: A parameter that scaled the stream, which shows to be a norm's weight when the stream is divided by its deviation.
        inside: The gain that a stream had of which this is the deviation: such a gain is no weight of that norm.
        batch: A deviation over the examples of the batch, as batch norms have.
        of: The parameter whose `axes` these are.
        axes: Which axes of that parameter the value's are (`tracing.axes`); None: those of the parameter as it is stored.
        lost: The value's axes are no longer known.
        ranks: How far a value is from parameters that it was computed from (`PART`, …); those that are it aren't listed.
        scale: The constant that it was multiplied with; None: one that is not known.
        rescaled: The constant that a stream was multiplied with; NaN: one that is not known; None: there is none.
        parts: What it was concatenated from.
        whole: Shape of the concatenation whose `axes` these are, in the place of a parameter's.
        mixed: Parameters that a stream scaled, and made larger: a kernel for each example, if it is used as one (StyleGAN2).
        factors: What the stream was multiplied from; of that product alone, and of nothing that was computed from it.
        stream: What it is where it is used as a stream and not as a weight: a norm's result, say, of learned queries.
    """

    data: bool = False
    nodes: frozenset[int] = frozenset()
    params: tuple[str, ...] = ()
    flipped: bool = False
    gathered: bool = False
    softmax: bool = False
    product: bool = False
    deviation: bool = False
    normalised: bool = False
    offset: bool = False
    gain: Value | None = None
    inside: Value | None = None
    batch: bool = False
    of: str = ""
    axes: Axes | None = None
    lost: bool = False
    ranks: tuple[tuple[str, int], ...] = ()
    scale: float | None = 1.0
    rescaled: float | None = None
    parts: tuple[Value, ...] = ()
    whole: tuple[int, ...] = ()
    mixed: tuple[str, ...] = ()
    factors: Factors | None = None
    stream: Callable[[], Flow] | None = None

    def rank(self, name: str) -> int:
        """How far the value is from a parameter; 0: it is that parameter, seen otherwise, or added to others."""
        return dict(self.ranks).get(name, 0) if self.ranks else 0

    def ranked(self, least: int) -> Flow:
        """The same, at least so far from all parameters."""
        return replace(self, ranks=tuple((name, max(self.rank(name), least)) for name in self.params), scale=1.0)


CONSTANT = Flow()
MASKED, FUNCTION, FACTOR = 1, 2, 3
"""Ranks: times a constant tensor (noise, a mask); a function of the parameter; a factor of a product of parameters."""


def _is_elementwise(call: Call) -> bool:
    """Whether a function may be one of each element: then it is one of each part of a concatenation."""
    return bool(call.inputs) and bool(call.outputs) and prod(call.inputs[0].shape) == prod(call.outputs[0].shape)


def as_stream(flow: Flow) -> Flow:
    """What a value is where it is used as a stream."""
    return flow if flow.data or flow.stream is None else flow.stream()


def union(flows: Iterable[Flow]) -> Flow:
    """What a contracted operation's result holds."""
    flows = list(flows)
    if not flows:
        return CONSTANT
    first = flows[0]
    if len(flows) == 1:
        return first
    data = any(flow.data for flow in flows)
    # `mask * w.T` is flipped because `w.T` is, not because of the constant that it is multiplied with.
    leading = next((flow for flow in flows if flow.data == data and (data or flow.params)), first)
    params = () if data else tuple(dict.fromkeys(name for flow in flows for name in flow.params))
    if params:
        leading = _nearest(flows, params)
    return replace(
        leading,
        data=data,
        nodes=frozenset().union(*(flow.nodes for flow in flows)),
        params=params,
        gain=first.gain if all(flow.gain is first.gain for flow in flows) else None,
        batch=any(flow.batch for flow in flows),
        scale=1.0,
        rescaled=None,
        parts=(),
        whole=(),
        factors=None,
        mixed=tuple(dict.fromkeys(name for flow in flows for name in flow.mixed)),
        lost=leading.lost or bool(leading.whole),
        stream=next((flow.stream for flow in flows if flow.stream is not None), None),
        softmax=any(flow.softmax for flow in flows),
        product=any(flow.product for flow in flows),
        deviation=any(flow.deviation for flow in flows),
        normalised=False,  # only of one norm's result, untouched since, is the next factor its weight
    )


def _nearest(flows: list[Flow], params: tuple[str, ...]) -> Flow:
    """Of values that were made from parameters, the one that is nearest to one; with the ranks of all."""
    ranks = {name: min(flow.rank(name) for flow in flows if name in flow.params) for name in params}
    nearest = min((flow for flow in flows if flow.params), key=lambda flow: min(map(flow.rank, flow.params)))
    return replace(nearest, ranks=tuple((name, rank) for name, rank in ranks.items() if rank))


class GraphBuilder:
    """Grows the graph while rules walk the calls. Node 0 is the input."""

    def __init__(self, record: Record) -> None:
        self.nodes: list[Node] = [Node("input")]
        self.preds: list[set[int]] = [set()]
        self.contracted: set[int] = set()  # nodes that a later call showed to be none; `finish` takes them out
        self.recurrent: set[int] = set()  # nodes of recurrent cells
        self.kept: dict[str, str] = {}
        self.node_of: dict[str, int] = {}
        self.shapes = record.parameters
        self._unused, self._dead_end = (UNREACHED, UNSEEN) if record.chooses else (UNUSED, DEAD_END)
        self._flows: dict[Value, Flow] = {}
        self._calls = record.calls

    def flow(self, value: Value | None) -> Flow:
        """What `value` holds."""
        if value is None:
            return CONSTANT
        if value not in self._flows:
            if value.source == "input":
                return Flow(data=True, nodes=frozenset({0}))
            if value.source == "parameter":
                assert value.name is not None
                return Flow(params=(value.name,), of=value.name)
            return CONSTANT
        return self._flows[value]

    def holds(self, values: Iterable[Value]) -> bool:
        """Whether all `values` were assigned."""
        return all(map(self._flows.__contains__, values))

    def assign(self, values: Iterable[Value], flow: Flow) -> None:
        """Lets all `values` hold `flow`."""
        for value in values:
            self._flows[value] = flow

    def uses(self, value: Value) -> int:
        """How many calls of the run take `value`."""
        return sum(value in call.inputs for call in self._calls)

    def keep(self, params: Iterable[str], reason: str) -> None:
        """Notes why parameters keep their values, unless another use of them gets a node."""
        for name in params:
            self.kept.setdefault(name, reason)

    def contract(self, call: Call) -> None:
        """The default: the result holds what the operands hold; parameters that meet data here have no primitive."""
        flows = [self.flow(value) for value in call.inputs]
        if any(flow.stream is not None for flow in flows) and any(flow.data for flow in flows):
            flows = [as_stream(flow) for flow in flows]
        result, name = union(flows), call.op.rstrip("_")
        if name not in SAME and (result.normalised or result.rescaled is not None):
            result = replace(result, normalised=False, rescaled=None if name in BOUNDED else result.rescaled)
        if result.data:
            self.keep((name for flow in flows for name in flow.params), UNKNOWN.format(call.op))
        elif result.params and name not in SAME:
            result = replace(result, lost=True, parts=result.parts if _is_elementwise(call) else ()).ranked(FUNCTION)
        elif result.params and result.of and call.outputs and not result.lost:
            axes = self.axes_of(result)
            result = result if fits(axes, call.outputs[0].shape) else replace(result, lost=True)
        self.assign(call.outputs, result)

    def axes_of(self, flow: Flow) -> Axes:
        """The axes of a value that was made from a parameter by views."""
        return flow.axes if flow.axes is not None else stored(flow.whole or self.shapes[flow.of])

    def add(self, node: Node, preds: Iterable[int]) -> Flow:
        """Adds a node, or wires a parameter's second use into its node where that closes no cycle."""
        if node.primitive not in PRIMITIVES:
            raise ValueError(f"there is no primitive '{node.primitive}'; hypernetworks know {', '.join(PRIMITIVES)}")
        preds = set(preds)
        index = self.node_of.get(node.weight or node.bias or "")
        if node.bias in self.node_of or node.bias == node.weight:
            node = replace(node, bias=None)  # another norm's as well
        if index is not None:
            self._add_bias(index, node.bias)
            # A loop over a recurrent cell, or a tied weight one layer further on, would come back to its own node, and a
            # hypernetwork reads nodes in topological order. The first use has its edges, such a later one is contracted.
            if index in self.ancestors(preds):
                return Flow(data=True, nodes=frozenset(preds))
            self.preds[index] |= preds
            return Flow(data=True, nodes=frozenset({index}))
        index = len(self.nodes)
        self.nodes.append(node)
        self.preds.append(preds)
        for name in node.parameters:
            self.node_of[name] = index
        return Flow(data=True, nodes=frozenset({index}))

    def _add_bias(self, index: int, bias: str | None) -> None:
        """A second norm with the weight of the first: its bias joins the first's node, or has none."""
        if bias is None:
            return
        if self.nodes[index].bias is None:
            self.nodes[index] = replace(self.nodes[index], bias=bias)
            self.node_of[bias] = index
        else:
            self.keep([bias], SECOND_BIAS.format(self.nodes[index].weight))

    def merge(self, primitive: str, flows: list[Flow]) -> Flow:
        """A node where two or more different nodes flow in, else nothing: `x + x.relu()` joins nothing."""
        together = union(flows)
        if len({flow.nodes for flow in flows}) < 2 or len(together.nodes) < 2:
            return together
        return replace(self.add(Node(primitive), together.nodes), softmax=together.softmax, product=together.product)

    def ancestors(self, nodes: Iterable[int]) -> set[int]:
        """`nodes` and everything that leads to them."""
        return ancestors(nodes, self.preds)

    def finish(self, outputs: Iterable[Value]) -> Graph:
        """Contracts what rules marked, drops dead ends, orders topologically, marks the head."""
        outputs = tuple(outputs)
        ends = [self._resolve(self.flow(value).nodes) for value in outputs]
        preds = self.preds = [self._resolve(p) for p in self.preds]
        for value in outputs:
            if not self.flow(value).data:
                self.keep(self.flow(value).params, RETURNED)
        head, side = Heads(self.nodes, preds, self.recurrent, self._calls).find(ends, outputs)
        side |= tied_heads(outputs, self._calls, self.nodes)
        alive = self.ancestors(set().union(*ends) if ends else ()) | {0}
        for index in alive:
            if not preds[index] and index != 0 and self.nodes[index].primitive != "pos_enc":
                # Computed from constants alone, as by the networks that make Swin-V2's position tables. Every node is reached
                # from the input, whose distance GHN-3 reads; only positional embeddings are not, in published graphs either.
                preds[index].add(0)
        order = topological(sorted(alive), preds)
        position = {index: k for k, index in enumerate(order)}
        edges = sorted((position[i], position[j]) for j in order for i in preds[j])
        marks: dict[int, Any] = {i: {"side_head": True} for i in side} | {i: {"head": True} for i in head}
        nodes = tuple(replace(self.nodes[i], **marks[i]) if i in marks else self.nodes[i] for i in order)
        placed = {name for node in nodes for name in node.parameters}
        left = [name for name in self.shapes if name not in placed]
        used = (
            parameters_behind(outputs, self._calls)
            if any(name not in self.kept and name not in self.node_of for name in left)
            else set()
        )
        kept = {name: self.kept.get(name, self._why_left(name, used)) for name in left}
        return Graph(nodes, np.array(edges, dtype=np.int64).reshape(-1, 2).T, kept)

    def _why_left(self, name: str, used: set[str]) -> str:
        """Why a parameter has no node, and no rule has said it."""
        return self._dead_end if name in self.node_of else UNCOVERED if name in used else self._unused

    def _resolve(self, nodes: Iterable[int]) -> set[int]:
        """Replaces contracted nodes by their predecessors."""
        result, stack = set[int](), list(nodes)
        while stack:
            node = stack.pop()
            if node in self.contracted:
                stack.extend(self.preds[node])
            else:
                result.add(node)
        return result

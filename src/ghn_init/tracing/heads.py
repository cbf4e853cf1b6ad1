"""Which weights are heads: they make an output, and nothing that is learned comes after them."""

# Axes: B examples, L places of a sequence

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ghn_init.graph import NORM_PRIMITIVES, WEIGHT_PRIMITIVES, Node
from ghn_init.tracing.order import ancestors
from ghn_init.tracing.record import Call, Value

_LEARNED = WEIGHT_PRIMITIVES | NORM_PRIMITIVES
_TURNS = frozenset({"t", "transpose", "permute", "numpy_T", "mT", "swapaxes", "movedim"})


@dataclass(frozen=True)
class Heads:
    """Finds heads in a graph of which all nodes are there.

    Attributes:
        nodes: The graph's.
        preds: Their predecessors; a pool before a head is put behind it.
        recurrent: Numbers of nodes of recurrent cells, whose results are states and never classes.
        calls: All of the run, in execution order.
    """

    nodes: Sequence[Node]
    preds: list[set[int]]
    recurrent: Container[int]
    calls: Sequence[Call]

    def find(self, ends: list[set[int]], outputs: Sequence[Value]) -> tuple[set[int], set[int]]:
        """Weights and biases of the first head and of others.

        Args:
            ends: For each output the nodes whose results it holds.
            outputs: What the model returns.
        """
        heads = [self._head(end, output) for end, output in zip(ends, outputs, strict=True)]
        if ends:
            self._pool_before_head(ends[0], heads[0])
        if len([head for head in heads if head]) > 1:
            alive = ancestors(set().union(*ends), self.preds)
            learned = {p for i in alive if self.nodes[i].primitive in _LEARNED for p in self.preds[i]}
            before = ancestors(learned, self.preds)
            heads = [head for head in heads if not head & before]
        first = next(filter(None, heads), set())
        return first, set().union(*heads) - first

    def _head(self, end: set[int], output: Value) -> set[int]:
        """The weights that make one output, and their biases."""
        weights: set[int] = set()
        stack, seen = list(end), set(end)
        while stack:
            index = stack.pop()
            node = self.nodes[index]
            if node.primitive in NORM_PRIMITIVES or node.primitive == "pos_enc" or index in self.recurrent:
                return set()  # the end of a backbone
            if node.primitive in WEIGHT_PRIMITIVES:
                weights.add(index)
            else:
                stack.extend(self.preds[index] - seen)
                seen |= self.preds[index]
        if not self._make([self.nodes[index].shape or (0,) for index in weights], output):
            return set()
        if weights & ancestors(set().union(*(self.preds[index] for index in weights)), self.preds):
            return set()  # one after the other, as with a residual
        return weights | {i for i in seen if self.nodes[i].primitive == "bias" and self.preds[i] & weights}

    def _make(self, weights: list[tuple[int, ...]], output: Value) -> bool:
        """Whether the last weights have the outputs of a head: those of classes, or of several answers put together.

        Args:
            weights: Their shapes as they are used, outputs first.
            output: What the model returns; its first axis is the batch's.
        """
        widths, shape = {sizes[0] for sizes in weights}, output.shape
        if len(shape) == 2 and widths == {shape[1]}:
            return True
        if not shape or any(len(sizes) != 2 for sizes in weights):
            return False  # convolutions end in maps
        # Of sequences: a map to another width; attention ends in one to its own.
        if len(shape) == 3 and widths == {shape[2]} and all(sizes[0] != sizes[1] for sizes in weights):
            return True
        total = prod(shape[1:])
        if len(shape) == 2:  # a value beside advantages, or side by side
            return widths == {1, total} or sum(sizes[0] for sizes in weights) == total
        return widths == {total} and (len(shape) == 1 or self._is_reshaped(output, (shape[0], total)))

    def _is_reshaped(self, output: Value, vectors: tuple[int, int]) -> bool:
        """Whether the output is (B, outputs) in another shape: maps of (B, L, …) may have as many outputs by coincidence."""
        made: Mapping[Value, Call] = {value: call for call in self.calls for value in call.outputs}
        stack, seen = [output], {output}
        while stack:
            value = stack.pop()
            if value.shape == vectors:
                return True
            call = made.get(value)
            if call is None or _turns_batch(call) or any(v.source == "parameter" and len(v.shape) > 1 for v in call.inputs):
                continue
            before = {v for v in call.inputs if prod(v.shape) == prod(output.shape)} - seen
            stack.extend(before)
            seen |= before
        return False

    def _pool_before_head(self, end: set[int], head: set[int]) -> None:
        """A mean over space commutes with a 1×1 convolution: the published graphs end in the head, never in a pool.

        SqueezeNet's head is such a convolution. With the pool at the end its weight and bias would not be the last two nodes.
        """
        weights = [i for i in head if self.nodes[i].primitive != "bias"]
        if len(end) != 1 or len(weights) != 1:
            return
        (pool,), (weight,) = end, weights
        last = self.preds[pool]
        if self.nodes[pool].primitive != "glob_avg" or not last <= head or len(last) != 1:
            return
        self.preds[pool], self.preds[weight] = self.preds[weight], {pool}
        end.clear()
        end.update(last)


def _turns_batch(call: Call) -> bool:
    """Whether the first axis may come to stand elsewhere."""
    if call.op not in _TURNS:
        return False
    rank = len(call.outputs[0].shape)
    if call.op == "permute":
        return call.args[1][0] % rank != 0
    return rank < 3 or (call.op in ("transpose", "swapaxes") and 0 in (call.args[1] % rank, call.args[2] % rank))

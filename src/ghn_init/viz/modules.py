"""A graph's nodes as a tree of the modules that they are in.

The graph has names for parameters alone. An operation without any is in the innermost module around what it computes with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ghn_init.viz.tree import Unit

if TYPE_CHECKING:
    from ghn_init.graph import Graph, Node

Path = tuple[str, ...]


def module_tree(graph: Graph) -> Unit:
    """The root unit, with a unit for each run of nodes in a module; a layer's bias shares the row of its weight."""
    paths = module_paths(graph)
    biases = set(_own_biases(graph))
    starts = [k for k in range(graph.num_nodes) if k not in biases]
    ends = [*starts[1:], graph.num_nodes]
    names = [(*paths[k], _leaf(graph.nodes[k])) for k in starts]
    rows = [Unit(name[-1], ".".join(name), range(i, j)) for name, i, j in zip(names, starts, ends, strict=True)]
    return Unit("", "", range(graph.num_nodes), _grouped(rows, names, 0))


def _grouped(rows: Sequence[Unit], names: Sequence[Path], depth: int) -> list[Unit]:
    """Rows whose names agree in the component at `depth`, and stand beside each other, are put into a unit."""
    units, start = [], 0
    while start < len(rows):
        end, name = start + 1, names[start]
        if len(name) == depth + 1:
            units.append(rows[start])
        else:
            while end < len(rows) and len(names[end]) > depth + 1 and names[end][depth] == name[depth]:
                end += 1
            nodes = range(rows[start].nodes.start, rows[end - 1].nodes.stop)
            inner = _grouped(rows[start:end], names[start:end], depth + 1)
            units.append(Unit(name[depth], ".".join(name[: depth + 1]), nodes, inner))
        start = end
    return units


def _leaf(node: Node) -> str:
    """The last component of a row's name."""
    return node.parameters[0].rpartition(".")[2] if node.parameters else node.primitive


def _own_biases(graph: Graph) -> Iterator[int]:
    """Biases that directly follow the weight of the same module, and nothing else."""
    outputs, inputs = neighbours(graph)
    for k, node in enumerate(graph.nodes[1:], 1):
        before = graph.nodes[k - 1]
        if node.primitive == "bias" and before.weight is not None and inputs[k] == [k - 1] and outputs[k - 1] == [k]:
            bias, weight = node.parameters[0].rpartition(".")[0], before.weight.rpartition(".")[0]
            if bias == weight and before.primitive != "bias":
                yield k


def neighbours(graph: Graph) -> tuple[list[list[int]], list[list[int]]]:
    """The successors of each node, and its predecessors."""
    outputs: list[list[int]] = [[] for _ in graph.nodes]
    inputs: list[list[int]] = [[] for _ in graph.nodes]
    for i, j in graph.edges:
        outputs[i].append(j)
        inputs[j].append(i)
    return outputs, inputs


def module_paths(graph: Graph) -> list[Path]:
    """The module of each node: of a parameter by its name, of anything else by what is computed around it."""
    outputs, inputs = neighbours(graph)
    own = [tuple(node.parameters[0].split(".")[:-1]) if node.parameters else None for node in graph.nodes]
    following: list[Path | None] = [None] * graph.num_nodes
    for k in range(graph.num_nodes - 2, -1, -1):
        following[k] = following[k + 1] if own[k + 1] is None else own[k + 1]
    found: list[Path] = []  # of what makes no join yet: of what it is made from
    for k, path in enumerate(own):
        if path is None and len(inputs[k]) > 1:
            first = min(inputs[k])
            inside = [other for i in _between(inputs, first, k) if (other := own[i]) is not None]
            if len(outputs[first]) == 1 or not inside:  # else branches begin there, which come together here
                inside += [found[i] for i in inputs[k]]
            path = _common(inside)
        found.append(path if path is not None else found[inputs[k][0]] if inputs[k] else ())
    for k in range(graph.num_nodes - 1, -1, -1):
        if own[k] is None and len(inputs[k]) == 1:
            after = next((j for j in outputs[k] if own[j] is None), None)
            beside = following[k] if after is None else found[after]
            found[k] = found[k][:-1] if beside is None else _common([found[k], beside])
    return found


def _between(inputs: Sequence[Sequence[int]], first: int, last: int) -> set[int]:
    """Nodes after `first` of which `last` is computed."""
    seen: set[int] = set()
    todo = [i for i in inputs[last] if i > first]
    while todo:
        if (k := todo.pop()) not in seen:
            seen.add(k)
            todo += [i for i in inputs[k] if i > first]
    return seen


def _common(paths: Sequence[Path]) -> Path:
    """The innermost module around several; around a single one the module that it is in."""
    first, last = (min(paths), max(paths)) if paths else ((), ())  # what these share all share
    length = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length] if first != last else first[:-1]

"""Parallel layers that a graph doesn't tell apart: they get the same values, and keep them where the model treats them alike.

Branches that are averaged, members of an ensemble, a VAE's `mu` and `logvar`. With noise they learn apart.
Layers one after the other are no twins, nor are queries and keys, or a gate and what it gates: they have different roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ghn_init.graph import Graph
from ghn_init.hypernetwork.slots import Slot
from ghn_init.prediction.prediction import noise_of

NOISE = 0.1
"""Standard deviation of the noise, as a part of the root mean square of what was decoded."""
NOTE = f"{NOISE:.0%} of noise added, to tell it from a parallel layer"
ALIKE = 1e-3
"""Relative difference below which two decoded tensors are the same but for rounding."""
ROLES = frozenset({"msa", "cse"})
"""Primitives that treat what they join differently."""


def twins(graph: Graph, slots: Iterable[Slot], cores: Mapping[str, Tensor]) -> dict[str, str]:
    """Dotted names of weights and embeddings → the first one, parallel to it and with the same decoded values.

    Args:
        graph: The model's.
        slots: Of what is predicted, in topological order.
        cores: Decoded tensors by the slots' names.
    """
    successors: list[list[int]] = [[] for _ in graph.nodes]
    predecessors: list[list[int]] = [[] for _ in graph.nodes]
    for i, j in graph.edges:
        successors[i].append(j)
        predecessors[j].append(i)
    order = range(graph.num_nodes)
    before, after = _signatures(graph, order, predecessors), _signatures(graph, reversed(order), successors)
    below: list[int] | None = None
    first: dict[tuple[int, int], Slot] = {}
    found: dict[str, str] = {}
    for slot in slots:
        if slot.kind not in ("weight", "position"):
            continue
        other = first.setdefault((before[slot.node], after[slot.node]), slot)
        if other.node == slot.node or not _alike(cores[slot.name], cores[other.name]):
            continue
        below = below or _descendants(graph, successors)
        common = below[slot.node] & below[other.node]
        if not common or graph.nodes[(common & -common).bit_length() - 1].primitive not in ROLES:
            found[slot.name] = other.name
    return found


def told_apart(cores: Mapping[str, Tensor], names: Iterable[str], seed: int) -> dict[str, Tensor]:
    """Decoded tensors with noise that depends on nothing but the name and the seed."""
    found = {}
    for name in names:
        core = cores[name]
        noise = torch.randn(core.shape, generator=noise_of(name, seed), dtype=torch.float32, device="cpu").to(core)
        found[name] = core + NOISE * core.square().mean().sqrt() * noise
    return found


def warning(found: Mapping[str, str], apart: bool) -> list[str]:
    """What the report says; nothing where there are no twins.

    Args:
        found: Of `twins`.
        apart: They were told apart.
    """
    if not found:
        return []
    name, other = next(iter(found.items()))
    what = f"parallel layers that the graph does not tell apart: {len(found)} ('{name}' is like '{other}')"
    if apart:
        return [f"{what}; {NOISE:.0%} of noise does"]
    return [f"{what}; they start the same, and stay so where the model treats them alike (condition='balanced' adds noise)"]


def _signatures(graph: Graph, order: Iterable[int], neighbours: list[list[int]]) -> list[int]:
    """A number for each node: the same where nodes are alike, and so is all that leads to them through `neighbours`."""
    numbers: dict[tuple[object, ...], int] = {}
    found = [0] * graph.num_nodes
    for k in order:
        node = graph.nodes[k]
        key = (node.primitive, node.shape, node.transposed, *sorted(found[i] for i in neighbours[k]))
        found[k] = numbers.setdefault(key, len(numbers))
    return found


def _descendants(graph: Graph, successors: list[list[int]]) -> list[int]:
    """Of each node, the set of those that it leads to, as bits."""
    below = [0] * graph.num_nodes
    for k in reversed(range(graph.num_nodes)):
        for j in successors[k]:
            below[k] |= below[j] | 1 << j
    return below


def _alike(core: Tensor, other: Tensor) -> bool:
    return core.shape == other.shape and float((core - other).norm()) <= ALIKE * float(other.norm())

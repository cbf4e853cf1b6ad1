"""The order of nodes: what leads to some, and how a hypernetwork reads all, predecessors first, otherwise as executed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def ancestors(nodes: Iterable[int], preds: Sequence[set[int]]) -> set[int]:
    """`nodes` and everything that leads to them."""
    seen: set[int] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(preds[node])
    return seen


def topological(nodes: list[int], preds: list[set[int]]) -> list[int]:
    """`nodes` so that predecessors come first, otherwise in the order of execution."""
    order: list[int] = []
    done: set[int] = set()
    for root in nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            missing = [p for p in sorted(preds[node], reverse=True) if p not in done]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if node not in done:
                done.add(node)
                order.append(node)
    return order

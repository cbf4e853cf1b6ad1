"""The order in which a hypernetwork reads nodes: predecessors first, otherwise as they were executed."""

from __future__ import annotations


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

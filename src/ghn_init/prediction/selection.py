"""Which of the parameters that have a node keep their values all the same: the head, and what the user leaves out."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from ghn_init.graph import Graph

Head = bool | Literal["auto"]
Patterns = str | Sequence[str]


def left_out(names: Mapping[str, str], graph: Graph, head: Head, only: Patterns | None, exclude: Patterns) -> dict[str, str]:
    """Parameters that the caller wants to keep → the reason.

    Args:
        names: Every dotted name → the one under which its parameter is predicted; several for a tied parameter.
        graph: Their graph.
        head: False leaves the classification head out.
        only: Patterns (`fnmatch`) of the names to predict, or None for all.
        exclude: Patterns of the names to keep.

    Raises:
        ValueError: A pattern matches no name, or `head` is something else.
    """
    if head != "auto" and not isinstance(head, bool):
        raise ValueError(f"head is {head!r}; expected True, False or 'auto'.")
    reasons = dict.fromkeys(_head_parameters(graph), "classification head, left out by head=False") if head is False else {}
    if only is not None:
        wanted = _matching(names, only, "only")
        reasons |= {name: "left out by only" for name in names.values() if name not in wanted}
    return reasons | dict.fromkeys(_matching(names, exclude, "exclude"), "left out by exclude")


def unwritable(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Parameters without elements, without floating values, or in the memory of another one → the reason."""
    reasons: dict[str, str] = {}
    taken: dict[int, list[tuple[int, int, str]]] = {}
    for name, parameter in parameters.items():
        if parameter.numel() == 0:
            reasons[name] = "it has no elements"
        elif not parameter.is_floating_point():
            reasons[name] = f"{parameter.dtype} values are not predicted"
        elif not parameter.is_meta:
            reach = sum(int(size - 1) * step for size, step in zip(parameter.shape, parameter.stride(), strict=True))
            first = int(parameter.storage_offset())
            others = taken.setdefault(parameter.untyped_storage().data_ptr(), [])
            owner = next((other for start, end, other in others if start <= first + reach and first <= end), None)
            if owner is not None:
                reasons[name] = f"it shares memory with '{owner}'"
            others.append((first, first + reach, name))
    return reasons


def other_head(graph: Graph, num_classes: int, head: Head) -> dict[str, str]:
    """With `auto`, the parameters of a head whose number of classes is not the hypernetwork's → the reason."""
    sizes = sorted({(node.shape or (0,))[0] for node in graph.nodes if node.head})
    if head != "auto" or not sizes or sizes == [num_classes]:
        return {}
    reason = f"classification head of {sizes[-1]} classes, the hypernetwork has {num_classes} (head=True predicts it)"
    return dict.fromkeys(_head_parameters(graph), reason)


def _head_parameters(graph: Graph) -> list[str]:
    return [name for node in graph.nodes if node.head for name in node.parameters]


def _matching(names: Mapping[str, str], patterns: Patterns, argument: str) -> set[str]:
    """Names that match one of the patterns, each of which has to match one at least."""
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        own = fnmatch.filter(names, pattern)
        if not own:
            raise ValueError(f"{argument}={pattern!r} matches no parameter; there are {', '.join(list(names)[:5])}, …")
        found.update(names[name] for name in own)
    return found

"""Which of the parameters that have a node keep their values all the same: the head, and what the user leaves out."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Literal

from ghn_init.graph import Graph

Head = bool | Literal["auto"]
Patterns = str | Sequence[str]


def left_out(names: Sequence[str], graph: Graph, head: Head, only: Patterns | None, exclude: Patterns) -> dict[str, str]:
    """Parameters that the caller wants to keep → the reason.

    Args:
        names: Dotted names of all parameters.
        graph: Their graph.
        head: False leaves the classification head out.
        only: Patterns (`fnmatch`) of the names to predict, or None for all.
        exclude: Patterns of the names to keep.

    Raises:
        ValueError: A pattern matches no name, or `head` is something else.
    """
    if head not in (True, False, "auto"):
        raise ValueError(f"head is {head!r}; expected True, False or 'auto'.")
    reasons = dict.fromkeys(_head_parameters(graph), "classification head, left out by head=False") if head is False else {}
    if only is not None:
        wanted = _matching(names, only, "only")
        reasons |= {name: "left out by only" for name in names if name not in wanted}
    return reasons | dict.fromkeys(_matching(names, exclude, "exclude"), "left out by exclude")


def empty(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Parameters of which there is nothing to predict → the reason."""
    return {name: "it has no elements" for name, shape in shapes.items() if 0 in shape}


def other_head(graph: Graph, num_classes: int, head: Head) -> dict[str, str]:
    """With `auto`, the parameters of a head whose number of classes is not the hypernetwork's → the reason."""
    sizes = sorted({(node.shape or (0,))[0] for node in graph.nodes if node.head})
    if head != "auto" or not sizes or sizes == [num_classes]:
        return {}
    reason = f"classification head of {sizes[-1]} classes, the hypernetwork has {num_classes} (head=True predicts it)"
    return dict.fromkeys(_head_parameters(graph), reason)


def _head_parameters(graph: Graph) -> list[str]:
    return [name for node in graph.nodes if node.head for name in node.parameters]


def _matching(names: Sequence[str], patterns: Patterns, argument: str) -> set[str]:
    """Names that match one of the patterns, each of which has to match one at least."""
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        own = fnmatch.filter(names, pattern)
        if not own:
            raise ValueError(f"{argument}={pattern!r} matches no parameter; there are {', '.join(list(names)[:5])}, …")
        found.update(own)
    return found

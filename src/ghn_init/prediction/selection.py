"""What is predicted of a model and what keeps its values, why, and by which task's head: the one place that decides it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ghn_init.graph import Graph
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.prediction.conditioning import Conditioning

Head = bool | str
Patterns = str | Sequence[str]

NOT_AMONG_ONLY, EXCLUDED = "left out by only", "left out by exclude"


@dataclass(frozen=True)
class Selection:
    """The decision for one model.

    Attributes:
        kept: Dotted name of every parameter that keeps its value → the reason; all others are predicted.
        chosen: Those among them that the caller left out.
        task: The task whose head is predicted, or None.
    """

    kept: Mapping[str, str]
    chosen: frozenset[str]
    task: str | None


def select(
    model: nn.Module,
    graph: Graph,
    config: GHNConfig,
    *,
    head: Head = "auto",
    only: Patterns | None = None,
    exclude: Patterns = (),
    conditioning: Conditioning | None = None,
) -> Selection:
    """Decides for every parameter.

    Where several reasons hold, the caller's goes before that of the parameter's memory, and this before the graph's.

    Args:
        model: The user's model.
        graph: Its graph.
        config: The hypernetwork's.
        head: `auto`, True, False, or a task's name, as for `ghn_init.initialize`.
        only: Patterns (`fnmatch`) of the names to predict, or None for all.
        exclude: Patterns of the names to keep.
        conditioning: May leave biases and norms to the model.

    Raises:
        ValueError: A pattern matches no name, or `head` is something else.
    """
    parameters = dict(model.named_parameters())
    by_id = {id(parameter): name for name, parameter in parameters.items()}
    names = {name: by_id[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    task, own_head = _head(model, graph, config, head)
    chosen: dict[str, str] = {}
    if conditioning is not None and not conditioning.vectors:
        chosen |= {name: "left out by vectors=False" for name, parameter in parameters.items() if parameter.dim() < 2}
    if head is False:
        chosen |= dict.fromkeys(_head_parameters(graph), "classification head, left out by head=False")
    if only is not None:
        wanted = _matching(names, only, "only")
        chosen |= {name: NOT_AMONG_ONLY for name in names.values() if name not in wanted}
    chosen |= dict.fromkeys(_matching(names, exclude, "exclude"), EXCLUDED)
    return Selection({**graph.kept, **own_head, **unwritable(parameters), **chosen}, frozenset(chosen), task)


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


def _head(model: nn.Module, graph: Graph, config: GHNConfig, head: Head) -> tuple[str | None, dict[str, str]]:
    """The task whose head is predicted, and the head's parameters that are kept for want of one → the reason."""
    widths = sorted({(node.shape or (0,))[0] for node in graph.nodes if node.head})
    if isinstance(head, str) and head != "auto":
        return _named(config, head, widths), {}
    if head != "auto" and not isinstance(head, bool):
        raise ValueError(f"head is {head!r}; expected True, False, 'auto' or a task: {config.described_tasks}.")
    if not widths or head is False:
        return None, {}
    fitting = config.tasks_with(widths[0]) if len(widths) == 1 else []
    if len(fitting) > 1 and head is True:
        raise ValueError(f"head=True is ambiguous: {' and '.join(fitting)} have {widths[0]} outputs; pass head='{fitting[0]}'.")
    if head is True:
        return next(iter(fitting), None), {}
    if getattr(model, "num_classes", None) == 0:  # timm's mark of a model whose last layer is one like the others
        return None, {}
    if fitting:  # as many classes are not the same classes
        known = f"{' and '.join(fitting)} {'has' if len(fitting) == 1 else 'have'}"
        reason = f"classification head of {widths[0]} classes, as many as {known} (head='{fitting[0]}' predicts it)"
    else:
        reason = f"classification head of {widths[-1]} classes, the hypernetwork has {_numbers(config)} (head=True predicts it)"
    return None, dict.fromkeys(_head_parameters(graph), reason)


def _named(config: GHNConfig, task: str, widths: list[int]) -> str:
    """A task that the caller asked for by name, if its head fits."""
    if task not in config.tasks:
        raise ValueError(f"head is {task!r}; expected True, False, 'auto' or a task: {config.described_tasks}.")
    if widths != [config.tasks[task]]:
        found = f"a classification head of {widths[-1]} outputs" if widths else "no classification head that was found"
        raise ValueError(f"head is {task!r}, a task of {config.tasks[task]} outputs, but the model has {found}.")
    return task


def _numbers(config: GHNConfig) -> str:
    """`10 or 101`."""
    return " or ".join(map(str, sorted(set(config.tasks.values()))))


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

"""What is predicted of a model and what keeps its values, why, and by which task's head: the one place that decides it."""

from __future__ import annotations

import fnmatch
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ghn_init.errors import UnsupportedModelError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.prediction.cautions import beside, is_merged
from ghn_init.prediction.conditioning import Conditioning
from ghn_init.prediction.meaning import frozen_copies, meaningful
from ghn_init.prediction.memory import Range, overlap, reach, share
from ghn_init.tracing.flow import UNREACHED, UNUSED
from ghn_init.tracing.unwrap import taken_off

KNOWN = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.int16, torch.int32, torch.int64),  # masks and counters; narrower ones are somebody's quantised weights
)
Head = bool | str
Patterns = str | Sequence[str]

NOT_AMONG_ONLY, EXCLUDED = "left out by only", "left out by exclude"
NO_HEAD = "classification head, left out by head=False"


@dataclass(frozen=True)
class Selection:
    """The decision for one model.

    Attributes:
        kept: Dotted name of every parameter that keeps its value → the reason; all others are predicted.
        chosen: Those among them that the caller left out.
        task: The task whose head is predicted, or None.
        copies: Frozen copies of what is predicted → the name of the original, with which they stay the same.
        overwritten: Those whose present values count for nothing.
    """

    kept: Mapping[str, str]
    chosen: frozenset[str]
    task: str | None
    copies: Mapping[str, str] = field(default_factory=dict)
    overwritten: frozenset[str] = frozenset()


def select(
    model: nn.Module,
    graph: Graph,
    config: GHNConfig,
    *,
    head: Head = "auto",
    only: Patterns | None = None,
    exclude: Patterns = (),
    overwrite: Patterns = (),
    conditioning: Conditioning | None = None,
) -> Selection:
    """Decides for every parameter.

    Where several reasons hold, the caller's goes before that of the parameter's memory, this before what its value means, and
    this before the graph's.

    Args:
        model: The user's model.
        graph: Its graph.
        config: The hypernetwork's.
        head: `auto`, True, False, or a task's name, as for `ghn_init.initialize`.
        only: Patterns (`fnmatch`) of the names to predict, or None for all.
        exclude: Patterns of the names to keep.
        overwrite: Patterns of names whose values count for nothing: predicted although they are frozen, zero, or another start
            on purpose.
        conditioning: May leave biases and norms to the model.

    Raises:
        ValueError: A pattern matches no name, or `head` is something else.
        UnsupportedModelError: Complex or quantised parameters would have to be predicted.
    """
    parameters = dict(model.named_parameters())
    by_id = {id(parameter): name for name, parameter in parameters.items()}
    names = {name: by_id[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    task, own_head = _head(model, graph, config, head)
    chosen: dict[str, str] = {}
    if conditioning is not None and not conditioning.vectors:
        chosen |= {name: "left out by vectors=False" for name, parameter in parameters.items() if parameter.dim() < 2}
    if head is False:
        chosen |= dict.fromkeys(_head_parameters(graph), NO_HEAD)
    if only is not None:
        wanted = _matching(names, only, "only")
        chosen |= {name: NOT_AMONG_ONLY for name in names.values() if name not in wanted}
    chosen |= dict.fromkeys(_matching(names, exclude, "exclude"), EXCLUDED)
    no_meaning = _matching(names, overwrite, "overwrite")
    meaning = {name: why for name, why in meaningful(graph, parameters).items() if name not in no_meaning}
    impossible = unwritable(parameters)
    _refuse_kinds(parameters, {*chosen, *meaning}, graph.kept)
    kept = {**_explained(model, graph.kept), **own_head, **meaning, **impossible, **chosen}
    copies = {
        name: original
        for name, original in frozen_copies(parameters).items()
        if name in meaning and original not in kept and name not in chosen and name not in impossible
    }
    kept = {name: why for name, why in kept.items() if name not in copies}
    return Selection(kept, frozenset(chosen), task, copies, frozenset(no_meaning))


def _explained(model: nn.Module, kept: Mapping[str, str]) -> dict[str, str]:
    """Why parameters are kept; of those that aren't used, what may take their place."""
    parameters = dict(model.named_parameters())
    reasons = dict(kept)
    for name in (name for name, why in kept.items() if why in (UNUSED, UNREACHED) and name in parameters):
        owner = model.get_submodule(name.rpartition(".")[0])
        held = [key for key, tensor in beside(model, name).items() if tensor.shape == parameters[name].shape]
        if is_merged(owner):
            reasons[name] = f"{kept[name]}: its module says that it is merged into another weight"
        elif held:
            reasons[name] = f"{kept[name]}; '{held[0]}', stored beside it, may stand for it: clear such a cache first"
    return reasons


def _refuse_kinds(parameters: Mapping[str, Tensor], left_out: Container[str], unplaced: Container[str]) -> None:
    """Raises where a model's values are of a kind that has no prediction, and nobody left them out.

    Complex ones that have no place in the graph would not be written.
    """
    kinds = {name: f"{type(p).__name__} of {p.dtype}" for name, p in parameters.items() if name not in left_out}
    complex_ = [name for name in kinds if parameters[name].is_complex() and parameters[name].requires_grad]
    complex_ = [name for name in complex_ if name not in unplaced]
    unknown = [name for name in kinds if not (parameters[name].is_complex() or parameters[name].dtype in KNOWN)]
    # Integers beside weights that are trained are a frozen part, as under adapters; without such, the model is quantised.
    trained = any(p.requires_grad and p.is_floating_point() and p.dim() > 1 for p in parameters.values())
    narrow = [name for name in unknown if parameters[name].is_floating_point() or not trained]
    names = [*complex_, *narrow]
    if names:
        shown = ", ".join(f"'{name}' is {kinds[name]}" for name in names[:5])
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        ways = ["freeze complex parameters, which have no prediction"] * bool(complex_) + [
            "initialise before quantising"
        ] * bool(narrow)
        raise UnsupportedModelError(f"{shown}{more}; {', '.join(ways)}, or leave them out by exclude=[…].")


def unwritable(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Parameters without elements, without floating values, or in the memory of another one → the reason."""
    reasons: dict[str, str] = {}
    taken: dict[int, list[tuple[Range, str]]] = {}
    for name, parameter in parameters.items():
        if parameter.numel() == 0:
            reasons[name] = "it has no elements"
        elif not parameter.is_floating_point():
            reasons[name] = f"{parameter.dtype} values are not predicted"
        elif not parameter.is_meta:
            own = reach(parameter)
            others = taken.setdefault(parameter.untyped_storage().data_ptr(), [])
            near = (other for there, other in others if overlap(own, there))
            owner = next((other for other in near if share(parameter, parameters[other])), None)
            if owner is not None:
                reasons[name] = f"it shares memory with '{owner}'"
            others.append((own, name))
    return reasons


def _head(model: nn.Module, graph: Graph, config: GHNConfig, head: Head) -> tuple[str | None, dict[str, str]]:
    """The task whose head is predicted, and parameters of heads that are kept for want of one → the reason.

    One rule for each of several heads: it is predicted where it has as many outputs as the task.
    """
    heads = _heads(graph)
    widths = sorted(heads)
    if isinstance(head, str) and head != "auto":
        task = _named(config, head, widths)
        return task, _reasons({width: names for width, names in heads.items() if width != config.tasks[task]}, config)
    if head != "auto" and not isinstance(head, bool):
        raise ValueError(f"head is {head!r}; expected True, False, 'auto' or a task: {config.described_tasks}.")
    if not widths or head is False:
        return None, {}
    fitting = {width: config.tasks_with(width) for width in widths}
    if head is True:
        several = fitting[widths[0]] if len(widths) == 1 else []
        if len(several) > 1:
            names = " and ".join(several)
            raise ValueError(f"head=True is ambiguous: {names} have {widths[0]} outputs; pass head='{several[0]}'.")
        return next(iter(several), None), {}
    if getattr(taken_off(model)[0], "num_classes", None) == 0:  # timm's mark of a model whose last layer is one like the others
        return None, {}
    return None, _reasons(heads, config)


def _heads(graph: Graph) -> dict[int, list[str]]:
    """Numbers of outputs → parameters of the heads that have as many."""
    heads: dict[int, list[str]] = {}
    for node in graph.nodes:
        if node.head or node.side_head:
            heads.setdefault((node.shape or (0,))[0], []).extend(node.parameters)
    return heads


def _reasons(heads: Mapping[int, list[str]], config: GHNConfig) -> dict[str, str]:
    """Why heads are kept; as many classes as a task has are not the same classes."""
    reasons: dict[str, str] = {}
    for width, names in heads.items():
        fitting = config.tasks_with(width)
        kind = "head of one output" if width == 1 else f"classification head of {width} classes"
        if fitting:
            known = f"{' and '.join(fitting)} {'has' if len(fitting) == 1 else 'have'}"
            reason = f"{kind}, as many as {known} (head='{fitting[0]}' predicts it)"
        else:
            reason = f"{kind}, the hypernetwork has {_numbers(config)} (head=True predicts it)"
        reasons |= dict.fromkeys(names, reason)
    return reasons


def _named(config: GHNConfig, task: str, widths: list[int]) -> str:
    """A task that the caller asked for by name, if its head fits."""
    if task not in config.tasks:
        raise ValueError(f"head is {task!r}; expected True, False, 'auto' or a task: {config.described_tasks}.")
    if config.tasks[task] not in widths:
        found = f"a classification head of {widths[-1]} outputs" if widths else "no classification head that was found"
        raise ValueError(f"head is {task!r}, a task of {config.tasks[task]} outputs, but the model has {found}.")
    return task


def _numbers(config: GHNConfig) -> str:
    """`10 or 101`."""
    return " or ".join(map(str, sorted(set(config.tasks.values()))))


def _head_parameters(graph: Graph) -> list[str]:
    return [name for names in _heads(graph).values() for name in names]


def _matching(names: Mapping[str, str], patterns: Patterns, argument: str) -> set[str]:
    """Names that match one of the patterns, each of which has to match one at least.

    A name matches itself, whatever is in it; brackets of names (`blocks.h[0]`) are brackets where no set of characters fits.
    """
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        own = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        own = own or fnmatch.filter(names, pattern.replace("[", "[[]"))
        if not own:
            raise ValueError(f"{argument}={pattern!r} matches no parameter; there are {', '.join(list(names)[:5])}, …")
        found.update(names[name] for name in own)
    return found

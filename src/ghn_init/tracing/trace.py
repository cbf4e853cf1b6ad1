"""Model → its architecture graph, and the record of the run that it was read off. Everything that reads a model comes here."""

from __future__ import annotations

import contextlib
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ghn_init.errors import TraceError
from ghn_init.graph import Graph
from ghn_init.tracing import branches  # noqa: F401  (it registers its rule)
from ghn_init.tracing.alone import eagerly
from ghn_init.tracing.flow import UNREACHED, UNUSED
from ghn_init.tracing.gradients import DifferentiatesError, WithoutGradients, is_about_gradients, no_transformations
from ghn_init.tracing.holders import mapped, tensors_in
from ghn_init.tracing.inputs import Inputs, candidates, wanted
from ghn_init.tracing.record import Record, record_calls
from ghn_init.tracing.refusals import refused
from ghn_init.tracing.rules import WHOLE, build_graph
from ghn_init.tracing.untouched import Draws, untouched
from ghn_init.tracing.unwrap import unwrap

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trace:
    """What one run of a model showed.

    Attributes:
        graph: The architecture graph.
        record: The run's calls, whose parameters have the names that they have inside of wrappers.
        inputs: What it ran on.
    """

    graph: Graph
    record: Record
    inputs: Inputs


def trace(model: nn.Module, example_inputs: Any = None) -> Graph:
    """Reads the architecture graph off one run of the model.

    The run is on meta tensors (no data, no arithmetic); where the model's Python looks at values, a real run on copies
    of its parameters follows. The model and all random states are as before afterwards.

    Args:
        model: Any module; wrappers (`torch.compile`, DataParallel, DistributedDataParallel) are taken off.
        example_inputs: A tensor, a tuple of positional arguments or a dict of keyword arguments for one forward pass. By
            default from the model's timm or transformers configuration, else a batch of two 3-channel 224 px images,
            else what the first layer accepts.

    Returns:
        The graph; parameter names as in `model.named_parameters()`.

    Raises:
        UnsupportedModelError: Sharded, offloaded, quantised, lazy or no parameters.
        TraceError: The forward pass fails on the inputs, or takes gradients.

    Example:
        >>> import ghn_init, torch
        >>> ghn_init.trace(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())).primitives
        {'input': 1, 'conv': 1, 'bias': 1}
    """
    return read(model, example_inputs).graph


def read(model: nn.Module, example_inputs: Any = None) -> Trace:
    """As `trace`, with the record of the run as well."""
    inner, prefix = unwrap(model)
    with eagerly():
        found = _read(inner, example_inputs)
    return replace(found, graph=found.graph.with_prefix(prefix)) if prefix else found


def read_in_eval_mode(model: nn.Module, example_inputs: Any) -> Trace:
    """As `read`, of the run in eval mode alone; for a model without wrappers. Some give other outputs in training mode.

    Raises:
        TraceError: The forward pass fails on the inputs, or takes gradients.
    """
    inputs = next(candidates(model, example_inputs))
    failures: list[tuple[Inputs, Exception]] = []
    with eagerly():
        for on_meta in (True, False):
            if not on_meta:
                _say_that_it_runs(model, failures)
            found = _attempt(model, inputs, on_meta, False, failures)
            if found is not None:
                return found
    raise _failed(model, failures) from failures[-1][1]


def _read(model: nn.Module, example_inputs: Any) -> Trace:
    """In training mode auxiliary heads run too; eval mode is tried where that fails, differentiates or leaves some unused."""
    tried = list(candidates(model, example_inputs))
    failures: list[tuple[Inputs, Exception]] = []
    for on_meta in (True, False):
        if not on_meta:
            _say_that_it_runs(model, failures)
        fallback: Trace | None = None
        left = tried if on_meta else tried[:1]
        while left:
            inputs, *left = left
            training = _attempt(model, inputs, on_meta, True, failures)
            if training is None and fallback is not None:
                continue
            if training is not None and not {UNUSED, UNREACHED} & set(training.graph.kept.values()):
                return training
            evaluating = _attempt(model, inputs, on_meta, False, failures)
            if training is not None:
                return training if evaluating is None else min(training, evaluating, key=lambda found: len(found.graph.kept))
            if evaluating is not None:  # training mode may work at another guessed size: auxiliary heads take larger images
                fallback, left = evaluating, _larger_first(left, inputs)
        if fallback is not None:
            return fallback
    raise _failed(model, failures, len(tried) - 1) from failures[-1][1]


def _say_that_it_runs(model: nn.Module, failures: list[tuple[Inputs, Exception]]) -> None:
    """Why it takes long."""
    why = type(failures[-1][1]).__name__
    log.info("%s: running the model on real tensors, since shapes alone did not do (%s)", type(model).__name__, why)


def _larger_first(others: list[Inputs], inputs: Inputs) -> list[Inputs]:
    """Those that are larger than `inputs` by their size, then the smaller ones."""

    def size(some: Inputs) -> int:
        return sum(tensor.numel() for tensor in tensors_in((some.args, some.kwargs)))

    return sorted(others, key=lambda other: (size(other) < size(inputs), size(other)))


def _failed(model: nn.Module, failures: list[tuple[Inputs, Exception]], other_guesses: int = 0) -> TraceError:
    """In words the last failure, or why no other inputs would help."""
    why = refused(model, failures)
    if why is not None:
        return TraceError(why)
    inputs, error = failures[-1]
    others = f" ({other_guesses} other guesses failed too)" if other_guesses else ""
    told = f"{type(error).__name__}: {str(error).removesuffix('.')}"
    return TraceError(
        f"the forward pass of {type(model).__name__} failed on {inputs}{others}: {told}. Pass what it takes: {wanted(inputs)}."
    )


def _attempt(
    model: nn.Module, inputs: Inputs, on_meta: bool, training: bool, failures: list[tuple[Inputs, Exception]]
) -> Trace | None:
    """One run; whatever the user's forward raises is added to `failures`."""
    try:
        record = _run(model, inputs, on_meta, training, contextlib.nullcontext())
    except Exception as error:
        failures.append((inputs, error))
        if isinstance(error, DifferentiatesError) or not is_about_gradients(error):
            return None
        try:
            record = _run(model, inputs, on_meta, training, WithoutGradients())
        except Exception as another:
            failures[-1] = (inputs, another)
            return None
    graph = build_graph(record)  # what fails here is a rule, and no other inputs would help
    return Trace(_with_padding(graph, model), record, inputs)


def _with_padding(graph: Graph, model: nn.Module) -> Graph:
    """Tables whose module has a row of padding, also where the forward takes the weight without the module."""
    rows_of = ((module, getattr(module, "padding_idx", None)) for module in model.modules())
    padded = [(module._parameters.get("weight"), row) for module, row in rows_of if isinstance(row, int)]
    if not padded:
        return graph
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = {names[id(weight)]: row for weight, row in padded if weight is not None}
    nodes = tuple(
        replace(node, padding=rows[node.weight])
        if node.primitive == "pos_enc" and node.weight in rows and node.padding is None
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes)


def _run(model: nn.Module, inputs: Inputs, on_meta: bool, training: bool, mode: AbstractContextManager[Any]) -> Record:
    """One run under a mode."""
    with untouched(model, inputs.args, inputs.kwargs) as before, no_transformations():
        _set_mode(model, training)
        draws = Draws()
        with mode:
            record = _record(model, inputs, on_meta)
        return replace(record, chooses=not on_meta or draws.made() or before.drew())


def _set_mode(model: nn.Module, training: bool) -> None:
    """Training mode leaves out the leaves without parameters: dropout and stochastic depth drop nothing."""
    for module in model.modules():
        module.training = training and bool(module._modules or module._parameters)


def _record(model: nn.Module, inputs: Inputs, on_meta: bool) -> Record:
    args, kwargs = inputs.args, inputs.kwargs
    if not on_meta:
        args, kwargs = _made_real(model, inputs)
    return record_calls(model, args, kwargs, WHOLE, on_meta)


def _made_real(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Meta tensors among the inputs become zeros where the model lives; the user's own tensors stay as they are."""
    device = next(model.parameters()).device

    def real(value: torch.Tensor) -> torch.Tensor:
        if value.is_meta:
            return torch.zeros_like(value, device=device)
        return value.to(device) if inputs.origin != "example_inputs" else value

    args, kwargs = mapped(real, (tuple(inputs.args), dict(inputs.kwargs)))
    return args, kwargs

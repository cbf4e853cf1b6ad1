"""Model → its architecture graph, and the record of the run that it was read off. Everything that reads a model comes here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ghn_init.errors import TraceError
from ghn_init.graph import Graph
from ghn_init.tracing.flow import UNUSED
from ghn_init.tracing.inputs import Inputs, candidates
from ghn_init.tracing.record import Record, record_calls
from ghn_init.tracing.rules import WHOLE, build_graph
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import unwrap


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
        UnsupportedModelError: Sharded, quantised, complex, lazy or no parameters.
        TraceError: The forward pass fails on the inputs.

    Example:
        >>> import ghn_init, torch
        >>> ghn_init.trace(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())).primitives
        {'input': 1, 'conv': 1, 'bias': 1}
    """
    return read(model, example_inputs).graph


def read(model: nn.Module, example_inputs: Any = None) -> Trace:
    """As `trace`, with the record of the run as well."""
    inner, prefix = unwrap(model)
    with torch.compiler.set_stance("force_eager"):
        found = _read(inner, example_inputs)
    return replace(found, graph=found.graph.with_prefix(prefix)) if prefix else found


def read_in_eval_mode(model: nn.Module, example_inputs: Any) -> Trace:
    """As `read`, of the run in eval mode alone; for a model without wrappers. Some give other outputs in training mode.

    Raises:
        TraceError: The forward pass fails on the inputs.
    """
    inputs = next(candidates(model, example_inputs))
    failures: list[tuple[Inputs, Exception]] = []
    with torch.compiler.set_stance("force_eager"):
        for on_meta in (True, False):
            found = _attempt(model, inputs, on_meta, False, failures)
            if found is not None:
                return found
    raise _failed(model, failures) from failures[-1][1]


def _read(model: nn.Module, example_inputs: Any) -> Trace:
    """In training mode auxiliary heads run too; eval mode is tried where that fails or leaves parameters unused."""
    tried = list(candidates(model, example_inputs))
    failures: list[tuple[Inputs, Exception]] = []
    for on_meta in (True, False):
        fallback: Trace | None = None
        for inputs in tried if on_meta else tried[:1]:
            training = _attempt(model, inputs, on_meta, True, failures)
            if training is not None and UNUSED not in training.graph.kept.values():
                return training
            evaluating = _attempt(model, inputs, on_meta, False, failures)
            if training is not None:
                return training if evaluating is None else min(training, evaluating, key=lambda found: len(found.graph.kept))
            fallback = fallback or evaluating  # training mode may work at another guessed size
        if fallback is not None:
            return fallback
    raise _failed(model, failures, len(tried) - 1) from failures[-1][1]


def _failed(model: nn.Module, failures: list[tuple[Inputs, Exception]], other_guesses: int = 0) -> TraceError:
    """The last failure in words."""
    inputs, error = failures[-1]
    others = f" ({other_guesses} other guesses failed too)" if other_guesses else ""
    return TraceError(
        f"the forward pass of {type(model).__name__} failed on {inputs}{others}: {type(error).__name__}: {error}. "
        f"Pass what it takes: example_inputs=tensor, a tuple of positional or a dict of keyword arguments."
    )


def _attempt(
    model: nn.Module, inputs: Inputs, on_meta: bool, training: bool, failures: list[tuple[Inputs, Exception]]
) -> Trace | None:
    """One run; whatever the user's forward raises is added to `failures`."""
    try:
        with untouched(model):
            _set_mode(model, training)
            record = _record(model, inputs, on_meta)
    except Exception as error:
        failures.append((inputs, error))
        return None
    return Trace(build_graph(record), record, inputs)  # what fails here is a rule, and no other inputs would help


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

    def real(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and (value.is_meta or inputs.origin != "example_inputs"):
            return torch.zeros_like(value, device=device) if value.is_meta else value.to(device)
        return value

    return tuple(real(arg) for arg in inputs.args), {key: real(arg) for key, arg in inputs.kwargs.items()}

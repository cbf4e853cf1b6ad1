"""A model as a function of decoded cores and inputs: predicted parameters are filled, kept ones hold the model's own values."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import UnsupportedModelError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.slots import Slot, fill, slots_of
from ghn_init.models.made_of import made_of
from ghn_init.prediction.meaning import meaningful
from ghn_init.prediction.selection import unwritable
from ghn_init.tracing.trace import Trace, read
from ghn_init.tracing.unwrap import unwrap


@dataclass(frozen=True, eq=False)
class Functional:
    """A model without parameters of its own, differentiable with respect to what is predicted for it.

    Attributes:
        module: A copy in eval mode (no dropout), its parameters on the meta device; batch norms use the batch's statistics.
        graph: Its architecture graph.
        slots: The parameters that are predicted.
        kept: Dotted name of each other one → the model's own value.
    """

    module: nn.Module
    graph: Graph
    slots: tuple[Slot, ...]
    kept: Mapping[str, Tensor]

    def fill(self, cores: Mapping[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """All parameters by dotted name, those that are predicted filled from decoded cores; `generator` as of `slots.fill`."""
        return {**self.kept, **{slot.name: fill(slot, cores[slot.name], generator) for slot in self.slots}}

    def __call__(self, parameters: Mapping[str, Tensor], *inputs: Any) -> Any:
        """Runs the module on parameters; nothing is written into it."""
        return torch.func.functional_call(self.module, dict(parameters), inputs)


def functional(model: nn.Module, example_inputs: Any, device: torch.device | str = "cpu") -> tuple[Functional, Trace]:
    """Takes a model, which is left as it is, for its functional form.

    Args:
        model: Any that `ghn_init.trace` takes.
        example_inputs: Likewise.
        device: Where it will run.

    Returns:
        The functional form, and what tracing it showed.

    Raises:
        UnsupportedModelError: As `ghn_init.trace`, or the model can't be copied, or it is on the meta device, where there are
            no values, but parts of it keep theirs.
        TraceError: As `ghn_init.trace`.
    """
    inner, _ = unwrap(model)
    found = read(inner, example_inputs)
    parameters = dict(inner.named_parameters())
    reasons = {**found.graph.kept, **meaningful(found.graph, parameters), **unwritable(parameters)}
    missing = [name for name in reasons if parameters[name].is_meta]
    if missing:
        raise UnsupportedModelError(
            f"'{missing[0]}' of {type(inner).__name__} keeps its value ({reasons[missing[0]]}), but the model is on the meta "
            f"device, without values; make it on the CPU."
        )
    kept = {name: parameters[name].detach().clone().to(device) for name in reasons}
    slots = tuple(slots_of(found.graph, found.record.parameters, kept))
    return Functional(_without_parameters(inner, torch.device(device)), found.graph, slots, kept), found


def _without_parameters(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy in eval mode that holds no parameters and no running statistics, its buffers on `device`."""
    empty = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    try:
        copied = copy.deepcopy(module, empty).eval()  # type: ignore[arg-type]
    except Exception as error:  # whatever the model holds
        raise UnsupportedModelError(f"{type(module).__name__} can't be copied ({type(error).__name__}: {error}).") from error
    for part in copied.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
    return copied


def told_apart(modules: Sequence[nn.Module]) -> str:
    """`6 modules 1f0c…`: how many, and a digest of what they are made of, not of their values."""
    digest = hashlib.sha256("\n".join(map(made_of, modules)).encode())
    return f"{len(modules)} modules {digest.hexdigest()[:12]}"

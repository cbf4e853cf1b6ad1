"""A network ready to run on predicted parameters: its module on the meta device, its graph, its slots."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ghn_init.errors import TrainingError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.slots import Slot, fill, slots_of
from ghn_init.tracing.record import record_calls
from ghn_init.tracing.rules import WHOLE, build_graph
from ghn_init.training import cost


@dataclass(frozen=True)
class Network:
    """A module without parameters of its own, its graph, and what has to be predicted for it.

    Attributes:
        module: A copy in eval mode (no dropout), its parameters on the meta device; batch norms use the batch's statistics.
        graph: Its architecture graph.
        slots: Its parameters.
        seconds: Estimated cost of a step with 64 images on a CPU core.
    """

    module: nn.Module
    graph: Graph
    slots: tuple[Slot, ...]
    seconds: float

    @classmethod
    def of(cls, module: nn.Module, num_classes: int, image_size: int = 32, device: torch.device | str = "cpu") -> Network:
        """Traces a module, which is left as it is.

        Args:
            module: (B, 3, H, W) → (B, classes).
            num_classes: The hypernetwork's classes.
            image_size: H = W in pixels.
            device: Where it will run.

        Raises:
            TrainingError: It has parameters that no primitive covers.
        """
        record = record_calls(module, (torch.empty(2, 3, image_size, image_size, device="meta"),), {}, WHOLE)
        graph = build_graph(record)
        if graph.kept:
            raise TrainingError(
                f"these parameters can't be predicted: {dict(graph.kept)}; leave them out of training networks."
            )
        slots = tuple(slots_of(graph, record.parameters, num_classes))
        return cls(_without_parameters(module, torch.device(device)), graph, slots, cost.seconds(record))

    def fill(self, cores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All parameters from decoded cores, by dotted name; differentiable with respect to them."""
        return {slot.name: fill(slot, cores[slot.name]) for slot in self.slots}

    def __call__(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Runs the module on parameters; nothing is written into it."""
        return torch.func.functional_call(self.module, dict(parameters), (x,))


def _without_parameters(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy in eval mode that holds no parameters and no running statistics, its buffers on `device`."""
    empty = {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in module.parameters()}
    copied = copy.deepcopy(module, empty).eval()  # type: ignore[arg-type]
    for part in copied.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(device)
    return copied

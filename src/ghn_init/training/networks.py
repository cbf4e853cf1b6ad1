"""A network ready to run on predicted parameters: its module on the meta device, its graph, its slots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ghn_init.errors import TrainingError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.slots import Slot, fill, slots_of
from ghn_init.tracing.record import record_calls
from ghn_init.tracing.rules import WHOLE, build_graph


@dataclass(frozen=True)
class Network:
    """A module without parameters of its own, its graph, and what has to be predicted for it."""

    module: nn.Module
    graph: Graph
    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, module: nn.Module, num_classes: int, image_size: int = 32) -> Network:
        """Traces a module.

        Raises:
            TrainingError: It has parameters that no primitive covers.
        """
        record = record_calls(module, (torch.empty(2, 3, image_size, image_size, device="meta"),), {}, WHOLE)
        graph = build_graph(record)
        if graph.kept:
            raise TrainingError(
                f"these parameters can't be predicted: {dict(graph.kept)}; leave them out of training networks."
            )
        return cls(module, graph, tuple(slots_of(graph, record.parameters, num_classes)))

    def __call__(self, cores: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Runs the network on parameters filled from decoded cores; differentiable with respect to them."""
        parameters = {slot.name: fill(slot, cores[slot.name]) for slot in self.slots}
        return torch.func.functional_call(self.module, parameters, (x,))

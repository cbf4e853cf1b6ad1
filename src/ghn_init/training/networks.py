"""A network of the pool: its functional form, the task that it is trained on, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ghn_init.errors import GHNInitError, TrainingError
from ghn_init.prediction import cost
from ghn_init.prediction.functional import Functional, functional
from ghn_init.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Network(Functional):
    """A network ready to run on predicted parameters.

    Attributes:
        task: What it is trained on.
        seconds: Estimated cost of a step with 64 examples on a CPU core.
    """

    task: Task
    seconds: float

    @classmethod
    def of(cls, module: nn.Module, task: Task, device: torch.device | str = "cpu") -> Network:
        """Traces a module, which is left as it is, on the task's example inputs.

        Raises:
            TrainingError: It can't be traced on them, has not as many outputs as the task, or has nothing that is predicted.
        """
        try:
            form, found = functional(module, task.example_inputs(), device)
        except GHNInitError as error:
            raise TrainingError(f"a network of the task {task.name!r} can't be trained on: {error}") from error
        shape = found.record.outputs[0].shape
        if not shape or shape[-1] != task.outputs:
            raise TrainingError(
                f"{type(module).__name__} returns a tensor of shape {shape}; the task {task.name!r} needs {task.outputs} "
                f"outputs in its last axis."
            )
        if not form.slots:
            raise TrainingError(f"nothing of {type(module).__name__} is predicted: {dict(found.graph.kept)}; leave it out.")
        return cls(form.module, form.graph, form.slots, form.kept, task, cost.seconds(found.record))

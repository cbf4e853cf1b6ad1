"""Several processes that train together through Accelerate, on cores, on one GPU or more, on several machines; its trackers.

`accelerate launch` starts them on GPUs, `torchrun` on cores too (Accelerate's own launcher needs MPI there).

Each takes its share of a step's networks; gradients are added up. Small networks gain little from a second thread inside of
one: two processes of one thread each are about 1.4 times faster. More processes than GPUs share them: small networks are bound
by the launching of kernels, not by arithmetic. Without a launcher there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ghn_init.errors import TrainingError

T = TypeVar("T")


class Workers:
    """This process's place among all.

    As a context it leaves Accelerate's settings, which are those of a process, as it found them, so that the caller's own
    `Accelerator` may have others afterwards; several processes keep their group.

    Args:
        trackers: Accelerate's names of those that are told what a step gave: `tensorboard`, `wandb`, `mlflow`, ….
        folder: Of the run; its name is the trackers' project.

    Raises:
        TrainingError: Accelerate is missing, or a tracker is unknown or not installed.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        device: Where this process computes.
    """

    def __init__(self, trackers: Sequence[str] = (), folder: Path | None = None) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.state import AcceleratorState, GradientState, PartialState
            from accelerate.tracking import get_available_trackers
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError as error:
            raise TrainingError(f"training needs its extra ({error}): pip install 'ghn_init[train]'.") from error

        available = [str(kind) for kind in get_available_trackers()]
        if missing := [name for name in trackers if name not in available]:
            raise TrainingError(f"there is no tracker {missing[0]!r} here; installed are {', '.join(available) or 'none'}.")
        states = [state._shared_state for state in (GradientState, AcceleratorState, PartialState)]
        self._before = [(state, dict(state)) for state in states]
        gpus = torch.cuda.device_count()
        shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus > 0  # NCCL refuses two processes on one GPU
        handlers = [InitProcessGroupKwargs(backend="gloo")] if shared else None
        logs = {"log_with": list(trackers), "project_dir": folder} if trackers else {}
        self._accelerator = Accelerator(cpu=gpus == 0, kwargs_handlers=handlers, **logs)
        self._folder = folder
        self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.size == 1:
            for state, before in self._before:
                state.clear()
                state.update(before)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items, a stretch of them."""
        return list(items[self.rank * len(items) // self.size : (self.rank + 1) * len(items) // self.size])

    @contextmanager
    def tracking(self, settings: Mapping[str, str | float]) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """Gives what tells the trackers a step's scalars; they are told the run's settings first."""
        if self._folder is not None and self._accelerator.log_with:
            self._accelerator.init_trackers(self._folder.name, dict(settings))
        try:
            yield lambda scalars, step: self._accelerator.log(dict(scalars), step=step)
        finally:
            for tracker in self._accelerator.trackers:
                tracker.finish()  # Accelerate's own end of training would end the processes' group too

    def wait(self) -> None:
        """Returns when all processes are here."""
        self._accelerator.wait_for_everyone()

    def sum(self, tensors: Iterable[Tensor], *numbers: float) -> list[float]:
        """Adds tensors up over all processes, in place, and numbers with them."""
        if self.size == 1:
            return list(numbers)
        tensors = list(tensors)
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), torch.tensor(numbers, device=self.device)])
        flat = self._accelerator.reduce(flat, "sum")
        pieces = flat.split([*(tensor.numel() for tensor in tensors), len(numbers)])
        for tensor, piece in zip(tensors, pieces, strict=False):
            tensor.copy_(piece.view_as(tensor))
        return pieces[-1].tolist()

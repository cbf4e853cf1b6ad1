"""Several processes that train together through Accelerate: on cores, on one GPU or more, on several machines.

`accelerate launch` starts them on GPUs, `torchrun` on cores too (Accelerate's own launcher needs MPI there).

Each takes its share of a step's networks; gradients are added up. Small networks gain little from a second thread inside of
one: two processes of one thread each are about 1.4 times faster. More processes than GPUs share them: small networks are bound
by the launching of kernels, not by arithmetic. Without a launcher there is one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from ghn_init.errors import TrainingError

T = TypeVar("T")


class Workers:
    """This process's place among all.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        device: Where this process computes.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs
        except ImportError as error:
            raise TrainingError(f"training needs its extra ({error}): pip install 'ghn_init[train]'.") from error

        gpus = torch.cuda.device_count()
        shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > gpus > 0  # NCCL refuses two processes on one GPU
        handlers = [InitProcessGroupKwargs(backend="gloo")] if shared else None
        self._accelerator = Accelerator(cpu=gpus == 0, kwargs_handlers=handlers)
        self.rank, self.size = self._accelerator.process_index, self._accelerator.num_processes
        self.device = self._accelerator.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items, a stretch of them."""
        return list(items[self.rank * len(items) // self.size : (self.rank + 1) * len(items) // self.size])

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

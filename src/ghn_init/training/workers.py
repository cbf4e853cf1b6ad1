"""Several processes that train together: each takes its share of a step's networks, gradients are averaged.

Small networks gain little from a second thread inside of one; two processes of one thread each are about 1.4 times faster.
Start them with `torchrun --nproc-per-node 2 …`; without it there is one process, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """This process's place among all: `rank` of `size`."""

    rank: int
    size: int

    @classmethod
    def join(cls) -> Workers:
        """Joins the processes that `torchrun` started."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")
        return cls(int(os.environ.get("RANK", "0")), size)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's items."""
        return list(items[self.rank :: self.size])

    def wait(self) -> None:
        """Returns when all processes are here."""
        if self.size > 1:
            dist.barrier()

    def average(self, tensors: Iterable[Tensor], *numbers: float) -> list[float]:
        """Averages tensors over all processes, in place, and numbers with them."""
        if self.size == 1:
            return list(numbers)
        tensors = list(tensors)
        flat = torch.cat([*(tensor.flatten() for tensor in tensors), torch.tensor(numbers, device=tensors[0].device)])
        dist.all_reduce(flat)
        flat /= self.size
        pieces = flat.split([*(tensor.numel() for tensor in tensors), len(numbers)])
        for tensor, piece in zip(tensors, pieces, strict=False):
            tensor.copy_(piece.view_as(tensor))
        return pieces[-1].tolist()

"""The networks that a hypernetwork is trained on: where they come from, which take part in a step, with how many images."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from ghn_init import deepnets
from ghn_init.errors import TrainingError
from ghn_init.training import cost
from ghn_init.training.networks import Network

Architectures = str | Path | Iterable[nn.Module] | None


@dataclass(frozen=True)
class Task:
    """A network's part in a step: its index in the pool, and how many images it gets."""

    index: int
    images: int


class Pool:
    """A fixed number of networks, traced when they first take part, then kept.

    Args:
        architectures: A file of `ghn-init deepnets write`, modules, or by default the training split of DeepNets-1M.
        size: How many of them, the first ones.
        num_classes: Outputs of the networks.
        image_size: H = W in pixels.
        device: Where the networks run.
    """

    def __init__(
        self, architectures: Architectures, size: int, num_classes: int, image_size: int, device: torch.device
    ) -> None:
        self._build, self.size = _source(architectures, size, num_classes, image_size)
        self._num_classes, self._image_size, self._device = num_classes, image_size, device
        self._networks: dict[int, Network] = {}

    def __getitem__(self, index: int) -> Network:
        if index not in self._networks:
            with torch.device("meta"):
                module = self._build(index)
            self._networks[index] = Network.of(module, self._num_classes, self._image_size, self._device)
        return self._networks[index]

    def draw(self, key: str, count: int, batch_size: int, least: int, budget: float | None) -> list[Task]:
        """Different networks for a step, the same in all processes.

        Args:
            key: The draw depends on it alone.
            count: How many.
            batch_size: Images of a network that the budget allows them all.
            least: A network whose budget allows fewer images, and fewer than `batch_size`, does not take part.
            budget: Core-seconds of a network, as `cost` estimates them; None for no bound.

        Raises:
            TrainingError: The pool has not enough networks within the budget.
        """
        order = list(range(self.size))
        random.Random(key).shuffle(order)
        tasks: list[Task] = []
        for index in order:
            images = batch_size if budget is None else int(cost.IMAGES * budget / self[index].seconds) // 8 * 8
            if images >= min(least, batch_size):
                tasks.append(Task(index, min(images, batch_size)))
            if len(tasks) == count:
                return tasks
        within = "" if budget is None else f" within the budget of {budget} s"
        raise TrainingError(
            f"{len(tasks)} of the pool's {self.size} networks can be trained on{within}; a step needs {count}: "
            f"raise pool{' or budget' if within else ''}, or lower meta_batch."
        )


def _source(
    architectures: Architectures, size: int, num_classes: int, image_size: int
) -> tuple[Callable[[int], nn.Module], int]:
    """What builds a network by index, and how many there are."""
    if architectures is None:
        return lambda index: deepnets.network("train", index, num_classes, image_size), size
    if isinstance(architectures, str | Path):
        entries = deepnets.read(architectures)
        return lambda index: entries[index].module(num_classes, image_size), min(size, len(entries))
    modules: Sequence[nn.Module] = list(islice(architectures, size))
    if not modules:
        raise TrainingError("there are no architectures; pass at least meta_batch of them.")
    return lambda index: modules[index], len(modules)

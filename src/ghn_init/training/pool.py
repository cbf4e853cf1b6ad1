"""The networks that a hypernetwork is trained on: where they come from, which take part in a step, with how many examples."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from ghn_init import deepnets
from ghn_init.deepnets import store
from ghn_init.errors import TrainingError
from ghn_init.prediction import cost
from ghn_init.prediction.functional import told_apart
from ghn_init.tasks.task import Task
from ghn_init.training.networks import Network


@runtime_checkable
class Described(Protocol):
    """Modules by position, built when they are asked for, as `ghn_init.families.networks` has them.

    Attributes:
        described: Tells these modules from others in words; compared where a run goes on.
    """

    described: str

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> nn.Module: ...


Architectures = str | Path | Iterable[nn.Module] | Described | None
"""A file of `ghn-init deepnets write`, modules, or None: the training split of DeepNets-1M. `Described` ones are built late."""


@dataclass(frozen=True)
class Part:
    """A network's part in a step: its index in the pool, and how many examples it gets."""

    index: int
    examples: int


class Pool:
    """A fixed number of networks for one task, traced when they first take part, then kept.

    `described` tells one pool from another in words; `formerly` are those that earlier versions had for it, None the same.

    Args:
        task: What they are trained on.
        architectures: Where they come from.
        size: How many of them, the first ones.
        device: Where the networks run.
    """

    def __init__(self, task: Task, architectures: Architectures, size: int, device: torch.device) -> None:
        self._build, self.size, self.described, self.formerly = _source(task, architectures, size)
        self._task, self._device = task, device
        self._networks: dict[int, Network] = {}

    def __getitem__(self, index: int) -> Network:
        if index not in self._networks:
            self._networks[index] = Network.of(self._build(index), self._task, self._device)
        return self._networks[index]

    def draw(self, key: str, place: int, places: int, batch_size: int, least: int, budget: float | None) -> Part:
        """A network for one of a step's places, each of which has a part of the pool to itself: every `places`-th network.

        So no network is twice in a step, and a process traces and keeps those of its own places alone. Of a pool that has fewer
        networks than a step has places, several places share one.

        Args:
            key: The draw depends on it and on the place alone.
            place: 0, 1, … in the step.
            places: How many a step has.
            batch_size: Examples of a network that the budget allows them all.
            least: A network whose budget allows fewer examples, and fewer than `batch_size`, does not take part.
            budget: Core-seconds of a network, as `cost` estimates them; None for no bound.

        Raises:
            TrainingError: That part of the pool has no network within the budget.
        """
        order = list(range(place % self.size, self.size, places))
        random.Random(f"{key}/{place}").shuffle(order)
        for index in order:
            examples = batch_size if budget is None else int(cost.EXAMPLES * budget / self[index].seconds) // 8 * 8
            if examples >= min(least, batch_size):
                return Part(index, min(examples, batch_size))
        within = "" if budget is None else f" within the budget of {budget} s"
        raise TrainingError(
            f"none of {len(order)} networks can be trained on{within}: the pool's {self.size} are shared out among the "
            f"{places} places of a step; raise pool{' or budget' if within else ''}, or lower meta_batch."
        )


class Pools:
    """The pools of several tasks, and which task each network of a step is for.

    Args:
        tasks: By name.
        architectures: For all tasks, or by task.
        shares: Task → its part of the networks, in any unit.
        size: Networks of each pool.
        device: Where the networks run.

    Raises:
        TrainingError: A share or architectures are given for no task, or shares are no positive numbers.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        architectures: Architectures | Mapping[str, Architectures],
        shares: Mapping[str, float],
        size: int,
        device: torch.device,
    ) -> None:
        by_task = dict(architectures) if isinstance(architectures, Mapping) else dict.fromkeys(tasks, architectures)
        if unknown := [name for name in (*by_task, *shares) if name not in tasks]:
            raise TrainingError(f"{unknown[0]!r} is no task of this run; it has {', '.join(tasks)}.")
        if missing := [name for name in tasks if name not in by_task]:
            raise TrainingError(f"there are no architectures for the task {missing[0]!r}; None stands for DeepNets-1M's.")
        self.shares = {name: float(shares.get(name, 0.0 if shares else 1.0)) for name in tasks}
        if not all(0 < share < math.inf for share in self.shares.values()):
            raise TrainingError(f"shares are {self.shares}; expected a positive one for each task, or none.")
        own = {id(given): given for given in by_task.values()}
        taken = {key: _taken(given, size) for key, given in own.items()}  # each once, whatever tasks share it
        self._pools = {name: Pool(task, taken[id(by_task[name])], size, device) for name, task in tasks.items()}

    @property
    def described(self) -> dict[str, str]:
        """Where each task's networks come from."""
        return {name: pool.described for name, pool in self._pools.items()}

    @property
    def formerly(self) -> dict[str, str]:
        """The same in words of earlier versions, of those that they told otherwise."""
        return {name: pool.formerly for name, pool in self._pools.items() if pool.formerly is not None}

    def draw(
        self, seed: int, step: int, place: int, places: int, batch_size: int, least: int, budget: float | None
    ) -> tuple[str, Part]:
        """Task and part of the network at a step's place, the same in all processes. Arguments as of `Pool.draw`.

        Networks are numbered through the whole run; the tasks take turns so that each has its share of any stretch of it.
        """
        name = self._turn(step * places + place)
        return name, self._pools[name].draw(f"{seed}/{step}", place, places, batch_size, least, budget)

    def network(self, task: str, part: Part) -> Network:
        """The network of a part, traced when it is asked for the first time."""
        return self._pools[task][part.index]

    def _turn(self, number: int) -> str:
        """The task of a network: multiples of the golden ratio fill [0, 1) as evenly as numbers without an end can."""
        place = number * 0.6180339887498949 % 1 * sum(self.shares.values())
        *first, last = self.shares
        for name in first:
            place -= self.shares[name]
            if place < 0:
                return name
        return last


def _source(task: Task, architectures: Architectures, size: int) -> tuple[Callable[[int], nn.Module], int, str, str | None]:
    """What builds a network by index, how many there are, what tells them from others, and what did so in earlier versions."""
    if architectures is None or isinstance(architectures, str | Path):
        side = _image_side(task)
        entries = None if architectures is None else deepnets.read(architectures)

        def build(index: int) -> nn.Module:
            with torch.device("meta"):  # all their parameters are predicted
                if entries is None:
                    return deepnets.network("train", index, task.outputs, side)
                return entries[index].module(task.outputs, side)

        if entries is None:
            return build, size, "DeepNets-1M train", None
        taken = min(size, len(entries))
        return build, taken, store.told_apart(entries[:taken]), f"{len(entries)} of {Path(str(architectures)).name}"
    modules = architectures if isinstance(architectures, Described) else _listed(architectures, size)
    if not len(modules):
        raise TrainingError("there are no architectures; pass at least meta_batch of them.")
    described = modules.described if isinstance(modules, Described) else told_apart(modules)
    return modules.__getitem__, min(size, len(modules)), described, None


def _taken(architectures: Architectures, size: int) -> Architectures:
    """The first so many of what can be gone through once, for several tasks; others as they are."""
    return list(islice(architectures, size)) if isinstance(architectures, Iterator) else architectures


def _listed(architectures: Iterable[nn.Module], size: int) -> list[nn.Module]:
    """The first so many modules; a container of layers is a network, not several."""
    if isinstance(architectures, nn.Module) and not isinstance(architectures, nn.ModuleList):
        raise TrainingError(f"architectures are one {type(architectures).__name__}; pass a list of modules.")
    if not isinstance(architectures, Iterable):
        raise TrainingError(f"architectures are {architectures!r:.60}; pass a list of modules, or a file's path.")
    modules = list(islice(architectures, size))
    for place, module in enumerate(modules):
        if not isinstance(module, nn.Module):
            raise TrainingError(
                f"architectures have {module!r:.60} at place {place}; expected modules, or the path of a file that `ghn-init "
                f"deepnets write` made."
            )
    return modules


def _image_side(task: Task) -> int:
    """H = W of the images that DeepNets-1M's networks would see."""
    inputs = task.example_inputs()
    if len(inputs) != 1 or inputs[0].dim() != 4 or inputs[0].shape[1] != 3:
        shapes = [tuple(x.shape) for x in inputs]
        raise TrainingError(
            f"the networks of DeepNets-1M take images (B, 3, H, W), those of the task {task.name!r} take {shapes}; pass "
            f"architectures of your own."
        )
    return inputs[0].shape[2]

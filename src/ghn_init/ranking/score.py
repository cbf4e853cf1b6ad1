"""One network's score, as a ranking has it: what a search over networks maximises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ghn_init.api import Hypernetwork
from ghn_init.ranking.bench import Bench
from ghn_init.ranking.candidates import Candidate, maker, name_of
from ghn_init.ranking.defaults import BATCH_SIZE, FITTED, RUNGS, STEPS, VAL_IMAGES, From
from ghn_init.ranking.measure import Settings, shares
from ghn_init.ranking.processes import Processes, naming
from ghn_init.tracing.untouched import untouched
from ghn_init.trials.contestant import MakeOptimizer, sgd
from ghn_init.trials.halving import after_steps
from ghn_init.trials.paired import accuracy, accuracy_interval


@dataclass(frozen=True)
class Score:
    """How well a network learns. `str` says it in a line.

    Attributes:
        accuracy: On the validation images, in percent: the mean of `accuracies`.
        interval: Its 95 % (Wilson's), in percent.
        accuracies: With a fitted head before and after training, else after it.
        steps: Of training.
        val_images: That judged.
        seconds: What it took.
    """

    accuracy: float
    interval: tuple[float, float]
    accuracies: tuple[float, ...]
    steps: int
    val_images: int
    seconds: float = field(compare=False)

    def __str__(self) -> str:
        low, high = self.interval
        after = after_steps(self.steps)
        if len(self.accuracies) > 1:
            before, end = self.accuracies
            after = f"on average, {before:.1f} % before training and {end:.1f} % {after}"
        return (
            f"{self.accuracy:.1f} % of {self.val_images:,} validation images (95 %: {low:.1f}–{high:.1f}) {after}, "
            f"{self.seconds:.1f} s"
        )


def score(
    candidate: Candidate,
    train: Iterable[Any],
    val: Iterable[Any],
    ghn: Hypernetwork = None,
    *,
    steps: int = STEPS,
    start: From = FITTED,
    rate: float | None = None,
    batch_size: int = BATCH_SIZE,
    val_images: int = VAL_IMAGES,
    optimizer: MakeOptimizer = sgd,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Score:
    """What a network knows of your data with predicted parameters, and how it learns from there: as `rank` measures it.

    The objective of a search over networks (`docs/ranking.md` of the repository). Random states and a module that is passed
    stay as they were.

    Args:
        candidate: A module, a name or a function that makes a module, as `rank` takes them.
        train: As for `rank`, like all that follows.
        val: Images that judge.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        steps: Of training; 0 judges a network with a fitted head before any.
        start: `predicted+fitted`, `predicted` or `default`.
        rate: Peak learning rate, of one cycle; by default as for `rank`.
        batch_size: Images of a step.
        val_images: The first so many judge, and are held in memory.
        optimizer: (parameters, learning rate, weight decay) → optimiser; by default SGD with momentum 0.9.
        device: Where the network is trained.
        seed: Of what is random.

    Raises:
        ComparisonError: It can't be made or measured, or as for `rank`: settings, images.
        HeadError: No labels, or labels that are no class numbers.
        DeviceError: There is no such device.

    Example:
        >>> import ghn_init, torch
        >>> data = [(torch.randn(32, 3, 8, 8), torch.arange(32) % 2)]
        >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
        >>> found = ghn_init.score(net, data, data, steps=2)
        >>> found.interval[0] <= found.accuracy <= found.interval[1]
        True
    """
    settings = Settings.of(ghn, start, rate, batch_size, optimizer, device, seed)
    counts = settings.steps_of_rungs(steps, RUNGS if start == FITTED else 1)
    steps = counts[-1]  # an int
    with untouched(nn.Module()):  # random states
        bench = Bench.of(train, val, steps, val_images, settings)
        name = name_of(candidate)
        make = maker(name, candidate, bench.classes)
        if not isinstance(candidate, nn.Module):
            with naming(name):
                make()  # the same one again is then an error, before it is trained
        with Processes({name: make}, bench, workers=1) as processes:
            judgements = [found for count in counts for _, found in processes.each(Bench.judge, [name], count)]
    right = shares(judgements)
    return Score(
        accuracy(right),
        accuracy_interval(right),
        tuple(accuracy(found.right) for found in judgements),
        steps,
        len(bench.val),
        sum(found.seconds for found in judgements),
    )

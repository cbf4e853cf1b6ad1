"""Few steps from predicted weights, and the better half goes on: the verb."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from ghn_init.api import Hypernetwork
from ghn_init.checkpoints.pretrained import DEFAULT, load
from ghn_init.errors import ComparisonError, GHNInitError, RecalibrationError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models.batches import Batches
from ghn_init.ranking.calibration import calibrate, check_known
from ghn_init.ranking.candidates import Candidates, makers
from ghn_init.ranking.measure import From, Judgement, Look, Settings, judge, look
from ghn_init.ranking.result import Ranked, Ranking
from ghn_init.tracing.untouched import untouched
from ghn_init.trials.contestant import MakeOptimizer, sgd
from ghn_init.trials.halving import Rung, order, steps_of_rungs, successive_halving
from ghn_init.trials.paired import accuracy, accuracy_interval, surely_ahead
from ghn_init.trials.pool import Pool, check_classes, seeded

Result = TypeVar("Result")

STEPS, RUNGS, RATE, BATCH_SIZE = 100, 2, 0.02, 32
VAL_IMAGES = 2000


def rank(
    candidates: Candidates,
    train: Iterable[Any],
    val: Iterable[Any],
    ghn: Hypernetwork = None,
    *,
    steps: int = STEPS,
    rungs: int = RUNGS,
    start: From = "predicted",
    rate: float = RATE,
    batch_size: int = BATCH_SIZE,
    val_images: int = VAL_IMAGES,
    known: Mapping[str, float] | None = None,
    optimizer: MakeOptimizer = sgd,
    device: torch.device | str = "cpu",
    seed: int = 0,
    on_judged: Callable[[str, int, float], None] | None = None,
) -> Ranking:
    """Ranks networks by how well they learn your data in few steps from predicted parameters.

    Each network is made, its parameters are predicted, and it is trained for few steps of small batches, the same for all;
    accuracy on validation images, with batch statistics, is its score. The better half starts again with twice the steps.
    What this is worth has not been measured yet: `docs/ranking.md` of the repository says how it can be. Random states and
    modules that are passed stay as they were.

    Args:
        candidates: Modules, names (`timm:NAME`, `torchvision:NAME`, `module:callable`, or timm's name alone) or functions that
            make modules: a mapping of names to them, or a list. All take images of one size; those built by name get as many
            classes as there are labels.
        train: Yields (images, labels), or mappings, as `fit_head_` takes them. The first `steps` batches' worth are held in
            memory.
        val: Likewise, images that judge.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        steps: Of those that come to the last rung; each rung before it has half as many.
        rungs: How often the field is judged.
        start: `predicted` (with a random head), `predicted+fitted` (with one in closed form) or `default`.
        rate: Peak learning rate, of one cycle.
        batch_size: Images of a step.
        val_images: The first so many judge, and are held in memory.
        known: Accuracies of some candidates after full training, in percent: the others' are then expected by a ridge
            regression on the first rung's score, log parameters, log cost and the graph's embedding, and make the order.
        optimizer: (parameters, learning rate, weight decay) → optimiser; by default SGD with momentum 0.9.
        device: Where networks are trained.
        seed: Of what is random: constructors, loaders, order of the images.
        on_judged: Called after each measurement, with name, steps and accuracy in percent; without it there is a progress bar.

    Returns:
        Networks, best first: those that came farther before the others, and by their last score.

    Raises:
        ComparisonError: Fewer than two candidates, two of one name, one that can't be made or measured, settings that no
            ranking can have, one class, no images or one to judge by, or known accuracies that can't calibrate.
        HeadError: No labels, or labels that are no class numbers.

    Example:
        >>> import ghn_init, torch
        >>> data = [(torch.randn(32, 3, 8, 8), torch.arange(32) % 2)]
        >>> def net(width: int) -> torch.nn.Module:
        ...     return torch.nn.Sequential(torch.nn.Conv2d(3, width, 3), torch.nn.Flatten(), torch.nn.Linear(36 * width, 2))
        >>> found = ghn_init.rank({"narrow": lambda: net(2), "wide": lambda: net(8)}, data, data, steps=2)
        >>> found.steps, sorted(found.order)
        (4, ['narrow', 'wide'])
    """
    begun = time.perf_counter()
    hypernetwork = ghn if isinstance(ghn, GraphHyperNetwork) else load(DEFAULT if ghn is None else ghn)
    settings = Settings(hypernetwork, start, rate, batch_size, optimizer, device, seed)
    settings.check()
    counts = steps_of_rungs(steps, rungs)
    with untouched(nn.Module()):  # random states
        field = _Field(candidates, (train, steps * batch_size), (val, val_images), settings, on_judged)
        if known is not None:
            check_known(known, list(field.make))
        looks = {name: field.tried(name, look, field.make[name], field.train, settings) for name in field.make}
        found = successive_halving(list(field.make), counts, field.score, show=on_judged is None)
    calibration = None if known is None else calibrate(found[0].scores, looks, known)
    names = order(found)
    if calibration is not None:
        names = sorted(names, key=lambda name: -calibration.accuracies[name])
    rows = field.rows(names, found, looks, {} if calibration is None else calibration.accuracies)
    total = sum(rung.steps * len(rung.scores) for rung in found)
    images = total * min(batch_size, len(field.train))
    return Ranking(rows, total, images, len(field.val), time.perf_counter() - begun, calibration)


class _Field:
    """Networks and images, and what was measured of them."""

    def __init__(
        self,
        candidates: Candidates,
        train: tuple[Iterable[Any], int],
        val: tuple[Iterable[Any], int],
        settings: Settings,
        on_judged: Callable[[str, int, float], None] | None,
    ) -> None:
        self.settings, self._on_judged = settings, on_judged
        self.judgements: dict[tuple[str, int], Judgement] = {}
        seeded(settings.seed)
        self.train, self.val = (_pool(*images) for images in (train, val))
        check_classes(self.train, "to train on")
        _check_judges(self.val)
        self.make = makers(candidates, int(max(self.train.labels.max(), self.val.labels.max())) + 1)

    def tried(self, name: str, measure: Callable[..., Result], *args: Any) -> Result:
        """What a function gives for a candidate; its errors name it."""
        try:
            return measure(*args)
        except GHNInitError as error:
            raise ComparisonError(f"candidate {name!r}: {error}") from error

    def score(self, name: str, steps: int) -> float:
        """Accuracy in percent after so many steps."""
        found = self.tried(name, judge, self.make[name], steps, self.train, self.val, self.settings)
        self.judgements[name, steps] = found
        score = accuracy(found.right)
        if self._on_judged is not None:
            self._on_judged(name, steps, score)
        return score

    def rows(
        self, names: Sequence[str], rungs: Sequence[Rung], looks: Mapping[str, Look], expected: Mapping[str, float]
    ) -> tuple[Ranked, ...]:
        """Of the networks in their order."""
        return tuple(self._row(name, names[0], rungs, looks[name], expected.get(name)) for name in names)

    def _row(self, name: str, first: str, rungs: Sequence[Rung], seen: Look, expected: float | None) -> Ranked:
        steps = [rung.steps for rung in rungs if name in rung.scores]
        own = [self.judgements[name, count] for count in steps]
        return Ranked(
            name=name,
            score=accuracy(own[-1].right),
            interval=accuracy_interval(own[-1].right),
            steps=steps[-1],
            accuracies=tuple(accuracy(each.right) for each in own),
            tied=name != first and not self._surely_ahead(first, name, steps),
            parameters=seen.parameters,
            macs=seen.macs,
            predicted=seen.predicted,
            share=seen.share,
            expected=expected,
            milliseconds=own[-1].milliseconds,
            seconds=sum(each.seconds for each in own),
        )

    def _surely_ahead(self, first: str, name: str, steps: Sequence[int]) -> bool:
        """After the last rung that both came to: after more steps anyone is ahead."""
        last = max(count for count in steps if (first, count) in self.judgements)
        return surely_ahead(self.judgements[first, last].right, self.judgements[name, last].right)


def _check_judges(val: Pool) -> None:
    if len(val) < 2:
        raise ComparisonError(
            "there is 1 image to judge by; networks are judged with batch statistics, which need 2 at least: pass more as val, "
            "or a larger val_images."
        )
    check_classes(val, "to judge by")


class _Any(nn.Module):
    """Stands for whatever model will take what a loader yields."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.empty(0))

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Is not run."""


def _pool(data: Iterable[Any], max_images: int) -> Pool:
    try:
        return Pool.of(Batches(data, _Any(), max_images))
    except RecalibrationError as error:
        raise ComparisonError(str(error)) from error

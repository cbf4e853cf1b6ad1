"""Which start is best for a model on the user's data: all that suit race against its own init, which wins all ties."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import ComparisonError, HeadError, RecalibrationError
from ghn_init.heads.fit import MAX_IMAGES
from ghn_init.heads.places import find_heads
from ghn_init.heads.start import left_out
from ghn_init.models.batches import Batches, traced_on
from ghn_init.models.generators import generators_kept
from ghn_init.models.modes import check_modes
from ghn_init.prediction.prediction import Prediction
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import check_values, unwrap
from ghn_init.trials.choice import Choice, Judged
from ghn_init.trials.contestant import Contestant, MakeOptimizer, check_classifier, check_range, rates_of, sgd
from ghn_init.trials.halving import Rung, one_by_one, steps_of_rungs, successive_halving
from ghn_init.trials.paired import accuracy, accuracy_error, difference, surely_ahead
from ghn_init.trials.pool import Pool, check_classes, check_finite, check_outputs, seeded
from ghn_init.trials.starts import Predict, Start, starts_for
from ghn_init.whole import whole, whole_seed

OWN, PREDICTED = "default", "predicted"
STEPS, RUNGS, BATCH_SIZE = 40, 3, 32
RATES = (0.02,)
"""Where predicted and default weights, random and fitted heads were all near their best in 200 steps (`docs/your_data.md`)."""
HELD_OUT = 0.25
LEAST_HELD_OUT = 10
RACED_IMAGES = 2000
"""Are held in memory; a quarter of so many tells differences of five points from chance."""


@dataclass(frozen=True)
class Settings:
    """Of a race; as `ghn_init.choose` takes them."""

    steps: int = STEPS
    rungs: int = RUNGS
    rates: Sequence[float] = RATES
    batch_size: int = BATCH_SIZE
    held_out: float = HELD_OUT
    max_images: int = RACED_IMAGES
    optimizer: MakeOptimizer = sgd
    seed: int = 0

    def checked(self) -> Settings:
        """The same with a seed that generators take, and rates that can be read again and again.

        Raises:
            ComparisonError: No race can have them.
        """
        for name, least in (("steps", 1), ("rungs", 1), ("batch_size", 2)):
            whole(name, getattr(self, name), least, ComparisonError)
        whole("max_images", self.max_images, 1, ValueError)
        seed = whole_seed(self.seed, ValueError)
        steps_of_rungs(self.steps, self.rungs)
        rates = rates_of("rates", self.rates)
        if not rates or not all(isinstance(rate, Real) and 0 < float(rate) < float("inf") for rate in rates):
            raise ComparisonError(f"learning rates are {list(rates)}; expected one at least, finite and above 0.")
        if not isinstance(self.held_out, Real) or not 0 < self.held_out < 1:
            raise ComparisonError(f"held_out is {self.held_out!r}; expected a share of the images, between 0 and 1.")
        return replace(self, rates=tuple(map(float, rates)), seed=seed)


@dataclass(frozen=True)
class Contest:
    """A start at a learning rate."""

    start: Start
    rate: float

    @property
    def name(self) -> str:
        """Of both."""
        return f"{self.start.name} {self.rate:g}"


def choose_(
    model: nn.Module,
    data: Iterable[Any],
    predict: Callable[..., Prediction],
    copied: Callable[[], nn.Module],
    settings: Settings,
) -> Choice:
    """Races all starts that suit a model and writes the best, in place: all of it or nothing.

    Args:
        model: With any wrappers; random states, modes and everything but what is written stay.
        data: A loader of labelled images.
        predict: (example inputs, model, names to keep besides) → a prediction without a head.
        copied: Makes a model that is equal to this one, without wrappers.
        settings: Of the race.

    Raises:
        ComparisonError, GHNInitError: As `ghn_init.choose`.
    """
    begun = time.perf_counter()
    settings = settings.checked()
    inner, _ = unwrap(model)
    check_values(inner)
    check_modes(inner)
    loader = data
    with untouched(inner), generators_kept(loader):
        seeded(settings.seed, loader)
        pool, data = _read(inner, data, settings)
        read = len(pool)
        pool = pool.unique()
        copies = read - len(pool)
        few = pool.rows(torch.arange(min(2, len(pool)), device="cpu")).inputs.few()  # a copy; a view would hold all
        predicting = partial(predict, few)
        plain = predicting(model)
        train, held_out = _split(pool, settings)
        outputs = _outputs(inner, few, plain)
        seen = tuple(pool.labels.unique().tolist())
        if outputs is not None:
            check_range(inner, outputs, pool.labels)
            check_outputs(pool, outputs, full=read == settings.max_images)
        del pool  # the images are in the two parts of it
        race = _Race(train, held_out, settings, plain if inner is model else predicting(inner), predicting, copied)
        rungs = race.run()
        chosen = race.chosen(rungs)
        seeded(settings.seed, loader)  # one that shuffles yields what it yielded
        written = chosen.write_(plain, model, _batches(data, inner, max(MAX_IMAGES, settings.max_images)), predicting)
    return Choice(
        chosen=chosen.name,
        rungs=tuple(map(race.judged, rungs)),
        unsuited=race.unsuited,
        train_images=len(race.train),
        held_out=len(race.held_out),
        classes=len(seen),
        steps=race.steps,
        images=race.steps * settings.batch_size,
        seconds=time.perf_counter() - begun,
        model=model,
        written=written,
        copies=copies,
        seen=seen if outputs is None else (),
    )


def _read(model: nn.Module, data: Iterable[Any], settings: Settings) -> tuple[Pool, Iterable[Any]]:
    """The images of the race, and the data such that they can be read again."""
    used_up = isinstance(data, Iterator)  # then images for the fit have to be read now
    batches = _batches(data, model, max(settings.max_images, MAX_IMAGES if used_up else 0))
    if used_up:
        data = list(batches.contents)
    check_classifier(model)
    pool = Pool.of(batches).first(settings.max_images)
    check_finite(pool, "to choose on")
    return pool, data


def _batches(data: Iterable[Any], model: nn.Module, max_images: int) -> Batches:
    try:
        return Batches(data, model, max_images)
    except RecalibrationError as error:
        raise ComparisonError(str(error)) from error


def _outputs(model: nn.Module, inputs: Any, plain: Prediction) -> int | None:
    """How many classes the model's head has; None where it isn't found, or is left out, since its classes may be others'."""
    try:
        with traced_on(model, inputs):
            head, *_ = find_heads(model, inputs)
    except HeadError:
        return None
    _, prefix = unwrap(plain.model)
    return None if left_out(plain).keys() & {prefix + name for name in head.parameters} else head.classes


def _split(pool: Pool, settings: Settings) -> tuple[Pool, Pool]:
    check_classes(pool, "to choose on")
    train, held_out = pool.split(settings.held_out, settings.seed)
    if len(train) < settings.batch_size or len(held_out) < LEAST_HELD_OUT:
        raise ComparisonError(
            f"there are {len(pool)} images, {len(train)} to train on and {len(held_out)} held out; a choice needs "
            f"{settings.batch_size} (batch_size) and {LEAST_HELD_OUT} at least: pass more images, or don't choose."
        )
    return train, held_out


class _Race:
    """All contests, what they told rightly after each rung, and how many steps it took."""

    def __init__(
        self,
        train: Pool,
        held_out: Pool,
        settings: Settings,
        plain: Prediction,
        predict: Predict,
        copied: Callable[[], nn.Module],
    ) -> None:
        self.train, self.held_out = train, held_out
        self.settings = settings
        self.unsuited: dict[str, str] = {}
        self.steps = 0
        self.right: dict[tuple[str, int], Tensor] = {}
        self._contestants: dict[str, Contestant] = {}
        self.contests: dict[str, Contest] = {}
        for start, rate in product(starts_for(plain), settings.rates):
            if start.name not in self.unsuited:
                written = copied()
                try:
                    start.write_(plain, written, Batches(self.train.contents(), written, len(self.train)), predict)
                except (HeadError, RecalibrationError) as error:  # of the model, since the labels are read
                    self.unsuited[start.name] = str(error)
                    continue
                contest = Contest(start, rate)
                self.contests[contest.name] = contest
                self._contestants[contest.name] = Contestant(written, rate, settings.optimizer)

    def run(self) -> tuple[Rung, ...]:
        """The race. Contestants that are out are forgotten."""
        always = [name for name, contest in self.contests.items() if contest.start.name in (OWN, PREDICTED)]
        steps = steps_of_rungs(self.settings.steps, self.settings.rungs)
        score = one_by_one(self._score)
        return successive_halving(list(self.contests), steps, score, always=always, on_rung=self._forget, show=True)

    def _forget(self, rung: Rung) -> None:
        self._contestants = {name: self._contestants[name] for name in rung.survivors}

    def _score(self, name: str, steps: int) -> float:
        contestant = self._contestants[name]
        self.steps += steps - contestant.steps
        contestant.train(self.train, steps, self.settings.batch_size, self.settings.seed)
        self.right[name, steps] = contestant.judge(self.held_out)
        return accuracy(self.right[name, steps])

    def chosen(self, rungs: Sequence[Rung]) -> Start:
        """The best of the last rung where it is surely ahead of the model's own init, as the best of all rivals; else that.

        Of those that are, predicted parameters are taken where the best isn't surely ahead of them: after more steps than a
        race has they were mostly the best (`docs/your_data.md`).
        """
        last = rungs[-1]
        best, own = last.survivors[0], self._best_of(OWN, last)
        plain = best if PREDICTED in self.unsuited else self._best_of(PREDICTED, last)
        rivals = sum(contest.start.name != OWN for contest in self.contests.values())

        def ahead(one: str, other: str) -> bool:
            return surely_ahead(self.right[one, last.steps], self.right[other, last.steps], rivals)

        if not ahead(best, own):
            return self.contests[own].start
        return self.contests[plain if ahead(plain, own) and not ahead(best, plain) else best].start

    def _best_of(self, start: str, rung: Rung) -> str:
        """At its best rate."""
        names = [name for name in rung.scores if self.contests[name].start.name == start]
        return max(names, key=lambda name: rung.scores[name])

    def judged(self, rung: Rung) -> tuple[Judged, ...]:
        """What a rung found, best first."""
        own = self.right[self._best_of(OWN, rung), rung.steps]
        found = []
        for name in sorted(rung.scores, key=lambda name: -rung.scores[name]):
            contest, right = self.contests[name], self.right[name, rung.steps]
            figures = (accuracy(right), accuracy_error(right), *difference(right, own))
            found.append(Judged(contest.start.name, contest.rate, rung.steps, *figures))
        return tuple(found)

"""Successive halving: all begin, the better half goes on with twice the steps.

Source: Jamieson and Talwalkar, AISTATS 2016 (arXiv 1502.07943). A few lines of our own in the place of Optuna's pruner, which
decides one trial at a time against those that were there before: here the whole field is known, the decision must not depend
on the order, and the model's own init must stay in the race.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ghn_init.errors import ComparisonError
from ghn_init.progress import counting
from ghn_init.whole import whole

Scores = Callable[[Sequence[str], int], Iterable[tuple[str, float]]]
"""(names, steps) → each name and its score, higher is better, as they come."""


@dataclass(frozen=True)
class Rung:
    """Where all that were left had as many steps of training.

    Attributes:
        steps: In all, since the start.
        scores: Name → score, higher is better; in the order of the field.
        survivors: Names that go on, the best first; in the last rung all.
    """

    steps: int
    scores: Mapping[str, float]
    survivors: tuple[str, ...]


def halve(scores: Mapping[str, float], always: Collection[str] = ()) -> tuple[str, ...]:
    """The better half, rounded up, of those that are not in `always`, and these; best first, ties in the order of the field."""
    best_first = sorted(scores, key=lambda name: -scores[name])
    others = [name for name in best_first if name not in always]
    going_on = {*others[: math.ceil(len(others) / 2)], *always}
    return tuple(name for name in best_first if name in going_on)


def one_by_one(score: Callable[[str, int], float]) -> Scores:
    """Scores of a rung by those of a name, in the order of the field."""

    def scores(names: Sequence[str], steps: int) -> Iterator[tuple[str, float]]:
        for name in names:
            yield name, score(name, steps)

    return scores


def successive_halving(
    field: Sequence[str],
    steps: Sequence[int],
    scores: Scores,
    always: Collection[str] = (),
    on_rung: Callable[[Rung], None] | None = None,
    show: bool = False,
) -> tuple[Rung, ...]:
    """Runs the race.

    Args:
        field: Names.
        steps: Of each rung, in all since the start.
        scores: Of a rung, called once for each with those that are left, in the order of the field.
        always: Names that are never dropped.
        on_rung: Called after each rung.
        show: Whether there is a progress bar.

    Raises:
        ComparisonError: A name stands there twice.
    """
    twice = sorted({name for name in field if list(field).count(name) > 1})
    if twice:
        raise ComparisonError(f"several contestants are called {twice[0]!r}; give each a name of its own.")
    rungs: list[Rung] = []
    with counting(judgements(len(field), len(steps), len(set(always))), "runs", show) as tell:
        for k, count in enumerate(steps):
            left = [name for name in field if not rungs or name in rungs[-1].survivors]
            found: dict[str, float] = {}
            for name, score in scores(left, count):
                found[name] = score
                tell(f"{name}, {count} steps: {score:.1f} %")
            ordered = {name: found[name] for name in left}
            last = k == len(steps) - 1
            rungs.append(Rung(count, ordered, halve(ordered, ordered if last else always)))
            if on_rung is not None:
                on_rung(rungs[-1])
    return tuple(rungs)


def judgements(count: int, rungs: int, always: int = 0) -> int:
    """How many scores a race takes, of so many names, of which so many are never dropped."""
    total = 0
    for _ in range(rungs):
        total += count
        count = math.ceil((count - always) / 2) + always
    return total


def order(rungs: Sequence[Rung]) -> list[str]:
    """All names, best first: those who came farther before the others, and by the score of their last rung."""
    return list(dict.fromkeys(name for rung in reversed(rungs) for name in halve(rung.scores, rung.scores)))


def after_steps(steps: int) -> str:
    """When a network was judged, in words."""
    return f"after {steps} steps" if steps else "before training"


def steps_of_rungs(steps: int, rungs: int) -> tuple[int, ...]:
    """Steps in all after each rung: the last has `steps`, each before it half as many.

    Raises:
        ComparisonError: One is no whole number of 1 at least, or there would be no step in the first.
    """
    steps, rungs = whole("steps", steps, 1, ComparisonError), whole("rungs", rungs, 1, ComparisonError)
    if steps < 2 ** (rungs - 1):
        raise ComparisonError(
            f"{steps} steps can't be halved for {rungs} rungs of training; a race needs a rung and a step in the first: pass "
            f"more steps or fewer rungs."
        )
    return tuple(math.ceil(steps / 2 ** (rungs - 1 - k)) for k in range(rungs))

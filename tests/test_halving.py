"""Successive halving, the paired test, and the images that contestants see."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
import torch
from torch import nn

from ghn_init.errors import ComparisonError, HeadError
from ghn_init.models.batches import Batches
from ghn_init.trials.halving import Rung, halve, judgements, one_by_one, order, steps_of_rungs, successive_halving
from ghn_init.trials.paired import accuracy, accuracy_error, accuracy_interval, difference, surely_ahead
from ghn_init.trials.pool import Pool, check_classes, seeded


def raced(scores: dict[str, list[float]], always: tuple[str, ...] = ()) -> tuple[tuple[Rung, ...], list[tuple[str, int]]]:
    """A race with given scores by rung, and what was asked for."""
    asked: list[tuple[str, int]] = []
    steps = [10, 20, 40]

    def score(name: str, count: int) -> float:
        asked.append((name, count))
        return scores[name][steps.index(count)]

    return successive_halving(list(scores), steps, one_by_one(score), always), asked


def test_the_better_half_goes_on() -> None:
    scores = {"a": [1.0, 9, 9], "b": [5.0, 2, 9], "c": [4.0, 3, 1], "d": [3.0, 9, 9], "e": [2.0, 9, 9]}
    rungs, asked = raced(scores)
    assert [rung.survivors for rung in rungs] == [("b", "c", "d"), ("d", "c"), ("d", "c")]
    assert asked == [*((name, 10) for name in "abcde"), ("b", 20), ("c", 20), ("d", 20), ("c", 40), ("d", 40)]
    assert order(rungs) == ["d", "c", "b", "e", "a"]  # who came farther, then by the last score


def test_ties_keep_the_order_of_the_field() -> None:
    rungs, _ = raced({name: [7.0, 7.0, 7.0] for name in "abcd"})
    assert [rung.survivors for rung in rungs] == [("a", "b"), ("a",), ("a",)]
    assert order(rungs) == ["a", "b", "c", "d"]


def test_scores_may_come_in_any_order() -> None:
    def backwards(names: Sequence[str], steps: int) -> Iterator[tuple[str, float]]:
        yield from [(name, 7.0) for name in reversed(names)]

    rungs = successive_halving("abcd", [10, 20], backwards)
    assert [(list(rung.scores), rung.survivors) for rung in rungs] == [([*"abcd"], ("a", "b")), ([*"ab"], ("a", "b"))]


def test_some_are_never_dropped_and_cost_nobody_a_place() -> None:
    scores = {"own": [0.0, 0, 0], "a": [1.0, 1, 1], "b": [2.0, 2, 2], "c": [3.0, 3, 3], "d": [4.0, 4, 4]}
    rungs, _ = raced(scores, always=("own",))
    assert [set(rung.scores) for rung in rungs] == [set(scores), {"own", "c", "d"}, {"own", "d"}]
    assert rungs[-1].survivors == ("d", "own")
    assert halve({"own": 9.0, "a": 1.0}, ("own",)) == ("own", "a")


def test_rungs_are_told_of_as_they_end() -> None:
    seen: list[Rung] = []
    assert tuple(seen) == () != successive_halving("ab", [1, 2], one_by_one(lambda name, steps: steps), on_rung=seen.append)
    assert [(rung.steps, rung.survivors) for rung in seen] == [(1, ("a",)), (2, ("a",))]


def test_names_are_unique() -> None:
    with pytest.raises(ComparisonError, match="several contestants are called 'a'; give each a name of its own"):
        successive_halving(["a", "b", "a"], [1], one_by_one(lambda name, steps: 0.0))


def test_steps_double() -> None:
    assert steps_of_rungs(40, 3) == (10, 20, 40)
    assert steps_of_rungs(30, 3) == (8, 15, 30)
    assert steps_of_rungs(1, 1) == (1,)
    with pytest.raises(ComparisonError, match="3 steps can't be halved for 3 rungs"):
        steps_of_rungs(3, 3)
    with pytest.raises(ComparisonError, match="steps is 0; expected a whole number, 1 at least"):
        steps_of_rungs(0, 1)
    with pytest.raises(ComparisonError, match="rungs is 0; expected a whole number, 1 at least"):
        steps_of_rungs(5, 0)


def verdicts(won: int, lost: int, both: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that the first alone, the second alone and both tell rightly."""
    first = [True] * won + [False] * lost + [True] * both
    return torch.tensor(first), torch.tensor([False] * won + [True] * (lost + both))


@pytest.mark.parametrize(
    ("won", "lost", "sure"),
    [
        (0, 0, False),
        (5, 0, False),  # 1/32
        (6, 0, True),  # 1/64
        (9, 2, False),  # (55 + 11 + 1) / 2048 = 0.033
        (10, 2, True),  # (66 + 12 + 1) / 4096 = 0.019
        (2, 10, False),
        (1100, 1000, True),  # 2.2 standard errors
        (1050, 1000, False),  # 1.1
    ],
)
def test_the_sign_test(won: int, lost: int, sure: bool) -> None:
    assert surely_ahead(*verdicts(won, lost)) is sure


@pytest.mark.parametrize(
    ("won", "lost", "among", "sure"),
    [
        (8, 0, 6, True),  # 6/256 = 0.023
        (8, 0, 7, False),  # 7/256 = 0.027
        (92, 58, 7, True),  # of 500 images three of ten
        (91, 59, 7, False),
        (14, 1, 7, True),  # of 50
        (13, 2, 7, False),
    ],
)
def test_the_best_of_several_has_to_be_farther_ahead(won: int, lost: int, among: int, sure: bool) -> None:
    assert surely_ahead(*verdicts(won, lost), among) is sure


def test_starts_that_do_not_differ_are_seldom_surely_ahead() -> None:
    torch.manual_seed(0)
    drawn = torch.rand(2000, 2, 100) < 0.6
    assert 0.01 < sum(surely_ahead(a, b) for a, b in drawn) / len(drawn) < 0.025


def test_accuracies_and_their_errors() -> None:
    first, second = verdicts(won=3, lost=1, both=4)
    assert accuracy(first) == 87.5
    assert accuracy_error(first) == pytest.approx(100 * (0.75 * 0.25 / 12) ** 0.5)  # 7 of 8, and 2 of 4
    assert accuracy_error(torch.ones(8, dtype=torch.bool)) == pytest.approx(100 * (10 / 12 * 2 / 12 / 12) ** 0.5)
    assert difference(first, second)[0] == 25.0
    gaps = torch.tensor([1.0, 1, 1, -1, 0, 0, 0, 0])
    assert difference(first, second)[1] == pytest.approx(100 * float(gaps.std()) / 8**0.5)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18), (20, 20, 83.89, 100.0)],
)
def test_intervals_are_the_published_examples(right: int, images: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3; 20 of 20 mirrors 0 of 20."""
    assert accuracy_interval(torch.arange(images) < right) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))


def pool(count: int = 30, classes: int = 3, size: int = 7) -> Pool:
    """Images that are their own numbers."""
    images = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    labels = torch.arange(count) % classes
    loader = list(zip(images.split(size), labels.split(size), strict=True))
    return Pool.of(Batches(loader, nn.Conv2d(3, 3, 1), count))


def numbers(of: Pool) -> list[int]:
    return of.inputs.args[0][:, 0, 0, 0].int().tolist()


def test_a_pool_is_what_the_loader_yields() -> None:
    assert numbers(pool()) == list(range(30))
    assert pool().labels.tolist() == [0, 1, 2] * 10
    images, labels = torch.zeros(30, 3, 4, 4), torch.zeros(30, dtype=torch.long)
    few = Pool.of(Batches([(images[:8], labels[:8])] * 3, nn.Conv2d(3, 3, 1), 10))
    assert (len(few), len(few.inputs)) == (10, 10)


def test_a_split_is_by_class_and_by_the_seed_alone() -> None:
    whole = pool(31)
    torch.manual_seed(1)
    train, held_out = whole.split(0.25, 0)
    assert sorted(numbers(train) + numbers(held_out)) == list(range(31))
    assert held_out.labels.bincount().tolist() == [2, 2, 2]
    assert [n % 3 for n in numbers(held_out)] == held_out.labels.tolist()
    torch.manual_seed(2)
    assert numbers(whole.split(0.25, 0)[1]) == numbers(held_out)
    assert numbers(whole.split(0.25, 1)[1]) != numbers(held_out)


def test_batches_of_an_epoch_share_no_image() -> None:
    whole = pool(30)
    first, second = ([numbers(whole.batch(k + 3 * epoch, 10, 5)) for k in range(3)] for epoch in (0, 1))
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(30))
    assert first != second
    assert numbers(whole.batch(4, 10, 5)) == second[1]
    assert len(whole.batch(0, 64, 5)) == 30


def test_parts_are_of_nearly_the_same_size() -> None:
    assert [len(part) for part in pool(65).parts(32)] == [22, 22, 21]
    assert list(chain(*map(numbers, pool(65).parts(32)))) == list(range(65))


def test_mappings_keep_what_has_no_batch_axis() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
            return x * scale * self.weight

    data = [{"x": torch.full((4, 2), float(k)), "scale": 2.0, "labels": torch.tensor([0, 1, 0, 1])} for k in range(3)]
    whole = Pool.of(Batches(data, Scaled(), 100)).rows(torch.tensor([0, 5, 11]))
    assert whole.inputs.kwargs["x"][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert whole.inputs.kwargs["scale"] == 2.0
    (content,) = whole.contents()
    assert (content["labels"].tolist(), content["x"].shape, content["scale"]) == ([0, 1, 1], (3, 2), 2.0)


def test_images_that_make_no_pool() -> None:
    model, labels = nn.Conv2d(3, 3, 1), torch.tensor([0, 1])
    sizes = [(torch.zeros(2, 3, side, side), labels) for side in (4, 5)]
    with pytest.raises(ComparisonError, match=r"images of shapes \(3, 4, 4\) and \(3, 5, 5\); resize them to one size"):
        Pool.of(Batches(sizes, model, 10))
    with pytest.raises(HeadError, match="the loader yields images without labels"):
        Pool.of(Batches([torch.zeros(2, 3, 4, 4)], model, 10))
    with pytest.raises(ComparisonError, match="all 30 images to look at are of class 0; nothing can be told apart"):
        check_classes(pool(30, 1), "to look at")


def test_seeding_reaches_all_generators() -> None:
    import numpy as np

    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002

    seeded(3)
    first = drawn()
    seeded(3)
    assert drawn() == first


@pytest.mark.parametrize(("count", "rungs", "always"), [(1, 1, 0), (5, 3, 0), (8, 3, 2), (7, 4, 1)])
def test_judgements_are_counted_before_the_race(count: int, rungs: int, always: int) -> None:
    calls: list[str] = []

    def score(name: str, steps: int) -> float:
        calls.append(name)
        return float(name)

    field = [str(k) for k in range(count)]
    successive_halving(field, steps_of_rungs(2**rungs, rungs), one_by_one(score), field[:always])
    assert judgements(count, rungs, always) == len(calls)

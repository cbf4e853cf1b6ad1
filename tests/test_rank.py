"""Ranking networks by few steps from predicted weights."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, Ranking
from ghn_init.errors import ComparisonError, DeviceError, HeadError
from ghn_init.heads.ridge import regress
from ghn_init.models.batches import Batches
from ghn_init.ranking import bench, measure, rank
from ghn_init.ranking.calibration import Calibration, _features, calibrate
from ghn_init.ranking.candidates import makers
from ghn_init.ranking.measure import Judgement, Look, Settings, judge, look, start_
from ghn_init.ranking.result import Ranked
from ghn_init.trials.contestant import WEIGHT_DECAY, Contestant
from ghn_init.trials.pool import Pool
from ghn_init.viz.ranking import draw, front
from helpers import Tiny, colours
from test_heads import changed, copied, state

IMAGES = colours(96)
TRAIN = [(IMAGES.normalise(IMAGES.pixels[:64]), IMAGES.labels[:64])]
VAL = [(IMAGES.normalise(IMAGES.pixels[64:]), IMAGES.labels[64:])]
QUICK: dict[str, Any] = {"steps": 2, "rungs": 1, "batch_size": 16}


def nets(count: int = 4) -> dict[str, Callable[[], nn.Module]]:
    return {f"net{k}": lambda k=k: Tiny(1 + k % 2, 4 + 2 * k) for k in range(count)}


def rigged(monkeypatch: pytest.MonkeyPatch, right: dict[str, list[int]]) -> list[tuple[str, int]]:
    """Networks tell so many of the 32 validation images rightly, by rung; nothing is trained."""
    asked: list[tuple[str, int]] = []

    def stub(make: Any, steps: int, train: Pool, val: Pool, settings: Settings) -> Judgement:
        name = next(n for n, m in current.items() if m is make)
        rung = sum(n == name for n, _ in asked)
        asked.append((name, steps))
        return Judgement(torch.arange(len(val)) < right[name][rung], 1.0, 2.0)

    current: dict[str, Any] = {}

    def noted(candidates: Any, classes: int) -> Any:
        current.update(makers(candidates, classes))
        return current

    monkeypatch.setattr(bench, "judge", stub)
    monkeypatch.setattr(rank, "makers", noted)
    return asked


def test_the_better_half_starts_again_with_twice_the_steps(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"net0": [14, 29], "net1": [20, 12], "net2": [7], "net3": [16, 30], "net4": [4]}
    asked = rigged(monkeypatch, right)
    found = ghn_init.rank(nets(5), TRAIN, VAL, ghn, start="predicted", steps=30, rungs=2)
    assert asked == [*((f"net{k}", 15) for k in range(5)), ("net0", 30), ("net1", 30), ("net3", 30)]
    assert found.order == ["net3", "net0", "net1", "net2", "net4"]
    assert found.best == "net3"
    assert found.scores == {name: 100 * sum(counts) / len(counts) / 32 for name, counts in right.items()}
    assert [row.steps for row in found.rows] == [30, 30, 30, 15, 15]
    assert [row.tied for row in found.rows] == [False, True, False, False, False]  # 3 of 32 more are not sure, 14 are
    assert (found.steps, found.images) == (5 * 15 + 3 * 30, (5 * 15 + 3 * 30) * 32)
    assert found.rows[0].accuracies == (50.0, 93.75)


def test_a_fitted_head_is_judged_before_any_step(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rigged(monkeypatch, {"net0": [8, 20], "net1": [16, 10], "net2": [4]})
    found = ghn_init.rank(nets(3), TRAIN, VAL, ghn)
    assert asked == [("net0", 0), ("net1", 0), ("net2", 0), ("net0", 50), ("net1", 50)]
    assert [(row.name, row.accuracies, row.score) for row in found.rows] == [
        ("net0", (25.0, 62.5), 43.75), ("net1", (50.0, 31.25), 40.625), ("net2", (12.5,), 12.5),
    ]  # fmt: skip
    asked = rigged(monkeypatch, {"net0": [8, 8], "net1": [16, 16, 16], "net2": [4]})
    ghn_init.rank(nets(3), TRAIN, VAL, ghn, steps=8, rungs=3)
    assert asked == [("net0", 0), ("net1", 0), ("net2", 0), ("net0", 4), ("net1", 4), ("net1", 8)]


def test_without_steps_fitted_heads_alone_are_judged(ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = rigged(monkeypatch, {"net0": [8], "net1": [30], "net2": [4]})
    found = ghn_init.rank(nets(3), TRAIN, VAL, ghn, steps=0)
    assert asked == [("net0", 0), ("net1", 0), ("net2", 0)]
    assert (found.order, found.steps, found.images) == (["net1", "net0", "net2"], 0, 0)
    assert found.summary.startswith(
        "first: net1, surely ahead of 2 of 2 others on the same 32 images (2 before training); no training, "
    )
    draw(found, tmp_path / "ranking.svg")
    assert "<!-- before training -->" in (tmp_path / "ranking.svg").read_text()


def test_a_score_without_steps_is_that_of_the_first_rung(ghn: GHN) -> None:
    before, after = (ghn_init.score(Tiny(1, 4), TRAIN, VAL, ghn, steps=steps) for steps in (0, 2))
    assert before.accuracies == after.accuracies[:1]
    assert str(before).rpartition(", ")[0].endswith(") before training")


def test_heads_are_fitted_to_more_images_than_few_steps_see(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def noted(make: Any, steps: int, train: Pool, val: Pool, settings: Settings) -> Judgement:
        seen.append(len(train))
        return Judgement(torch.arange(len(val)) < 9, 1.0, 2.0)

    monkeypatch.setattr(bench, "judge", noted)
    images = colours(1100)
    many = [(images.normalise(images.pixels), images.labels)]
    ghn_init.score(Tiny(1, 4), many, VAL, ghn, steps=1)
    ghn_init.score(Tiny(1, 4), many, VAL, ghn, steps=1, start="predicted")
    assert seen == [1000, 1000, 32]


@pytest.mark.parametrize(("count", "tied"), [(4, False), (5, True)])
def test_the_best_of_many_has_to_be_farther_ahead(ghn: GHN, monkeypatch: pytest.MonkeyPatch, count: int, tied: bool) -> None:
    """8 of 32 more: of 6 pairs 6/256 = 0.023, of 10 pairs 0.039."""
    rigged(monkeypatch, {f"net{k}": [20 if k == 2 else 12] for k in range(count)})
    found = ghn_init.rank(nets(count), TRAIN, VAL, ghn, rungs=1)
    assert (found.best, {row.tied for row in found.rows[1:]}) == ("net2", {tied})


def test_ties_keep_the_order_of_the_candidates(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {f"net{k}": [9, 9] for k in range(4)})
    found = ghn_init.rank(nets(), TRAIN, VAL, ghn)
    assert found.order == ["net0", "net1", "net2", "net3"]
    assert "first: net0, not surely ahead of net1, net2, net3 on the same 32 images; " in found.summary


def test_a_copy_is_tied_with_the_first_also_where_one_network_was_left(ghn: GHN) -> None:
    model = Tiny(1, 4)
    found = ghn_init.rank({"a": model, "copy of a": copy.deepcopy(model)}, TRAIN, VAL, ghn, start="predicted", steps=4)
    assert [(row.name, row.steps, row.tied) for row in found.rows] == [("a", 4, False), ("copy of a", 2, True)]
    assert found.rows[0].accuracies[0] == found.rows[1].score
    assert "first: a, not surely ahead of copy of a on the same 32 images; " in found.summary


def test_networks_are_compared_after_as_many_steps(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is at 31 of 32 in the end; when those that were dropped had 9, 5 and 0, it had 10."""
    rigged(monkeypatch, {"net0": [10, 31], "net1": [11, 20], "net2": [9], "net3": [5], "net4": [0], "net5": [10, 29]})
    found = ghn_init.rank(nets(6), TRAIN, VAL, ghn, start="predicted", steps=4)
    assert {row.name for row in found.rows if row.tied} == {"net2", "net3", "net5"}
    sure = "surely ahead of 2 of 5 others on the same 32 images (1 after 4 steps, 1 after 2 steps), not of net5, net2, net3; "
    assert f"first: net0, {sure}" in found.summary


def test_the_first_by_known_accuracies_is_compared_with_those_that_came_farther(
    ghn: GHN, monkeypatch: pytest.MonkeyPatch
) -> None:
    rigged(monkeypatch, {f"net{k}": [2 * k + 3, 2 * k + 4] for k in range(6)})
    known = {f"net{k}": 90.0 - 3 * k for k in (0, 1, 3, 5)}
    found = ghn_init.rank(nets(6), TRAIN, VAL, ghn, start="predicted", steps=4, known=known)
    assert (found.best, found.rows[0].steps) == ("net0", 2)
    assert {row.name for row in found.rows if row.steps == 4} == {"net3", "net4", "net5"}
    assert all(row.tied for row in found.rows[1:])


def test_a_score_is_a_function_of_network_data_and_seed(ghn: GHN) -> None:
    found = []
    for k, order in enumerate((1, -1)):
        torch.manual_seed(k)
        np.random.seed(k)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        shuffled = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*TRAIN[0]), 16, shuffle=True)
        ordered = dict(list(nets(3).items())[::order])
        found.append(ghn_init.rank(ordered, shuffled, VAL, ghn, start="predicted", **QUICK))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert found[0].scores == found[1].scores
    assert len(set(found[0].scores.values())) > 1
    other = ghn_init.rank(nets(3), TRAIN, VAL, ghn, start="predicted", **QUICK, seed=1)
    assert other.scores != found[0].scores


def test_networks_start_from_predicted_parameters(ghn: GHN) -> None:
    pool = Pool.of(Batches(TRAIN, Tiny(1, 4), 64))

    def begun(**options: Any) -> nn.Module:
        torch.manual_seed(0)
        model = Tiny(2, 8)
        start_(model, pool, Settings(ghn, options.pop("start"), 0.1, 16))
        return model

    torch.manual_seed(0)
    own = Tiny(2, 8)
    assert not changed(state(begun(start="default")), state(own)) - {"random"}
    ghn_init.initialize(own, ghn, pool.inputs.few(), head=False)
    statistics = {name for name, _ in own.named_buffers()}
    predicted = begun(start="predicted")
    assert not changed(state(predicted), state(own)) - statistics - {"random"}
    fitted = begun(start="predicted+fitted")
    ghn_init.fit_head_(predicted, pool.contents())
    assert not changed(state(fitted.train()), state(predicted)) - {"random"}


def test_a_measurement_is_its_steps_of_training(ghn: GHN) -> None:
    train, val = (Pool.of(Batches(data, Tiny(1, 4), 64)) for data in (TRAIN, VAL))
    settings = Settings(ghn, "predicted", 0.1, 16)
    few, many = (judge(lambda: Tiny(1, 16), steps, train, val, settings).right.double().mean() for steps in (1, 40))
    assert many > max(float(few), 0.8)


def test_what_a_network_is(ghn: GHN) -> None:
    pool = Pool.of(Batches(TRAIN, Tiny(1, 4), 64))
    found = look(lambda: Tiny(2, 8), pool, pool.labels, Settings(ghn, "predicted", 0.1, 16))
    conv, head = 16 * 16 * 9 * (3 * 8 + 8 * 8), 8 * 3
    assert (found.parameters, found.macs) == (sum(p.numel() for p in Tiny(2, 8).parameters()), conv + head)
    (embeddings,) = ghn.embed_nodes([ghn_init.trace(Tiny(2, 8), torch.zeros(2, 3, 16, 16))])
    torch.testing.assert_close(found.embedding, embeddings.detach().mean(0))
    assert "8 of 10 parameters predicted" in found.predicted
    assert found.share == pytest.approx(100 * (1 - (head + 3) / found.parameters))
    own = look(lambda: Tiny(2, 8), pool, pool.labels, Settings(ghn, "default", 0.1, 16))
    assert (own.predicted, own.share, own.macs) == ("", 0.0, found.macs)


def test_modules_names_and_functions(ghn: GHN) -> None:
    own = Tiny(1, 4)
    before = state(own)
    assert list(makers([own, "resnet10t", "torchvision:squeezenet1_1", nets], 7)) == [
        "Tiny", "resnet10t", "torchvision:squeezenet1_1", "nets",
    ]  # fmt: skip
    named = makers({"own": own, "timm": "resnet10t", "made": lambda: Tiny(1, 4)}, 7)
    assert named["own"]() is not own
    assert named["timm"]().fc.weight.shape[0] == 7  # type: ignore[union-attr]
    ghn_init.rank({"own": own, "other": lambda: Tiny(2, 4)}, TRAIN, VAL, ghn, **QUICK)
    assert not changed(state(own), before) - {"random"}


def looks(count: int) -> dict[str, Look]:
    rng = torch.Generator().manual_seed(0)
    return {f"n{k}": Look(1000 * (k + 1), 10**6 + 37 * k * k, torch.randn(5, generator=rng), "") for k in range(count)}


@pytest.mark.parametrize("slope", [0.5, 0.0])
def test_a_calibration_is_scikit_learns_ridge_and_its_error_brute_force(slope: float) -> None:
    seen = looks(12)
    scores = {name: 40 + 3.0 * k + (k * 7 % 5) for k, name in enumerate(seen)}
    known = {name: 80 + slope * scores[name] + (k * 5 % 7) for k, name in enumerate(list(seen)[::2])}
    found = calibrate(scores, seen, known)
    X, names = _features(scores, seen).numpy(), list(seen)
    rows, y = [names.index(name) for name in known], np.array(list(known.values()))
    centred = torch.tensor(X[rows] - X[rows].mean(0))
    _, strength, _ = regress(centred, torch.tensor(y - y.mean())[:, None], 1 / len(y))
    expected = Ridge(alpha=strength).fit(X[rows], y).predict(X)
    # Six rows of eight features at almost no strength: solvers and processors differ from the seventh digit on.
    np.testing.assert_allclose(list(found.accuracies.values()), expected, rtol=1e-6)
    left_out, guesses = [], []
    for k in range(len(y)):
        others = [j for j in range(len(y)) if j != k]
        rest = torch.tensor(X[rows][others] - X[rows][others].mean(0))
        _, own, _ = regress(rest, torch.tensor(y[others] - y[others].mean())[:, None], 1 / len(others))  # seen by no other
        model = Ridge(alpha=own).fit(X[rows][others], y[others])
        left_out.append(y[k] - model.predict(X[rows][[k]])[0])
        guesses.append(y[k] - y[others].mean())
    assert found.error == pytest.approx(np.sqrt(np.mean(np.square(left_out))), rel=1e-5)
    assert found.spread == pytest.approx(np.sqrt(np.mean(np.square(guesses))))
    assert str(found).startswith(f"calibrated on 6 known accuracies: leave-one-out error {found.error:.2f} points, where")


def test_a_default_device_changes_no_calibration() -> None:
    looks = {f"net{k}": Look(10**k, 10**k, torch.full((4,), float(k)), "") for k in range(5)}
    scores, known = {name: float(k) for k, name in enumerate(looks)}, {f"net{k}": 2.0 * k for k in range(5)}
    expected = calibrate(scores, looks, known)
    with torch.device("meta"):
        assert calibrate(scores, looks, known) == expected


def test_nothing_is_ranked_on_the_meta_device(ghn: GHN) -> None:
    with pytest.raises(DeviceError, match="device is 'meta', on which nothing is computed"):
        ghn_init.rank(nets(2), TRAIN, VAL, ghn, **QUICK, device="meta")


def test_known_accuracies_make_the_order(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    """They fall where scores rise."""
    rigged(monkeypatch, {f"net{k}": [2 * k + 3] for k in range(6)})
    known = {f"net{k}": 90.0 - 3 * k for k in (0, 1, 3, 5)}
    found = ghn_init.rank(nets(6), TRAIN, VAL, ghn, rungs=1, known=known)
    assert found.calibration is not None
    assert found.order == sorted(found.order, key=lambda name: -found.calibration.accuracies[name])  # type: ignore[union-attr]
    assert found.best == "net0"
    assert [row.expected for row in found.rows] == [found.calibration.accuracies[name] for name in found.order]
    assert found.calibration.error < found.calibration.spread


def test_a_ranking_is_read_by_people_and_programs() -> None:
    rows = (
        Ranked("a", 90.0, (86.5, 92.5), 100, (80.0, 90.0), False, 1234, 56789, "most", 98.76, None, 0.5, 2.0),
        Ranked("b", 89.0, (85.4, 91.9), 100, (85.0, 89.0), True, 99, 1000, "all", 100.0, None, 0.25, 2.0),
        Ranked("c", 10.0, (7.1, 13.9), 50, (10.0,), False, 5, 10, ""),
    )
    found = Ranking(rows, 250, 8000, 2000, 3.25)
    assert str(found).splitlines() == [
        "network   score, %       95 %  after each rung, %  steps  predicted, %  parameters    MACs  ms/image",
        "a             90.0  86.5–92.5         80.0 → 90.0    100          98.8       1,234  56,789      0.50",
        "b (tied)      89.0  85.4–91.9         85.0 → 89.0    100         100.0          99   1,000      0.25",
        "c             10.0   7.1–13.9                10.0     50           0.0           5      10      0.00",
        "first: a, surely ahead of 1 of 2 others on the same 2,000 images (1 after 50 steps), not of b; "
        "250 steps on 8,000 images, 3.2 s",
    ]
    assert repr(found) == f"Ranking of 3 networks; {found.summary}"
    read = json.loads(json.dumps(found.to_dict()))
    assert [row["name"] for row in read["rows"]] == ["a", "b", "c"]
    assert (read["rows"][0]["accuracies"], read["calibration"]) == ([80.0, 90.0], None)
    calibrated = Ranking((rows[0],), 250, 8000, 2000, 3.25, Calibration({"a": 91.0}, 1.0, 2.0, 4))
    assert json.loads(json.dumps(calibrated.to_dict()))["calibration"]["error"] == 1.0


def ranking(*ties: bool) -> Ranking:
    """Of networks called 0, 1, … without and with ties."""
    rows = [Ranked(str(k), 50.0, (40.0, 60.0), 8, (50.0,), tie, 10, 100, "all", 100.0) for k, tie in enumerate(ties)]
    return Ranking(tuple(rows), 8, 64, 96, 1.0)


def test_a_summary_names_few_ties() -> None:
    assert "first: 0, surely ahead of 2 of 2 others on the same 96 images (2 after 8 steps); 8" in ranking(*3 * [False]).summary
    assert "not surely ahead of 1, 2, 3, 4, 5 and 2 more on the same 96 images; " in ranking(False, *7 * [True]).summary
    assert "first: 0, surely ahead of the other on the same 96 images (1 after 8 steps); 8" in ranking(False, False).summary


def test_a_ranking_is_a_data_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    frame = ranking(False, True).to_frame()
    assert list(frame) == [
        "name", "score", "low", "high", "steps", "accuracies", "tied", "parameters", "macs", "predicted", "share", "expected",
        "milliseconds", "seconds",
    ]  # fmt: skip
    assert frame["name"].tolist() == ["0", "1"]
    assert frame["tied"].tolist() == [False, True]
    assert frame.loc[1, ["low", "high", "share", "predicted"]].tolist() == [40.0, 60.0, 100.0, "all"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ComparisonError, match=r"a data frame needs pandas .*: pip install pandas, or take to_dict\(\)"):
        ranking(False).to_frame()


def test_the_front_and_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sizes = {"cheap": (50.0, 10), "worse": (40.0, 20), "good": (70.0, 30), "same": (70.0, 40)}
    rows = tuple(Ranked(n, score, (0.0, score), 100, (score,), False, 1, macs, "") for n, (score, macs) in sizes.items())
    assert [row.name for row in front(rows)] == ["cheap", "good"]
    dropped = Ranked("dropped", 30.0, (20.0, 40.0), 50, (30.0,), False, 1, 50, "")
    draw(Ranking((*rows, dropped), 1, 1, 1, 1.0), tmp_path / "front.svg")
    drawn = (tmp_path / "front.svg").read_text()
    assert all(
        f"<!-- {words} -->" in drawn for words in ("up to 100 steps", "dropped after fewer steps", "none is cheaper and better")
    )
    draw(Ranking(rows, 1, 1, 1, 1.0), tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_forward_pass_is_timed_without_the_first() -> None:
    pool = Pool.of(Batches(VAL * 6, Tiny(1, 4), 192))

    class Slow(Tiny):
        called = 0

        def forward(self, x: Tensor) -> Tensor:
            Slow.called += 1
            time.sleep(0.5 if Slow.called == 1 else 0.0)
            return super().forward(x)

    contestant = Contestant(Slow(1, 4), 0.1)
    contestant.judge(pool)
    assert Slow.called == 3
    assert 0 < contestant.milliseconds < 500 / 64
    Slow.called = 0
    contestant.judge(pool.first(64))
    assert contestant.milliseconds > 500 / 64


@pytest.mark.parametrize(
    ("optimizer", "numbers"),
    [
        (torch.optim.SGD, {"lr": 0.1, "weight_decay": WEIGHT_DECAY, "momentum": 0}),
        (torch.optim.AdamW, {"lr": 0.1, "weight_decay": WEIGHT_DECAY, "betas": (0.9, 0.999)}),
        (partial(torch.optim.SGD, nesterov=True, momentum=0.8), {"lr": 0.1, "weight_decay": WEIGHT_DECAY, "momentum": 0.8}),
        (partial(torch.optim.AdamW, weight_decay=0.2), {"lr": 0.1, "weight_decay": 0.2}),
    ],
)
def test_optimizers_get_their_numbers_by_name(optimizer: Any, numbers: dict[str, Any]) -> None:
    made = Contestant(Tiny(1, 4), 0.1, optimizer)._optimizer
    assert {name: made.defaults[name] for name in numbers} == numbers


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (
            torch.optim.LBFGS,
            "the optimizer LBFGS can't be made of parameters, lr and weight_decay .TypeError: .*; pass a function",
        ),
        (lambda parameters, lr: None, "the optimizer <lambda> can't be made"),
        (lambda *_: 3, "the optimizer is a int; pass a function such as lambda parameters, lr, weight_decay: torch.optim.SGD"),
    ],
)
def test_what_is_no_optimizer(optimizer: Any, words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        Contestant(Tiny(1, 4), 0.1, optimizer)


def test_every_measurement_is_told_of(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"net0": [8, 16], "net1": [4]})
    seen: list[tuple[str, int, float]] = []
    ghn_init.rank(nets(2), TRAIN, VAL, ghn, start="predicted", steps=4, on_judged=lambda *found: seen.append(found))
    assert seen == [("net0", 2, 25.0), ("net1", 2, 12.5), ("net0", 4, 50.0)]


def broken() -> nn.Module:
    raise RuntimeError("no luck")


def normed() -> dict[str, Callable[[], nn.Module]]:
    """Their batch norms, over vectors, can't take one image."""
    return {
        name: lambda w=width: nn.Sequential(nn.Flatten(), nn.Linear(768, w), nn.BatchNorm1d(w), nn.ReLU(), nn.Linear(w, 3))
        for name, width in (("narrow", 4), ("wide", 8))
    }


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"candidates": {"a": Tiny(1, 4)}}, ComparisonError, "there is one candidate; a ranking needs two"),
        ({"candidates": {1: Tiny(1, 4), 2: Tiny(1, 8)}}, ComparisonError, "a candidate is called 1, a int; expected a string"),
        ({"candidates": [Tiny(1, 4), Tiny(1, 8)]}, ComparisonError, "two candidates are called 'Tiny'; pass a mapping"),
        ({"candidates": {"a": 3, "b": broken}}, ComparisonError, "the candidate 'a' is a int; expected a module"),
        (
            {"candidates": {"a": broken, "b": broken}},
            ComparisonError,
            r"^the candidate 'a' can't be made .RuntimeError: no luck.\.$",
        ),
        (
            {"candidates": [("a", Tiny(1, 4)), ("b", Tiny(1, 4))]},
            ComparisonError,
            "^the candidate 'tuple' is a tuple; expected .* in a list or in a mapping of names to them.$",
        ),
        ({"candidates": {"a": lambda: 3, "b": broken}}, ComparisonError, "the candidate 'a' makes a int; expected a torch"),
        (
            {"candidates": ["resnet10t", "resnet10tt"]},
            ComparisonError,
            "candidate 'resnet10tt': timm has no model 'resnet10tt'",
        ),
        ({"candidates": {"a": lambda: nn.Conv2d(5, 3, 1), "b": broken}}, ComparisonError, "candidate 'a': .*channels"),
        (
            {"candidates": {"a": lambda: Tiny(1, 4), "b": lambda: nn.Conv2d(3, 3, 1)}},
            ComparisonError,
            "candidate 'b': Conv2d gives",
        ),
        ({"steps": 1, "rungs": 2, "start": "predicted"}, ComparisonError, "1 steps can't be halved for 2 rungs"),
        ({"start": "best"}, ComparisonError, "start is 'best'; expected 'predicted.fitted', 'predicted', 'default'"),
        ({"rate": 0.0}, ComparisonError, "rate is 0.0; expected a finite number above 0"),
        ({"rate": [0.1]}, ComparisonError, r"rate is \[0.1\]; expected a finite number above 0"),
        ({"batch_size": 1}, ComparisonError, "batch_size is 1; expected a whole number, 2 at least"),
        ({"batch_size": 3.5}, ComparisonError, "batch_size is 3.5; expected a whole number, 2 at least"),
        ({"steps": 2.5, "start": "predicted"}, ComparisonError, "steps is 2.5; expected a whole number, 1 at least"),
        ({"steps": 2.5, "start": "predicted+fitted"}, ComparisonError, "steps is 2.5; expected a whole number, 0 at least"),
        ({"steps": 0, "start": "predicted"}, ComparisonError, "steps is 0; expected a whole number, 1 at least"),
        ({"rungs": "a"}, ComparisonError, "rungs is 'a'; expected a whole number, 1 at least"),
        ({"rungs": 0}, ComparisonError, "rungs is 0; expected a whole number, 1 at least"),
        ({"val_images": 0.5}, ComparisonError, "val_images is 0.5; expected a whole number, 1 at least"),
        ({"seed": True}, ComparisonError, "seed is True; expected a whole number, 0 at least"),
        ({"seed": "a"}, ComparisonError, "seed is 'a'; expected a whole number, 0 at least"),
        ({"seed": 2**63}, ComparisonError, r"seed is 9223372036854775808; expected a whole number below 2\*\*63"),
        ({"workers": 1.5}, ComparisonError, "workers is 1.5; expected a whole number, 1 at least"),
        (
            {"train": [(x[:9], y[:9]) for x, y in TRAIN]},
            ComparisonError,
            r"are 9 images to train on, and a step takes 16 .batch",
        ),
        ({"train": [(x.log(), y) for x, y in TRAIN]}, ComparisonError, "of 64 images to train on 64 hold values that are not"),
        (
            {"val": [(x.log(), y) for x, y in VAL]},
            ComparisonError,
            "of 32 images to judge by 32 hold values that are not finite",
        ),
        (
            {"steps": 4, "train": [(x, y % 2) for x, y in TRAIN]},
            ComparisonError,
            "judge by of class 2, and none of 64 to train on is",
        ),
        (
            {"optimizer": "adam"},
            ComparisonError,
            "the optimizer 'adam' can't be made of .*; pass a function such as lambda param",
        ),
        ({"train": []}, ComparisonError, "the loader has no batches"),
        ({"val": [VAL[0][0]]}, HeadError, "images without labels"),
        ({"train": [(x, y * 0) for x, y in TRAIN]}, ComparisonError, "images to train on are of class 0"),
        ({"val": [(x, y * 0 + 2) for x, y in VAL]}, ComparisonError, "all 32 images to judge by are of class 2; nothing"),
        ({"candidates": normed(), "val": [(x[:1], y[:1]) for x, y in VAL]}, ComparisonError, "1 image to judge by; .* need 2"),
        ({"known": {"x": 1.0}}, ComparisonError, "the accuracy of 'x' is known, which is no candidate; there are net0, net1"),
        ({"known": [1.0]}, ComparisonError, "known is a list; expected a mapping of candidates' names to accuracies"),
        ({"known": {"net0": "5"}}, ComparisonError, "the known accuracy of 'net0' is '5'; expected a number, in percent"),
        ({"known": {"net0": 1.0}}, ComparisonError, "1 accuracies are known, of which 0 are not finite; a calibration needs 4"),
        ({"known": {f"net{k}": float("nan") for k in range(4)}}, ComparisonError, "4 accuracies are known, of which 4 are not"),
        ({"known": {f"net{k}": 0.6 + k / 10 for k in range(4)}}, ComparisonError, "go from 0.6 to 0.9; expected percent, as"),
        ({"known": {f"net{k}": 250.0 * k for k in range(4)}}, ComparisonError, "of 'net1' is 250; expected percent, from 0"),
        ({"known": {f"net{k}": 20.0 * k - 1 for k in range(4)}}, ComparisonError, "of 'net0' is -1; expected percent, from 0"),
    ],
)
def test_what_cannot_be_ranked(ghn: GHN, changes: dict[str, Any], error: type[Exception], words: str) -> None:
    options: dict[str, Any] = {"candidates": nets(), "train": TRAIN, "val": VAL, **QUICK, **changes}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(error, match=words):
        ghn_init.rank(ghn=ghn, **options)
    assert torch.equal(torch.get_rng_state(), before)


def without_classes(model: nn.Module) -> nn.Module:
    model.num_classes = 0  # type: ignore[assignment]
    return model


def narrow(outputs: int) -> nn.Module:
    model = Tiny(1, 4)
    model.head = nn.Linear(4, outputs)
    return model


@pytest.mark.parametrize(
    ("make", "start", "words"),
    [
        (lambda: narrow(2), "predicted", "labels go from 0 to 2, and Tiny has classes 0 to 1; make it with an output for each"),
        (lambda: narrow(2), "default", "labels go from 0 to 2, and Tiny has classes 0 to 1"),
        (
            lambda: narrow(5),
            "predicted+fitted",
            "the model has 5 outputs, but none of 64 images is of class 3, 4; make the model .*start='predicted' ranks",
        ),
        (lambda: without_classes(Tiny(1, 4)), "default", r"Tiny has no classes \(num_classes is 0\)"),
    ],
)
def test_a_network_of_other_classes_is_found_before_any_is_trained(
    ghn: GHN, monkeypatch: pytest.MonkeyPatch, make: Any, start: Any, words: str
) -> None:
    asked = rigged(monkeypatch, {})
    with pytest.raises(ComparisonError, match=f"candidate 'other': .*{words}"):
        ghn_init.rank({"net": lambda: Tiny(1, 4), "other": make}, TRAIN, VAL, ghn, start=start, **QUICK)
    assert asked == []


def test_few_images_do_not_come_class_by_class(ghn: GHN) -> None:
    few = [(x[:2], torch.tensor([0, 1])) for x, _ in VAL]
    assert ghn_init.score(Tiny(1, 4), TRAIN, few, ghn, steps=2).val_images == 2


def test_numbers_may_be_those_of_numpy(ghn: GHN, tmp_path: Path) -> None:
    options = {name: np.int64(value) for name, value in QUICK.items()}
    found = ghn_init.rank(nets(2), TRAIN, VAL, ghn, **options, seed=np.int64(1), out=tmp_path / "r.json")
    assert found == ghn_init.rank(nets(2), TRAIN, VAL, ghn, **QUICK, seed=1)


def test_a_fitted_head_of_more_classes_is_told_no_argument_that_rank_lacks(ghn: GHN) -> None:
    with pytest.raises(ComparisonError, match="an output for each class of the data; start='predicted' ranks .* heads.$"):
        ghn_init.score(narrow(5), TRAIN, VAL, ghn, steps=2, start="predicted+fitted")


def test_modules_that_cannot_be_copied() -> None:
    class Single(Tiny):
        def __deepcopy__(self, memo: object) -> Tensor:
            raise TypeError("there can be only one")

    with pytest.raises(ComparisonError, match="the candidate 'a' can't be copied .TypeError: there can be only one"):
        makers({"a": Single(1, 4), "b": broken}, 3)["a"]()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((3, 8, 8), r"to train on are \[\(3, 16, 16\)\] .* judge by \[\(3, 8, 8\)\]; bring them to one"),
        ((1, 16, 16), r"judge by \[\(1, 16, 16\)\]"),
    ],
)
def test_images_that_judge_are_of_the_size_of_those_to_train_on(ghn: GHN, size: tuple[int, int, int], words: str) -> None:
    val = [(torch.zeros(32, *size), VAL[0][1])]
    with pytest.raises(ComparisonError, match=words):
        ghn_init.rank(nets(), TRAIN, val, ghn, **QUICK)
    with pytest.raises(ComparisonError, match=words):
        ghn_init.score(Tiny(1, 4), TRAIN, val, ghn, steps=1)


@pytest.mark.parametrize(
    "one", ["test_resnet", nn.Sequential(Tiny(1, 4)), lambda: Tiny(1, 4)], ids=["name", "module", "function"]
)
def test_one_candidate_is_no_list(ghn: GHN, one: Any) -> None:
    with pytest.raises(ComparisonError, match="candidates is one alone, .*; pass a list of two at least"):
        ghn_init.rank(one, TRAIN, VAL, ghn, **QUICK)


def sorted_by_class(data: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    ((x, y),) = data
    order = y.argsort(stable=True)
    return [(x[order], y[order])]


def test_the_order_of_images_that_judge_counts_for_nothing(ghn: GHN) -> None:
    options: dict[str, Any] = {"steps": 12, "batch_size": 16, "start": "default"}
    images = colours(400)
    val = [(images.normalise(images.pixels), images.labels)]
    mixed, ordered = (ghn_init.score(Tiny(2, 8), TRAIN, one, ghn, **options).accuracy for one in (val, sorted_by_class(val)))
    assert mixed > 60  # chance is 33 %
    assert ordered == pytest.approx(mixed, abs=5)  # batches have other images


def test_images_that_come_class_by_class_and_lack_some_are_refused(ghn: GHN) -> None:
    with pytest.raises(ComparisonError, match=r"first 20 images to judge by .* none is of class 2; shuffle .* \(val_images\)"):
        ghn_init.rank(nets(), TRAIN, sorted_by_class(VAL), ghn, val_images=20, **QUICK)
    with pytest.raises(ComparisonError, match=r"first 32 images to train on .* none is of class 2; shuffle .* \(steps\)"):
        ghn_init.rank(nets(), sorted_by_class(TRAIN), VAL, ghn, start="predicted", **QUICK)


def test_candidates_that_share_a_part_are_refused_before_it_is_trained(ghn: GHN) -> None:
    body = Tiny(2, 8)
    before = copied(state(body))
    heads = {name: lambda: nn.Sequential(body, nn.Linear(3, 3)) for name in ("one", "other")}
    with pytest.raises(ComparisonError, match="'other' makes a .* '0.body.0.weight' .* of one that the candidate 'one' made"):
        ghn_init.rank(heads, TRAIN, VAL, ghn, start="default", **QUICK)
    assert not changed(state(body), before)


@pytest.mark.parametrize("start", ["default", "predicted"])
def test_images_that_a_network_cant_take_are_the_loaders(ghn: GHN, start: Any) -> None:
    def one_channel() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    words = r"candidate 'one_channel': .* from the loader: .*Let the loader yield what the forward takes: images of its"
    with pytest.raises(ComparisonError, match=words):
        ghn_init.rank([one_channel, *nets(1).values()], TRAIN, VAL, ghn, start=start, **QUICK)


def test_heads_are_fitted_to_more_images_where_the_first_lack_classes(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FITTED_IMAGES", 20)
    seen: list[int] = []
    fit = measure.fit_on

    def noted(batches: Batches, *args: Any) -> Any:
        seen.append(sum(len(labels) for _, labels in batches.contents))
        return fit(batches, *args)

    monkeypatch.setattr(measure, "fit_on", noted)
    ((x, y),) = sorted_by_class(TRAIN)
    order = torch.cat([torch.arange(20), torch.randperm(44, generator=torch.Generator().manual_seed(0)) + 20])
    for train in (TRAIN, [(x[order], y[order])]):
        ghn_init.rank(nets(2), train, VAL, ghn, rungs=1, steps=4, batch_size=16)
    assert seen == [20, 20, 64, 64]

"""A ranking goes on where it was, from its file."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import ComparisonError
from ghn_init.models.batches import Batches
from ghn_init.ranking import bench
from ghn_init.ranking.candidates import maker
from ghn_init.ranking.fingerprints import of_images, of_network
from ghn_init.ranking.measure import Judgement, Look
from ghn_init.trials.contestant import sgd
from ghn_init.trials.pool import Pool
from helpers import Tiny
from test_rank import QUICK, TRAIN, VAL, nets
from zoo import Fn


def watched(monkeypatch: pytest.MonkeyPatch, most: int = 100) -> list[int | None]:
    """Steps of each measurement, None of a look; the one after so many judgements is interrupted."""
    seen: list[int | None] = []
    judge, look = bench.judge, bench.look

    def judged(make: Any, steps: int, *args: Any) -> Judgement:
        if len(seen) - seen.count(None) == most:
            raise KeyboardInterrupt
        seen.append(steps)
        return judge(make, steps, *args)

    def looked(*args: Any) -> Look:
        seen.append(None)
        return look(*args)

    monkeypatch.setattr(bench, "judge", judged)
    monkeypatch.setattr(bench, "look", looked)
    return seen


def test_the_same_call_goes_on_where_it_was(ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 2, "batch_size": 16, "start": "predicted"}
    expected = ghn_init.rank(nets(), TRAIN, VAL, ghn, **options)
    out = tmp_path / "ranking.json"
    with monkeypatch.context() as patch:
        watched(patch, most=3)
        with pytest.raises(KeyboardInterrupt):
            ghn_init.rank(nets(), TRAIN, VAL, ghn, **options, out=out)
    assert len(json.loads(out.read_text())["judgements"]) == 3
    seen = watched(monkeypatch)
    found = ghn_init.rank(nets(), TRAIN, VAL, ghn, **options, out=str(out))
    assert seen == [1, 2, 2]
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == ["ranking.json"]
    assert json.loads(out.read_text())["ranking"] == json.loads(json.dumps(found.to_dict()))
    told: list[str] = []
    known = {f"net{k}": 70.0 + k for k in range(4)}
    again = ghn_init.rank(nets(), TRAIN, VAL, ghn, **options, out=out, known=known, on_judged=lambda *of: told.append(of[0]))
    assert (seen, len(told)) == ([1, 2, 2], 6)
    assert again.calibration is not None
    assert [row.milliseconds for row in again.rows if row.name == found.best] == [found.rows[0].milliseconds]


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr)


def ranked(ghn: GHN, out: Path, **changes: Any) -> ghn_init.Ranking:
    options = {
        "candidates": nets(2),
        "train": TRAIN,
        "val": VAL,
        "ghn": ghn,
        "out": out,
        "start": "predicted",
        **QUICK,
        **changes,
    }
    return ghn_init.rank(**options)


def stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured."""
    monkeypatch.setattr(bench, "judge", lambda make, steps, *_: Judgement(torch.arange(32) < 9, 1.0, 2.0))
    monkeypatch.setattr(bench, "look", lambda *_: Look(1, 1, torch.zeros(3), ""))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 4}, "steps (2 there, 4 here); training images ("),
        ({"rate": 0.1, "batch_size": 8}, "rate (0.02 there, 0.1 here); batch_size (16 there, 8 here)"),
        ({"seed": 1}, "seed (0 there, 1 here)"),
        ({"start": "default"}, "start (predicted there, default here)"),
        ({"optimizer": adam}, f"optimizer ({sgd.__module__}.sgd there, {adam.__module__}.adam here)"),
        ({"train": [(x + 1, y) for x, y in TRAIN]}, "training images ("),
        ({"val": [(x, y.flip(0)) for x, y in VAL]}, "validation images ("),
    ],
)
def test_a_file_of_another_ranking(
    ghn: GHN, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stubs(monkeypatch)
    out = tmp_path / "ranking.json"
    ranked(ghn, out)
    before = out.read_text()
    with pytest.raises(ComparisonError, match=f"ranking.json holds a ranking that differs in .*{re.escape(words)}"):
        ranked(ghn, out, **changes)
    assert out.read_text() == before


def test_what_was_measured_of_others_is_not_lost(ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A network that fails is left out, mended, and beside one more; each is measured once."""

    class Failing(Tiny):
        fails = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.fails and self.training and len(x) > 2:
                raise RuntimeError("boom")
            return super().forward(x)

    class Mended(Failing):
        fails = False

    seen, out = watched(monkeypatch), tmp_path / "ranking.json"
    first, last = nets(2).items()
    with pytest.raises(ComparisonError, match="candidate 'boom': Failing fails on images .*boom"):
        ranked(ghn, out, candidates=dict([first, ("boom", lambda: Failing(1, 4)), last]))
    assert [one for one in seen if one] == [2, 2]  # the first, and the one that failed
    ranked(ghn, out, candidates=nets(2))
    assert [one for one in seen if one] == [2, 2, 2]
    mended = {**nets(2), "boom": lambda: Mended(1, 4), "more": lambda: Tiny(1, 4)}
    found = ranked(ghn, out, candidates=mended)
    assert [one for one in seen if one] == [2] * 5
    seen.clear()
    ranked(ghn, out, candidates=nets(2))
    assert ranked(ghn, out, candidates=mended) == found
    assert seen == []
    assert found == ghn_init.rank(mended, TRAIN, VAL, ghn, start="predicted", **QUICK)


def test_another_network_of_the_same_name_is_measured_anew_aloud(
    ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "ranking.json"
    ranked(ghn, out)
    seen = watched(monkeypatch)
    other = {"net0": nets()["net0"], "net1": nets()["net2"]}
    found = ranked(ghn, out, candidates=other)
    assert seen == [None, 2]
    assert found == ghn_init.rank(other, TRAIN, VAL, ghn, start="predicted", **QUICK)
    assert [record.getMessage() for record in caplog.records] == [
        f"'net1' is another network than in {out}, and is measured anew; a module that is made without a seed is so each time: "
        f"pass a function that makes it"
    ]


def test_a_network_that_is_dropped_now_is_compared_where_it_was_dropped(
    ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file has it after more steps too, from a ranking with one that was worse; known accuracies make it the first."""
    right = {"worse": [4], "first": [8, 31], "a": [20], "b": [25, 5], "c": [24, 5]}

    def stub(make: Any, steps: int, *_: Any) -> Judgement:
        return Judgement(torch.arange(32) < right[make().called][steps - 1], 1.0, 2.0)

    def called(name: str) -> nn.Module:
        model = Tiny(1, 4)
        model.called = name  # type: ignore[assignment]
        return model

    stubs(monkeypatch)
    monkeypatch.setattr(bench, "judge", stub)
    options: dict[str, Any] = {"steps": 2, "rungs": 2}
    makes = {name: partial(called, name) for name in right}
    ranked(ghn, tmp_path / "r.json", candidates={name: makes[name] for name in ("worse", "first")}, **options)
    options |= {"candidates": {name: makes[name] for name in ("first", *"abc")}}
    options |= {"known": {"first": 98.0, "a": 86.0, "b": 81.0, "c": 82.0}}
    found = ranked(ghn, tmp_path / "r.json", **options)
    assert (found.best, found.rows[0].steps) == ("first", 1)
    assert found == ranked(ghn, tmp_path / "other.json", **options)


def test_optimizers_that_are_made_in_one_place(ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def faster(factor: float) -> Any:
        return lambda parameters, lr, weight_decay: torch.optim.SGD(parameters, factor * lr)

    stubs(monkeypatch)
    for factor in (1.0, 1.0):
        ranked(ghn, tmp_path / "ranking.json", optimizer=faster(factor))
    with pytest.raises(ComparisonError, match="holds a ranking that differs in optimizer"):
        ranked(ghn, tmp_path / "ranking.json", optimizer=faster(2.0))


def test_another_hypernetwork(ghn: GHN, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stubs(monkeypatch)
    ranked(ghn, tmp_path / "ranking.json")
    other = copy.deepcopy(ghn)
    other.embed.weight.data += 1
    with pytest.raises(ComparisonError, match=f"hypernetwork .{ghn.fingerprint} there, {other.fingerprint} here.: call as"):
        ranked(other, tmp_path / "ranking.json")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"rows": []}', '{"setting": {"candidates": {}}, "looks": {"a": 1}, "judgements": []}']
)
def test_files_that_hold_something_else(ghn: GHN, text: str, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    out.write_text(text)
    with pytest.raises(ComparisonError, match=r"a.json holds no measurements of a ranking .*; name another file"):
        ranked(ghn, out)
    assert out.read_text() == text


def test_a_file_that_cannot_be_written(ghn: GHN, tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"nowhere/a.json can't be written .*; name another file"):
        ranked(ghn, tmp_path / "nowhere" / "a.json")


class WithAct(nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act, self.fc = act, nn.Linear(2, 2)


def test_networks_are_told_apart() -> None:
    first = of_network(lambda: Tiny(1, 4), 0)
    torch.rand(1)
    assert of_network(lambda: Tiny(1, 4), 0) == first
    assert of_network(lambda: Tiny(1, 4), 1) != first
    strides = [of_network(lambda s=s: nn.Conv2d(3, 4, 3, s).to(memory_format=torch.channels_last), 0) for s in (1, 2)]
    assert strides[0] != strides[1]
    assert of_network(lambda: nn.LazyLinear(3), 0) == of_network(lambda: nn.LazyLinear(3), 0)

    def bound(factor: float) -> Any:
        return lambda x: x * factor

    def keyed(factor: float) -> Any:
        def act(x: Any, *, by: float = factor) -> Any:
            return x * by

        return act

    acts = [lambda x: x.relu(), lambda x: x * 0, lambda x: x * 1, torch.relu, 0.5, "gelu", range(3), {"a": 1}, {"a": 2}]
    acts += [bound(2.0), bound(3.0), keyed(2.0), keyed(3.0), partial(torch.clamp, min=0), partial(torch.clamp, min=1)]
    assert len({of_network(lambda act=act: WithAct(act), 0) for act in acts}) == len(acts)
    assert of_network(lambda: Fn(lambda m, x: m.a(x), a=nn.Linear(2, 2)), 0) != of_network(
        lambda: Fn(lambda m, x: m.a(x) * 2, a=nn.Linear(2, 2)), 0
    )


def test_a_name_is_the_same_network_when_its_module_is_imported_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "draws.py").write_text(
        "import torch\nspare = torch.nn.Linear(2, 2)\ndef net(num_classes):\n    return torch.nn.Linear(2, 2)"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    make = maker("a", "draws:net", 3)
    assert of_network(make, 0) == of_network(make, 0)


def test_images_are_told_apart() -> None:
    pool = Pool.of(Batches(TRAIN, Tiny(1, 4), 64))
    assert of_images(pool) == of_images(Pool.of(Batches(TRAIN, Tiny(1, 4), 64)))
    assert len({of_images(pool), of_images(pool.rows(torch.arange(32))), of_images(pool.rows(torch.arange(64).flip(0)))}) == 3

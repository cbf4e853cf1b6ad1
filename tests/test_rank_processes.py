"""Networks of a ranking in processes of their own."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import ComparisonError
from ghn_init.ranking import processes
from ghn_init.ranking.bench import Bench
from ghn_init.ranking.candidates import makers
from ghn_init.ranking.measure import Judgement, Look, Settings
from ghn_init.ranking.processes import Processes
from test_rank import QUICK, TRAIN, VAL, nets


def modules() -> dict[str, nn.Module]:
    """Of PyTorch's own classes, so that processes need not import tests."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {}
    for width in (4, 6, 8):
        layers = (nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        found[f"width {width}"] = nn.Sequential(*layers, nn.Linear(width, 3))
    return found


def test_processes_find_what_one_finds(ghn: GHN, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 4, "batch_size": 16, "start": "predicted"}
    alone = ghn_init.rank(modules(), TRAIN, VAL, ghn, **options)
    found = ghn_init.rank(modules(), TRAIN, VAL, ghn, **options, workers=2, out=tmp_path / "ranking.json")
    assert found == alone
    assert len(set(found.scores.values())) > 1
    assert found == ghn_init.rank(modules(), TRAIN, VAL, ghn, **options, out=tmp_path / "ranking.json")


def local(parameters: Any, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"candidates": nets()}, r"the candidate 'net0' can't be sent to another process .*; pass names, or functions"),
        (
            {"optimizer": lambda *args: local(*args)},
            "the optimizer can't be sent to another process .*; pass names, or",
        ),
        ({"workers": 0}, "workers is 0; expected a whole number, 1 at least"),
    ],
)
def test_what_cannot_be_sent(ghn: GHN, changes: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"candidates": modules(), "workers": 2, **QUICK, **changes}
    with pytest.raises(ComparisonError, match=words):
        ghn_init.rank(train=TRAIN, val=VAL, ghn=ghn, **options)


class Threads(ThreadPoolExecutor):
    """In the place of processes."""

    def __init__(self, workers: int, context: Any, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
        super().__init__(1, initializer=initializer, initargs=initargs)


def measuring(monkeypatch: pytest.MonkeyPatch, ghn: GHN, workers: int = 2) -> Processes:
    monkeypatch.setattr(processes, "ProcessPoolExecutor", Threads)
    bench = Bench.of(TRAIN, VAL, 2, 32, Settings(ghn, "default", 0.02, 16))
    return Processes(makers({**modules(), "bad": nn.Conv2d(5, 3, 1)}, 3), bench, workers)


def test_errors_name_the_network(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    with measuring(monkeypatch, ghn) as each:
        ((name, found),) = each.each(Bench.judge, ["width 4"], 1)
        assert (name, type(found), len(found.right)) == ("width 4", Judgement, 32)
        ((_, seen),) = each.each(Bench.look, ["width 6"])
        assert isinstance(seen, Look)
        with pytest.raises(ComparisonError, match="candidate 'bad': Conv2d fails on images of shape"):
            list(each.each(Bench.judge, ["bad"], 1))
        each._sent["width 4"] = b"cnowhere\nthing\n."  # what an interactive session has defined
        with pytest.raises(ComparisonError, match="'width 4': it can't be made in another process .ModuleNotFoundE.*; pass"):
            list(each.each(Bench.judge, ["width 4"], 1))


def test_a_process_that_ends(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*args: Any) -> bytes:
        raise BrokenProcessPool("terminated abruptly")

    monkeypatch.setattr(processes, "_measured", ends)
    with (
        measuring(monkeypatch, ghn) as each,
        pytest.raises(ComparisonError, match="before it had measured 'width 8' .terminated abruptly.; a script that "),
    ):
        list(each.each(Bench.judge, ["width 8"], 1))


def test_threads_are_divided(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    with measuring(monkeypatch, ghn, workers=3) as each:
        list(each.each(Bench.look, ["width 4"]))
    assert told == [2]


def test_makers_of_names_and_functions_of_modules_are_sent() -> None:
    sent = makers(["test_resnet", "torchvision:squeezenet1_1", nn.Identity, nets], 7)
    for one in sent.values():
        assert pickle.loads(pickle.dumps(one)).args == one.args  # type: ignore[attr-defined]

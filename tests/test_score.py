"""One network's score."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN, Score
from ghn_init.errors import ComparisonError
from helpers import Tiny
from test_heads import changed, copied, state
from test_rank import QUICK, TRAIN, VAL, broken, nets
from test_rank_record import watched


@pytest.mark.parametrize("options", [{"start": "predicted"}, {"rate": 0.1, "val_images": 20, "seed": 1}])
def test_a_score_is_that_of_a_ranking(ghn: GHN, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    fitted = "start" not in options
    ranking = ghn_init.rank(nets(2), TRAIN, VAL, ghn, **{**QUICK, "rungs": 1 + fitted, **options})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    own = {name: ghn_init.score(net, TRAIN, VAL, ghn, steps=2, batch_size=16, **options) for name, net in nets(2).items()}
    assert torch.equal(torch.get_rng_state(), before)
    assert seen == [None, None, *([0, 0, 2, 0, 2, 0, 2] if fitted else [2, 2, 2, 2])]  # with steps of training
    for row in ranking.rows:
        found = own[row.name]
        assert found.accuracies[: len(row.accuracies)] == row.accuracies  # with a fitted head one was dropped
        if row.steps == 2:
            assert (found.accuracy, found.interval, found.steps) == (row.score, row.interval, 2)
        assert found.val_images == options.get("val_images", 32)


@pytest.mark.parametrize("verb", ["score", "rank"])
def test_a_loader_with_a_generator_of_its_own_is_read_alike_each_time(ghn: GHN, tmp_path: Path, verb: str) -> None:
    generator = torch.Generator()
    images, labels = TRAIN[0]
    loader = DataLoader(TensorDataset(images, labels), 8, shuffle=True, generator=generator)
    before = generator.get_state()
    if verb == "score":
        first, second = (ghn_init.score(nets(1)["net0"], loader, VAL, ghn, steps=3, batch_size=16) for _ in range(2))
        assert first == second
    else:
        for _ in range(2):
            ghn_init.rank(nets(2), loader, VAL, ghn, out=tmp_path / "ranking.json", **QUICK)
    assert torch.equal(generator.get_state(), before)


def test_a_module_is_scored_as_a_copy(ghn: GHN) -> None:
    model = Tiny(1, 4)
    before = state(model)
    found = ghn_init.score(model, TRAIN, VAL, ghn, steps=1)
    assert not changed(state(model), before) - {"random"}
    assert found.seconds > 0


def test_a_score_is_read_in_a_line() -> None:
    found = Score(53.44, (50.1, 56.7), (53.44,), 50, 2000, 3.21)
    assert str(found) == "53.4 % of 2,000 validation images (95 %: 50.1–56.7) after 50 steps, 3.2 s"
    found = Score(53.44, (50.1, 56.7), (50.0, 56.88), 50, 2000, 3.21)
    words = "53.4 % of 2,000 validation images (95 %: 50.1–56.7) on average, 50.0 % before training and 56.9 % after 50 steps"
    assert str(found) == f"{words}, 3.2 s"


@pytest.mark.parametrize(
    ("candidate", "options", "words"),
    [
        (broken, {}, "^the candidate 'broken' can't be made .RuntimeError: no luck"),
        (3, {}, "the candidate '3' is a int; expected a module"),
        (broken, {"steps": -1}, "steps is -1; expected a whole number, 0 at least"),
        (broken, {"start": "best"}, "start is 'best'; expected"),
    ],
)
def test_what_cannot_be_scored(ghn: GHN, candidate: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        ghn_init.score(candidate, TRAIN, VAL, ghn, **options)


@pytest.mark.parametrize("candidate", ["function", "spec", "wrapped"])
def test_the_same_module_again_is_refused_before_it_is_trained(
    ghn: GHN, candidate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "one_net.py").write_text("from helpers import Tiny\nnet = Tiny(2, 8)\n")
    one = importlib.import_module("one_net").net
    before = copied(state(one))
    ways: dict[str, Any] = {"function": lambda: one, "spec": "one_net:net", "wrapped": lambda: nn.DataParallel(one)}
    with pytest.raises(ComparisonError, match="parameter '.*body.0.weight' is also .* of (the )?one that "):
        ghn_init.score(ways[candidate], TRAIN, VAL, ghn, steps=2)
    assert not changed(state(one), before)


def test_gradients_are_on_while_a_network_is_trained(ghn: GHN) -> None:
    model = Tiny(2, 8)
    with torch.no_grad():
        found = ghn_init.score(model, TRAIN, VAL, ghn, steps=2)
    assert found.accuracy == ghn_init.score(model, TRAIN, VAL, ghn, steps=2).accuracy


def test_a_class_that_is_masked_out_is_no_number_that_is_missing(ghn: GHN) -> None:
    class Masked(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).masked_fill(torch.arange(3) == 2, -torch.inf)

    two = [(x[y < 2], y[y < 2]) for x, y in TRAIN]
    assert ghn_init.score(Masked(2, 8), two, two, ghn, steps=20, start="predicted", rate=0.05).accuracy > 50


def test_labels_that_judge_are_checked(ghn: GHN) -> None:
    few = [(x[:32], y[:32] % 2) for x, y in TRAIN]  # so few that chance could have left a class out
    narrow = Tiny(2, 8)
    narrow.head = nn.Linear(8, 2)
    with pytest.raises(ComparisonError, match="labels go from 0 to 2, and Tiny has classes 0 to 1"):
        ghn_init.score(narrow, few, VAL, ghn, steps=2)


def test_mappings_may_have_what_the_forward_does_not_take(ghn: GHN) -> None:
    class Named(Tiny):
        def forward(self, image: Tensor, scale: Tensor) -> Tensor:
            return super().forward(image * scale.view(3, 1, 1))

    named, plain = Named(2, 8), Tiny(2, 8)
    plain.load_state_dict(named.state_dict())
    parts = [(x[k : k + 16], y[k : k + 16]) for x, y in TRAIN for k in (0, 16, 32, 48)]
    data = [{"image": x, "scale": torch.ones(3), "index": torch.arange(16), "label": y} for x, y in parts]
    expected = ghn_init.score(plain, TRAIN, TRAIN, ghn, steps=2, start="default").accuracy
    assert ghn_init.score(named, data, data, ghn, steps=2, start="default").accuracy == expected
    uneven = [*data, {name: value for name, value in data[0].items() if name != "index"}]
    with pytest.raises(ComparisonError, match="yields mappings with .*'index'.* and with"):
        ghn_init.score(Named(2, 8), uneven, data, ghn, steps=20)


def test_wrapped_candidates_are_scored(ghn: GHN) -> None:
    found = ghn_init.score(lambda: nn.DataParallel(Tiny(2, 8)), TRAIN, VAL, ghn, steps=2, start="predicted+fitted")
    assert found.accuracy == ghn_init.score(lambda: Tiny(2, 8), TRAIN, VAL, ghn, steps=2, start="predicted+fitted").accuracy


def test_what_cannot_be_predicted_or_built_is_an_error_that_names_the_candidate(ghn: GHN) -> None:
    def lazy() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))

    with pytest.raises(ComparisonError, match="candidate 'lazy'"):
        ghn_init.score(lazy, TRAIN, VAL, ghn, steps=2)
    with pytest.raises(ComparisonError, match="candidate 'timm:nothing'"):
        ghn_init.score("timm:nothing", TRAIN, VAL, ghn, steps=2)


def test_a_forward_that_takes_any_arguments_gets_them_all(ghn: GHN) -> None:
    class Passing(Tiny):
        def forward(self, image: Tensor, **others: Tensor) -> Tensor:
            return super().forward(image * others["scale"].view(3, 1, 1))

    data = [{"image": x, "scale": torch.ones(3), "label": y} for x, y in TRAIN]
    assert ghn_init.score(Passing(2, 8), data, data, ghn, steps=2, start="default").val_images == 64

"""One network's score."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ghn_init
from ghn_init import GHN, Score
from ghn_init.errors import ComparisonError
from helpers import Tiny
from test_heads import changed, state
from test_rank import QUICK, TRAIN, VAL, broken, nets
from test_rank_record import watched


@pytest.mark.parametrize("options", [{}, {"start": "predicted+fitted", "rate": 0.1, "val_images": 20, "seed": 1}])
def test_a_score_is_that_of_a_ranking(ghn: GHN, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch)
    ranking = ghn_init.rank(nets(2), TRAIN, VAL, ghn, **{**QUICK, **options})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    own = {name: ghn_init.score(net, TRAIN, VAL, ghn, steps=2, batch_size=16, **options) for name, net in nets(2).items()}
    assert torch.equal(torch.get_rng_state(), before)
    assert seen == [None, None, 2, 2, 2, 2]  # with steps of training
    for row in ranking.rows:
        found = own[row.name]
        assert (found.accuracy, found.interval, found.steps) == (row.score, row.interval, 2)
        assert found.val_images == options.get("val_images", 32)


def test_a_module_is_scored_as_a_copy(ghn: GHN) -> None:
    model = Tiny(1, 4)
    before = state(model)
    found = ghn_init.score(model, TRAIN, VAL, ghn, steps=1)
    assert not changed(state(model), before) - {"random"}
    assert found.seconds > 0


def test_a_score_is_read_in_a_line() -> None:
    found = Score(53.44, (50.1, 56.7), 50, 2000, 3.21)
    assert str(found) == "53.4 % of 2,000 validation images (95 %: 50.1–56.7) after 50 steps, 3.2 s"


@pytest.mark.parametrize(
    ("candidate", "options", "words"),
    [
        (broken, {}, "candidate 'broken': the candidate 'broken' can't be made .RuntimeError: no luck"),
        (3, {}, "the candidate '3' is a int; expected a module"),
        (broken, {"steps": 0}, "steps is 0; expected 1 at least"),
        (broken, {"start": "best"}, "start is 'best'; expected"),
    ],
)
def test_what_cannot_be_scored(ghn: GHN, candidate: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComparisonError, match=words):
        ghn_init.score(candidate, TRAIN, VAL, ghn, **options)

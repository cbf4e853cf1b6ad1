"""The choice between starts: what is written is what was chosen, the own init wins ties, errors leave everything alone."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN, Choice, Report
from ghn_init.errors import ComparisonError, HeadError, RecalibrationError, TraceError, UnsupportedModelError
from ghn_init.models.batches import Batches, Inputs
from ghn_init.trials import choose as race
from ghn_init.trials.contestant import Contestant, batch_statistics, sgd
from ghn_init.trials.pool import Pool
from ghn_init.trials.starts import Start
from helpers import Tiny
from test_heads import changed, copied, labelled, loader, state
from test_start import same_state, tiny

QUICK: dict[str, Any] = {"steps": 2, "rungs": 2, "batch_size": 16}
HELD_OUT = 23
"""Of 96 images: a quarter of each of three classes, rounded down."""
STARTS = [w + f for w in ("default", "orthogonal", "predicted", "predicted+weights") for f in ("", "+fitted")]


def images(count: int = 96) -> list[tuple[Tensor, Tensor]]:
    return loader(count=count)


@pytest.mark.parametrize("verb", [
    lambda model, ghn: ghn_init.choose(model, images(), ghn, **QUICK).written,
    lambda model, ghn: ghn_init.initialize(model, ghn, data=images(), choose=True),
], ids=["choose", "initialize"])  # fmt: skip
def test_a_choice_leaves_inference_mode(ghn: GHN, verb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ghn_init.api.Settings", lambda seed: race.Settings(**QUICK, seed=seed))
    expected, model = tiny(), tiny()
    verb(expected, ghn)
    with torch.inference_mode():
        verb(model, ghn)
    assert same_state(model, expected)


def test_pools_are_in_memory_whatever_the_default_device() -> None:
    data, model = images(), tiny()
    pool = Pool.of(Batches(data, model, 60))
    parts = [pool.first(50), *pool.split(0.25, 0), pool.batch(3, 16, 0), *pool.parts()]
    with torch.device("meta"):
        again = Pool.of(Batches(data, model, 60))
        found = [again.first(50), *again.split(0.25, 0), again.batch(3, 16, 0), *again.parts()]
    assert all(torch.equal(one.labels, other.labels) for one, other in zip(found, parts, strict=True))
    assert all(torch.equal(one.inputs.args[0], other.inputs.args[0]) for one, other in zip(found, parts, strict=True))
    assert again.inputs.not_finite() == 0


def rigged(monkeypatch: pytest.MonkeyPatch, right: dict[str, int], default: int = 5) -> list[tuple[str, int]]:
    """Starts tell so many of the held-out images rightly, and the others `default`; nothing is trained."""
    asked: list[tuple[str, int]] = []

    def score(self: Any, name: str, steps: int) -> float:
        asked.append((name, steps))
        count = right.get(self.contests[name].start.name, default)
        self.right[name, steps] = torch.arange(len(self.held_out), device="cpu") < count
        return float(count)

    monkeypatch.setattr(race._Race, "_score", score)
    return asked


def expected(name: str, ghn: GHN) -> nn.Module:
    """What other functions make of the same model."""
    model, fitted = tiny(), name.endswith("+fitted")
    data = images() if fitted else [x for x, _ in images()]
    weights = name.removesuffix("+fitted")
    if weights == "predicted":
        return ghn_init.initialize(model, ghn, data=data, head=False)
    if weights == "predicted+weights":
        vectors = [name for name, p in model.named_parameters() if p.dim() < 2 and not name.startswith("head")]
        ghn_init.initialize(model, ghn, images()[0][0], head=False, exclude=vectors)  # with data their norms would stay
        ghn_init.recalibrate_batchnorm(model, data)
    if fitted:
        ghn_init.fit_head_(model, data)
    return model


@pytest.mark.parametrize("name", [name for name in STARTS if not name.startswith("orthogonal")])
def test_what_is_chosen_is_written_as_others_write_it(ghn: GHN, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rigged(monkeypatch, {name: 15})
    model = tiny()
    choice = ghn_init.choose(model, images(), ghn, **QUICK)
    assert (choice.chosen, choice.model is model) == (name, True)
    assert same_state(model, expected(name, ghn))
    assert (choice.report.fit is not None) is name.endswith("+fitted")
    assert bool(choice.report.predicted) is name.startswith("predicted")


def test_a_default_device_changes_no_choice(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"orthogonal": 15})
    data, expected, model = images(), tiny(), tiny()
    ghn_init.choose(expected, data, ghn, **QUICK)
    with torch.device("meta"):
        assert ghn_init.choose(model, data, ghn, **QUICK).chosen == "orthogonal"
    assert same_state(model, expected)


def test_the_chosen_orthogonal_weights(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = tiny(), tiny()
    rigged(monkeypatch, {"orthogonal": 15})
    ghn_init.choose(model, images(), ghn, **QUICK)
    weights = {"body.0.weight", "body.3.weight"}
    norms = {f"body.{k}.{what}" for k in (1, 4) for what in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed(state(model), state(before)) == weights | norms
    for name in weights:
        rows = model.get_parameter(name).detach().flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(8), atol=1e-5, rtol=0)
    rigged(monkeypatch, {"orthogonal+fitted": 15})
    fitted = tiny()
    report = ghn_init.choose(fitted, images(), ghn, **QUICK).report
    assert report.data == "batch norms recalibrated on the data, head fitted"
    assert changed(state(fitted), state(model)) <= {"head.weight", "head.bias"}
    ghn_init.fit_head_(model, images())
    assert same_state(fitted, model)


def test_a_report_says_that_orthogonal_weights_were_written(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"orthogonal+fitted": 15})
    report = ghn_init.choose(tiny(), images(), ghn, **QUICK).report
    said = {row.name: (row.state, row.note) for row in report.rows}
    weights = dict.fromkeys(("body.0.weight", "body.3.weight"), ("written", "orthogonal"))
    heads = dict.fromkeys(("head.weight", "head.bias"), ("fitted", "in closed form"))
    kept = ("body.0.bias", "body.1.weight", "body.1.bias", "body.3.bias", "body.4.weight", "body.4.bias")
    assert said == weights | heads | dict.fromkeys(kept, ("kept", "the choice took orthogonal+fitted"))
    assert report.summary == "0 of 10 parameters predicted, 0 of 867 elements (0.00 %); 6 kept, 2 fitted, 2 written"
    assert [(group.module, group.state) for group in report.groups if "orthogonal" in group.reasons] == [
        ("body.0", "written"),
        ("body.3", "written"),
    ]
    assert [row["written"] for row in report.to_dict()["rows"]] == [row.name in weights for row in report.rows]
    assert re.search(r"body\.0\.weight +8×3×3×3 +written +orthogonal$", report.table(), re.MULTILINE)
    assert "<td>written</td>" in report._repr_html_()


@pytest.mark.parametrize(
    ("name", "data"), [("orthogonal", ""), ("orthogonal+fitted", "head fitted"), ("default+fitted", "head fitted")]
)
def test_a_report_speaks_of_norms_where_there_are_some(ghn: GHN, monkeypatch: pytest.MonkeyPatch, name: str, data: str) -> None:
    rigged(monkeypatch, {name: 15})
    choice = ghn_init.choose(Tiny(2, 8, norm=False), images(), ghn, **QUICK)
    assert (choice.chosen, choice.report.data) == (name, data)
    assert choice.report.data_lines[:2] == [choice.verdict, *([data] if data else [])]


def test_a_report_of_weights_alone_speaks_of_no_pattern(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"predicted+weights": 15})
    rows = ghn_init.choose(tiny(), images(), ghn, exclude="body.0.*", **QUICK).report.rows
    notes = {row.name: row.note for row in rows if row.state == "kept" and not row.name.startswith("head")}
    own = dict.fromkeys(("body.0.weight", "body.0.bias"), "left out by exclude")
    vectors = ("body.1.weight", "body.1.bias", "body.3.bias", "body.4.weight", "body.4.bias")
    assert notes == own | dict.fromkeys(vectors, "the choice took weights alone")


@pytest.mark.parametrize("ahead", [0, 5, 8])
def test_ties_go_to_the_models_own_init(ghn: GHN, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    """Eight images of 23 more are not surely more (1/256) for the best of seven rivals; the model is as it was, bit for bit."""
    rigged(monkeypatch, {"predicted": 5 + ahead})
    model = tiny()
    choice = ghn_init.choose(model, images(), ghn, **QUICK)
    assert choice.chosen == "default"
    assert same_state(model, tiny())
    assert {row.note for row in choice.report.rows if row.name.startswith("head.")} == {
        "classification head, the choice took default"
    }
    points = 100 * ahead / HELD_OUT
    words = f"predicted is not surely ahead of it (+{points:.1f} ± " if ahead else "no other start is ahead of it"
    assert words in choice.why
    assert choice.default.ahead == 0


@pytest.mark.parametrize(
    ("predicted", "best", "chosen"),
    [
        (15, 20, "predicted"),  # 5 of 23 more are not surely more
        (14, 23, "predicted+weights"),  # 9 are: 7 / 512
        (12, 20, "predicted+weights"),  # 7 more than its own 5 are not surely more than these either
    ],
)
def test_ties_go_to_predicted_parameters_next(
    ghn: GHN, monkeypatch: pytest.MonkeyPatch, predicted: int, best: int, chosen: str
) -> None:
    rigged(monkeypatch, {"predicted": predicted, "predicted+weights": best})
    choice = ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert choice.chosen == chosen
    assert (choice.why.rpartition("; ")[2] == "predicted+weights is not surely ahead of it") == (chosen == "predicted")
    assert f"by {100 * ((predicted if chosen == 'predicted' else best) - 5) / HELD_OUT:.1f} ± " in choice.why


def test_predicted_parameters_that_do_not_suit_win_no_ties(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ = Start.write_

    def failing(self: Start, *args: Any) -> Report:
        if self.name == "predicted":
            raise RecalibrationError("no")
        return write_(self, *args)

    monkeypatch.setattr(Start, "write_", failing)
    rigged(monkeypatch, {"predicted+weights": 20})
    choice = ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert (choice.chosen, choice.unsuited) == ("predicted+weights", {"predicted": "no"})


def test_the_race_halves_the_field_and_keeps_the_own_init(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {name: 2 * k for k, name in enumerate(STARTS)}
    asked = rigged(monkeypatch, scores)
    choice = ghn_init.choose(tiny(), images(), ghn, steps=8, rungs=3, batch_size=16, rates=(0.02,))
    fields = [[judged.start for judged in rung] for rung in choice.rungs]
    assert fields == [STARTS[::-1], [*STARTS[:3:-1], "default"], [*STARTS[:5:-1], "predicted", "default"]]
    assert [steps for _, steps in asked] == [2] * 8 + [4] * 5 + [8] * 4
    assert (choice.chosen, choice.winner.accuracy) == (STARTS[-1], pytest.approx(100 * 14 / HELD_OUT))
    assert choice.winner.ahead == pytest.approx(100 * 14 / HELD_OUT)


def test_each_start_is_tried_with_each_rate(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rigged(monkeypatch, {})
    choice = ghn_init.choose(tiny(), images(), ghn, steps=2, rungs=2, batch_size=16, rates=(0.01, 0.1))
    assert len(choice.rungs[0]) == 16
    assert {judged.rate for judged in choice.rungs[0] if judged.start == "predicted"} == {0.01, 0.1}
    assert {name for name, steps in asked if steps == 2} >= {"default 0.01", "default 0.1"}


def test_a_start_that_learns_beats_one_that_cannot(ghn: GHN) -> None:
    model = tiny()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    choice = ghn_init.choose(model, images(192), ghn, steps=8, rungs=2, batch_size=16)
    assert choice.chosen.endswith("+fitted")
    assert choice.winner.ahead > 2 * choice.winner.ahead_error > 0
    assert choice.steps == 8 * 4 + 5 * 4
    assert choice.images == 16 * choice.steps
    assert (choice.train_images, choice.held_out, choice.classes) == (
        144,
        48,
        3,
    ) or choice.train_images + choice.held_out == 192


def figures(choice: Choice) -> dict[str, Any]:
    return {name: value for name, value in choice.to_dict().items() if name != "seconds"}


def shuffled() -> Any:
    data = torch.utils.data.TensorDataset(*labelled(96))
    return torch.utils.data.DataLoader(data, 16, shuffle=True)


def test_the_same_seed_gives_the_same_answer_whatever_the_random_state(ghn: GHN) -> None:
    found = []
    for k in (1, 2):
        model = tiny()
        torch.manual_seed(k)
        np.random.seed(k)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
        found.append((ghn_init.choose(model, shuffled(), ghn, **QUICK), model))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    (first, one), (second, other) = found
    assert figures(first) == figures(second)
    assert same_state(one, other)
    assert figures(ghn_init.choose(tiny(), shuffled(), ghn, **QUICK, seed=1)) != figures(first)


def test_a_seed_of_numpys_is_the_same_seed(ghn: GHN) -> None:
    expected = ghn_init.choose(tiny, images(), ghn, **QUICK, seed=3)
    found = ghn_init.choose(tiny, images(), ghn, **QUICK, seed=np.int64(3))  # type: ignore[arg-type]
    assert figures(found) == figures(expected)


def test_modes_gradients_and_attributes_stay(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"predicted+fitted": 15})
    model = tiny()
    model.body.eval()
    model.head.weight.grad = torch.ones(3, 8)
    modes = [module.training for module in model.modules()]
    ghn_init.choose(model, images(), ghn, **QUICK)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.head.weight.grad, torch.ones(3, 8))


def test_a_function_makes_the_model(ghn: GHN) -> None:
    def make() -> nn.Module:
        return Tiny(2, 8)

    choice = ghn_init.choose(make, images(), ghn, **QUICK)
    torch.manual_seed(0)
    own = make()
    assert figures(choice) == figures(ghn_init.choose(own, images(), ghn, **QUICK))
    assert same_state(choice.model, own)
    same = tiny()
    with pytest.raises(ComparisonError, match="a Tiny whose parameter 'body.0.weight' is also .* of the one that it made"):
        ghn_init.choose(lambda: same, images(), ghn, **QUICK)
    with pytest.raises(ComparisonError, match="what makes the model gives a int; expected a torch.nn.Module"):
        ghn_init.choose(lambda: 3, images(), ghn, **QUICK)  # type: ignore[arg-type, return-value]


def test_wrapped_models_and_patterns(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"predicted": 15})
    inner = tiny()
    choice = ghn_init.choose(nn.DataParallel(inner), images(), ghn, exclude="module.body.0.*", **QUICK)
    assert choice.chosen == "predicted"
    assert not changed(state(inner), state(tiny())) & {"body.0.weight", "body.0.bias", "head.weight"}
    assert "body.3.weight" in changed(state(inner), state(tiny()))


def test_heads_that_are_left_out_are_never_fitted(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {})
    choice = ghn_init.choose(tiny(), images(), ghn, exclude="head.*", **QUICK)
    fitted = [name for name in STARTS if name.endswith("+fitted")]
    assert list(choice.unsuited) == fitted[:2]
    assert "the head 'head.weight' is left out" in choice.unsuited["default+fitted"]
    assert "not tried: default+fitted (the head" in str(choice)


def test_iterators_and_mappings(ghn: GHN) -> None:
    class Named(Tiny):
        def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"logits": super().forward(pixel_values)}

    mappings = ({"pixel_values": x, "labels": y} for x, y in images())
    torch.manual_seed(0)
    plain = Tiny(2, 8)
    torch.manual_seed(0)
    named = Named(2, 8)
    found = ghn_init.choose(named, mappings, ghn, **QUICK)
    assert figures(found) == figures(ghn_init.choose(plain, iter(images()), ghn, **QUICK))
    assert same_state(named, plain)


def test_a_choice_is_read_by_people_and_programs(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {"predicted+fitted": 15})
    choice = ghn_init.choose(tiny(), images(), ghn, **QUICK)
    lines = str(choice).splitlines()
    assert lines[-1] == choice.verdict
    won = "chosen: predicted+fitted, 65.2 ± 9.3 % on 23 held-out images after 2 steps at 0.02: surely ahead of default, by 43.5"
    assert lines[-1].startswith(f"{won} ± ")
    assert lines[1].split()[0] == "predicted+fitted"
    assert json.loads(json.dumps(choice.to_dict()))["rungs"][1][0]["start"] == "predicted+fitted"
    assert choice.verdict in str(choice.report)
    assert "model" not in repr(choice)


def test_initialize_chooses_and_says_so(ghn: GHN) -> None:
    reports: list[Report] = []
    model, other = tiny(), tiny()
    assert ghn_init.initialize(model, ghn, data=images(192), choose=True, on_report=reports.append) is model
    choice = ghn_init.choose(other, images(192), ghn)
    assert same_state(model, other)
    (report,) = reports
    assert report.data_lines[0].startswith(f"chosen: {choice.chosen}, ")
    assert [row.note for row in report.rows] == [row.note for row in choice.report.rows]


def test_initialize_refuses_to_choose_without_data(ghn: GHN) -> None:
    with pytest.raises(ValueError, match="choose=True needs images to choose on; pass data="):
        ghn_init.initialize(tiny(), ghn, choose=True)
    with pytest.raises(ValueError, match="head=True asks for a predicted head, and choose=True compares"):
        ghn_init.initialize(tiny(), ghn, data=images(), choose=True, head=True)


class Features(Tiny):
    num_classes = 0


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"loader": [(x, torch.ones_like(y)) for x, y in images()]},
            ComparisonError,
            "all 96 images to choose on are of class 1",
        ),
        (
            {"loader": images(36)},
            ComparisonError,
            r"there are 36 images, 2\d to train on and [789] held out; a choice needs 16",
        ),
        ({"batch_size": 90}, ComparisonError, r"a choice needs 90 \(batch_size\) and 10 at least"),
        ({"loader": [x for x, _ in images()]}, HeadError, "images without labels"),
        ({"loader": []}, ComparisonError, "the loader has no batches"),
        ({"loader": 3}, ComparisonError, "the data are a int"),
        ({"loader": [(x.byte(), y) for x, y in images()]}, TraceError, r"of torch.uint8: .* yield images.float\(\) / 255"),
        ({"loader": [(x[:, :1], y) for x, y in images()]}, TraceError, r"\[2, 1, 6, 6\]\) from the loader: .* Let the loader"),
        ({"loader": [(x, y + 1) for x, y in images()]}, ComparisonError, "labels go from 1 to 3, and Tiny has classes 0 to 2"),
        ({"steps": 2.5}, ComparisonError, "steps is 2.5; expected a whole number, 1 at least"),
        ({"batch_size": 1}, ComparisonError, "batch_size is 1; expected a whole number, 2 at least"),
        ({"max_images": None}, ValueError, "max_images is None; expected a whole number, 1 at least"),
        ({"rates": ["a"]}, ComparisonError, r"learning rates are \['a'\]; expected one at least"),
        ({"held_out": "a"}, ComparisonError, "held_out is 'a'; expected a share"),
        ({"seed": "a"}, ValueError, "seed is 'a'; expected a whole number"),
        ({"steps": 1}, ComparisonError, "1 steps can't be halved for 2 rungs"),
        ({"rates": ()}, ComparisonError, r"learning rates are \[\]; expected one at least"),
        ({"rates": (0.1, -1.0)}, ComparisonError, r"learning rates are \[0.1, -1.0\]"),
        ({"held_out": 1.0}, ComparisonError, "held_out is 1.0; expected a share of the images"),
        ({"exclude": "tail.*"}, ValueError, r"exclude='tail.\*' matches no parameter"),
        ({"seed": -1}, ValueError, "seed is -1"),
    ],
)
def test_what_cannot_be_chosen_leaves_the_model_alone(
    ghn: GHN, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    model = tiny()
    torch.manual_seed(4)
    before = state(model)  # and the random state
    with pytest.raises(error, match=words):
        ghn_init.choose(model, ghn=ghn, **{"loader": images(), **QUICK, **changes})
    assert changed(state(model), before) == set()


def test_labels_beyond_the_outputs_are_refused_before_starts_are_made(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "_Race", None)
    with pytest.raises(ComparisonError, match="labels go from 1 to 3, and Tiny has classes 0 to 2"):
        ghn_init.choose(tiny(), [(x, y + 1) for x, y in images()], ghn, **QUICK)


@pytest.mark.parametrize("own", [False, True])
def test_a_loader_is_read_in_the_order_that_the_seed_tells(ghn: GHN, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    generator = torch.Generator() if own else None
    loader = DataLoader(TensorDataset(*labelled(96)), 16, shuffle=True, generator=generator)
    before = generator and generator.get_state()
    first, second = (ghn_init.choose(tiny(), loader, ghn, **QUICK) for _ in range(2))
    assert figures(first) == figures(second)
    assert generator is None or torch.equal(generator.get_state(), before)
    rigged(monkeypatch, {"predicted+fitted": 15})
    model, expected = tiny(), tiny()
    assert ghn_init.choose(model, loader, ghn, **QUICK).chosen == "predicted+fitted"
    ghn_init.initialize(expected, ghn, data=loader)
    assert same_state(model, expected)


def test_a_loader_whose_batches_are_only_looked_at_is_let_go() -> None:
    def yielding() -> Iterator[Any]:
        try:
            yield from images()
        finally:
            closed.append(True)

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return yielding()

    closed: list[bool] = []
    assert len(Batches(Loader(), tiny(), 96).first_inputs) == 16
    assert closed == [True]


def test_how_often_a_loader_is_read(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted:
        reads = 0

        def __iter__(self) -> Iterator[Any]:
            self.reads += 1
            yield from images()

    rigged(monkeypatch, {"predicted+fitted": 15})
    counts = []
    for verb in (
        lambda data: ghn_init.choose(tiny(), data, ghn, **QUICK),
        lambda data: ghn_init.initialize(tiny(), ghn, data=data),
        lambda data: ghn_init.fit_head_(tiny(), data),
    ):
        data = Counted()
        verb(data)
        counts.append(data.reads)
    assert counts == [3, 2, 2]


def test_models_without_anything_to_choose(ghn: GHN) -> None:
    frozen = tiny().requires_grad_(False)
    with pytest.raises(ComparisonError, match="all parameters of Tiny are frozen"):
        ghn_init.choose(frozen, images(), ghn, **QUICK)
    with pytest.raises(ComparisonError, match=r"Features has no classes \(num_classes is 0\)"):
        ghn_init.choose(Features(2, 8), images(), ghn, **QUICK)
    with pytest.raises(UnsupportedModelError, match="Tiny is on the meta device"):
        ghn_init.choose(tiny().to("meta"), images(), ghn, **QUICK)
    with pytest.raises(ComparisonError, match=r"Conv2d gives a tensor of shape \(16, 3, 6, 6\) for 16 images"):
        ghn_init.choose(nn.Conv2d(3, 3, 1), images(), ghn, **QUICK)


def test_a_loader_that_fails_late_leaves_the_model_alone(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the winner is written, half of it is there."""

    class Failing:
        reads = 0

        def __iter__(self) -> Iterator[Any]:
            self.reads += 1
            for k, batch in enumerate(images()):
                if k == 3 and self.reads > 2:
                    raise OSError("the disk is gone")
                yield batch

    for name in ("predicted+fitted", "orthogonal+fitted"):
        rigged(monkeypatch, {name: 15})
        model = tiny()
        with pytest.raises(OSError, match="the disk is gone"):
            ghn_init.choose(model, Failing(), ghn, **QUICK)
        assert same_state(model, tiny())


def test_models_that_cannot_be_copied(ghn: GHN) -> None:
    class Single(Tiny):
        def __deepcopy__(self, memo: object) -> None:
            raise TypeError("there can be only one")

    with pytest.raises(
        ComparisonError, match="Single can't be copied .TypeError: there can be only one.*a function that makes it"
    ):
        ghn_init.choose(Single(2, 8), images(), ghn, **QUICK)
    assert ghn_init.choose(lambda: Single(2, 8), images(), ghn, **QUICK).held_out == HELD_OUT


def pool_of(count: int = 48) -> Pool:
    return Pool.of(Batches(images(count), tiny(), count))


def test_going_on_is_the_same_order_and_a_new_cycle() -> None:
    rates: list[float] = []

    class Noted(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            rates.append(self.param_groups[0]["lr"])
            super().step()

    contestant = Contestant(tiny(), 0.1, lambda parameters, lr, decay: Noted(parameters, lr, 0.9, weight_decay=decay))
    contestant.train(pool_of(), 10, 16, 0)
    contestant.train(pool_of(), 20, 16, 0)
    assert contestant.steps == 20
    assert rates[:10] == rates[10:]
    assert (max(rates), rates[-1] < 0.001) == (pytest.approx(0.1, rel=0.05), True)


def test_running_statistics_do_not_judge() -> None:
    model, pool = tiny(), pool_of()
    ghn_init.fit_head_(model, images(48))
    right = Contestant(model, 0.1, sgd).judge(pool)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e-9)
    assert torch.equal(Contestant(model, 0.1, sgd).judge(pool), right)
    with torch.no_grad(), batch_statistics(model):
        assert [m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout)] == [True, True, False]
        told = model(pool.inputs.args[0]).argmax(1) == pool.labels
    assert torch.equal(told, right)
    assert 24 < int(right.sum()) < 48


def test_a_step_that_diverges_is_none_and_nan_is_no_answer() -> None:
    model = tiny()
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    before = state(model)
    contestant = Contestant(model, 0.1, sgd)
    contestant.train(pool_of(), 2, 16, 0)
    assert changed(state(model), before) <= {"random", *(name for name, _ in model.named_buffers())}
    assert not contestant.judge(pool_of()).any()


def test_a_kept_head_is_none_that_strict_refuses(ghn: GHN) -> None:
    assert ghn_init.choose(tiny(), images(), ghn, strict=True, **QUICK).held_out == HELD_OUT


def test_keywords_that_a_choice_has_no_use_for_are_refused(ghn: GHN) -> None:
    with pytest.raises(TypeError, match="choose.. has no keyword 'head'; of predict's it takes device, strict, only"):
        ghn_init.choose(tiny(), images(), ghn, head=True, **QUICK)


def test_an_iterator_is_fitted_on_as_many_images_as_a_list(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    def fitted(data: Any) -> int:
        choice = ghn_init.choose(tiny(), data, ghn, max_images=64, **QUICK)
        assert choice.train_images + choice.held_out == 64
        return 0 if choice.written.fit is None else choice.written.fit.images

    monkeypatch.setattr(race._Race, "chosen", lambda *_: Start("predicted", True))
    assert fitted(images(128)) == fitted(iter(images(128))) == 128


@pytest.mark.parametrize("wrapped", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_functions_may_wrap_what_they_make(ghn: GHN, wrapped: Any) -> None:
    assert ghn_init.choose(lambda: wrapped(tiny()), images(), ghn, **QUICK).chosen in STARTS


def test_a_choice_without_gradients_around_it(ghn: GHN) -> None:
    with torch.no_grad():
        choice = ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert choice.chosen == ghn_init.choose(tiny(), images(), ghn, **QUICK).chosen


def test_a_function_that_wraps_the_same_model_each_time_is_refused(ghn: GHN) -> None:
    one = tiny()
    with pytest.raises(ComparisonError, match="whose parameter 'module.body.0.weight' is also"):
        ghn_init.choose(lambda: nn.DataParallel(one), images(), ghn, **QUICK)


def test_a_function_that_builds_around_one_backbone_is_refused_before_it_is_trained(ghn: GHN) -> None:
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = copied(state(body))
    with pytest.raises(ComparisonError, match="parameter '0.0.weight' is also '0.0.weight' of the one that it made before"):
        ghn_init.choose(lambda: nn.Sequential(body, nn.Linear(8, 3)), images(), ghn, **QUICK)
    assert not changed(state(body), before)


def test_no_images_at_most_is_an_error_for_iterators_too(ghn: GHN) -> None:
    with pytest.raises(ValueError, match="max_images is 0"):
        ghn_init.choose(tiny(), iter(images()), ghn, max_images=0, **QUICK)


def test_contestants_that_wait_hold_no_gradients(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, held = Contestant.judge, []

    def judged(self: Contestant, held_out: Pool) -> Tensor:
        held.append((self.steps, sum(parameter.grad is not None for parameter in self.model.parameters())))
        return judge(self, held_out)

    monkeypatch.setattr(Contestant, "judge", judged)
    ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert held == [(1, 0)] * 8 + [(2, 0)] * 5


def test_images_are_held_once_while_starts_race(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {})
    read, score, seen, alive = race._read, race._Race._score, [], []

    def noted(*args: Any) -> Any:
        pool, data = read(*args)
        seen.append(weakref.ref(pool.inputs.args[0].untyped_storage()))
        return pool, data

    def scored(self: Any, name: str, steps: int) -> float:
        alive.extend(each() is not None for each in seen)
        return score(self, name, steps)

    monkeypatch.setattr(race, "_read", noted)
    monkeypatch.setattr(race._Race, "_score", scored)
    ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert alive == [False] * 13


def test_images_that_are_not_finite_are_refused(ghn: GHN) -> None:
    data = images()
    data[0][0][0] = float("nan")
    with pytest.raises(ComparisonError, match="1 hold values that are not finite"):
        ghn_init.choose(tiny(), data, ghn, **QUICK)
    data[0][0][:] = float("nan")  # all alike, and so copies of few
    with pytest.raises(ComparisonError, match="of 96 images to choose on 16 hold values that are not finite"):
        ghn_init.choose(tiny(), data, ghn, **QUICK)


def test_copies_of_images_are_on_one_side(ghn: GHN) -> None:
    data = [*images(), *images()[::2]]
    choice, expected = ghn_init.choose(tiny(), data, ghn, **QUICK), ghn_init.choose(tiny(), images(), ghn, **QUICK)
    assert (choice.train_images + choice.held_out, choice.copies, expected.copies) == (96, 48, 0)
    assert choice.verdict.endswith(" s; copies of images that were left out: 48")
    assert figures(choice) == {**figures(expected), "copies": 48}
    assert "copies" not in expected.verdict


def test_inputs_of_any_kind_may_come_again() -> None:
    x = torch.arange(12.0).view(4, 3)[[0, 1, 0, 2]]
    for one in (x.bfloat16(), x > 1, x.to(torch.complex64), x[:, 0], x[:, :0].long()):
        pool = Pool(Inputs((), {"x": one, "scale": torch.tensor(2.0), "name": "a"}), torch.tensor([0, 1, 0, 1]))
        assert pool.unique().labels.tolist() in ([0, 1, 1], [0, 1])
    assert pool.labels.tolist() == [0, 1, 0, 1]


def by_class(count: int = 96) -> list[tuple[Tensor, Tensor]]:
    x, y = labelled(count)
    order = y.argsort(stable=True)
    return list(zip(x[order].split(16), y[order].split(16), strict=True))


def test_a_race_on_some_of_the_classes_is_refused(ghn: GHN) -> None:
    model = tiny()
    missing = "the model has 3 outputs, but none of 48 images is of class 2; make the model with an output for"
    way = r"each class of the data, shuffle them, or let more than the first of them count: pass max_images=…\.$"
    with pytest.raises(ComparisonError, match=f"{missing} {way}"):
        ghn_init.choose(model, by_class(), ghn, max_images=48, **QUICK)
    with pytest.raises(ComparisonError, match=missing):
        ghn_init.initialize(model, ghn, data=iter(by_class()), max_images=48, choose=True)
    assert same_state(model, tiny())
    two = [(x, y % 2) for x, y in images()]
    with pytest.raises(ComparisonError, match=r"none of 96 .* of class 2; .* an output for each class of the data\.$"):
        ghn_init.choose(model, two, ghn, **QUICK)
    assert ghn_init.choose(model, by_class(), ghn, max_images=96, **QUICK).classes == 3


def test_a_head_that_stays_may_have_more_classes_which_is_said(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    rigged(monkeypatch, {})
    choice = ghn_init.choose(tiny(), by_class(), ghn, max_images=48, exclude="head.*", **QUICK)
    assert (choice.classes, choice.seen, choice.to_dict()["seen"]) == (2, (0, 1), (0, 1))
    assert choice.verdict.endswith("; classes of these images: 0, 1")
    assert ghn_init.choose(tiny(), images(), ghn, **QUICK).seen == ()
    wrapped = nn.DataParallel(tiny())
    assert ghn_init.choose(wrapped, by_class(), ghn, max_images=48, exclude="module.head.*", **QUICK).seen == (0, 1)


def test_more_images_race_and_are_fitted_to_where_it_takes_more(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "MAX_IMAGES", 64)
    monkeypatch.setattr(race._Race, "chosen", lambda *_: Start("predicted", True))
    fit = ghn_init.choose(tiny(), by_class(), ghn, max_images=96, **QUICK).written.fit
    assert fit is not None
    assert fit.images == 96

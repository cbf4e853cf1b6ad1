"""What a prediction is expected to be worth: clues, regressions that leave families out, the file, what reports say."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN, api
from ghn_init.confidence.confidence import FILE, Confidence, Known, Measure, seen_clues
from ghn_init.confidence.regression import STRENGTHS, Regression, fit
from ghn_init.errors import CheckpointError, HeadError
from ghn_init.heads.expect import spread
from ghn_init.prediction.clues import clues, side
from ghn_init.tracing.inputs import Inputs
from helpers import RECIPE, SMALL, colours, tiny_networks
from zoo import conv, images, vectors

FAMILIES = [f"family {k % 6}" for k in range(48)]


def made_up(seed: int = 0) -> tuple[list[dict[str, float]], list[float]]:
    """Clues of networks, and a measure that hangs on two of them and a little noise."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(48, 4, generator=generator, dtype=torch.float64)
    y = 3 + 5 * X[:, 0] - 2 * X[:, 1] + 0.1 * torch.randn(48, generator=generator, dtype=torch.float64)
    return [dict(zip(("a", "b", "c", "d"), row.tolist(), strict=True)) for row in X], y.tolist()


def classifier(classes: int) -> nn.Module:
    return nn.Sequential(conv(), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def knowing(gain: float, accuracy: float = 50.0) -> Confidence:
    """Expects the same of every network."""
    same = Regression(("nodes",), (0.0,), (0.0,), (9.0,), (0.0,), gain, (1.0,) * 7 + (2.0, 4.0))
    known = Known((0.0,) * SMALL.hid, tuple(tuple(map(float, row)) for row in torch.eye(SMALL.hid).tolist()))
    seen = replace(same, names=(*seen_clues(1, 1),), mean=(0.0,) * 2, lowest=(-9.0,) * 2, highest=(9.0,) * 2, slope=(0.0, 1.0))
    return Confidence(
        known,
        {
            "gain": Measure("points ahead", None, same, seen),
            "accuracy": Measure("% right", "images", replace(same, offset=accuracy)),
        },
    )


def with_confidence(confidence: Confidence | None) -> GHN:
    torch.manual_seed(0)
    ghn = GHN(SMALL).eval()
    ghn.confidence = confidence
    return ghn


def test_a_fit_finds_what_the_measure_hangs_on() -> None:
    told, measured = made_up()
    found = fit(told, measured, FAMILIES)
    slopes = dict(zip(found.names, found.slope, strict=True))
    assert slopes["a"] == pytest.approx(5, abs=0.6)
    assert slopes["b"] == pytest.approx(-2, abs=0.3)
    assert abs(slopes["c"]) < 0.1
    for row, value in zip(told[:5], measured, strict=False):
        assert found.expect(row, "", 0.9).value == pytest.approx(value, abs=1.5)


def test_the_interval_holds_for_families_that_were_left_out() -> None:
    told, _ = made_up()
    generator = torch.Generator().manual_seed(1)
    noise = (4 * torch.randn(48, generator=generator)).tolist()
    measured = [3 + 5 * row["a"] + e for row, e in zip(told, noise, strict=True)]
    fresh, _ = made_up(2)
    others = (4 * torch.randn(48, generator=generator)).tolist()
    found = fit(told, measured, FAMILIES)
    for level in (0.5, 0.9):
        expected = [found.expect(row, "", level) for row in fresh]
        held = [one.low <= 3 + 5 * row["a"] + e <= one.high for one, row, e in zip(expected, fresh, others, strict=True)]
        assert level - 0.15 < sum(held) / 48 < level + 0.15
    assert found.errors == tuple(sorted(found.errors))


def test_clues_that_tell_nothing_leave_the_mean() -> None:
    told, measured = made_up()
    drawn = torch.randn(len(measured), generator=torch.Generator().manual_seed(1)).tolist()
    found = fit(told, drawn, FAMILIES)
    assert set(found.slope) == {0.0}
    assert found.expect(told[0], "", 0.9).value == pytest.approx(sum(drawn) / len(drawn))
    assert found.errors != fit(told, measured, FAMILIES).errors
    assert any(fit(told, measured, FAMILIES).slope)


def test_too_few_errors_give_no_interval() -> None:
    known = Regression(("x",), (0.0,), (0.0,), (1.0,), (1.0,), 5.0, tuple(map(float, range(9))))
    assert known.expect({"x": 0.5}, "", 0.9).high == 5.5 + 8  # the largest of nine
    few = replace(known, errors=known.errors[:8])
    assert few.expect({"x": 0.5}, "", 0.9).high == math.inf
    assert "-inf to inf" in str(few.expect({"x": 0.5}, "", 0.9))
    unsorted = Regression.from_dict({**asdict(known), "errors": list(reversed(known.errors))})
    assert unsorted == known


def test_errors_are_those_of_a_fit_without_the_family() -> None:
    """Against a plain ridge for each family and the strength that is least wrong."""
    told, measured = made_up()
    X = torch.tensor([list(row.values()) for row in told], dtype=torch.float64)
    y = torch.tensor(measured, dtype=torch.float64)
    best: list[float] = []
    for strength in STRENGTHS:
        errors = torch.empty(48, dtype=torch.float64)
        for family in set(FAMILIES):
            out = torch.tensor([other == family for other in FAMILIES])
            mean, deviation = X[~out].mean(0), X[~out].std(0, correction=0)
            Z = (X[~out] - mean) / deviation
            w = torch.linalg.solve(
                Z.T @ Z + strength * 40 * torch.eye(4, dtype=torch.float64), Z.T @ (y[~out] - y[~out].mean())
            )
            within = X[out].clamp(X[~out].amin(0), X[~out].amax(0))
            errors[out] = (y[~out].mean() + (within - mean) / deviation @ w - y[out]).abs()
        if not best or errors.square().sum() < sum(e**2 for e in best):
            best = sorted(errors.tolist())
    assert list(fit(told, measured, FAMILIES).errors) == pytest.approx(best)


def test_coordinates_of_the_embedding_weigh_as_one_clue() -> None:
    told, measured = made_up()
    copies = [{"b": row["b"], **{f"embedding {k}": row["a"] for k in range(16)}} for row in told]
    one = [{"b": row["b"], "embedding 0": row["a"]} for row in told]
    several, single = fit(copies, measured, FAMILIES), fit(one, measured, FAMILIES)
    assert sum(several.slope[1:]) == pytest.approx(single.slope[1], rel=1e-6)
    assert several.errors == pytest.approx(single.errors, rel=1e-6)


def test_what_lies_outside_of_all_that_was_measured_is_held_at_its_edge_and_named() -> None:
    told, measured = made_up()
    found = fit(told, measured, FAMILIES)
    edge = {**told[0], "a": found.highest[0]}
    far = found.expect({**edge, "a": 99.0}, "points", 0.9)
    assert far.beyond == ("a",)
    assert far.value == pytest.approx(found.expect(edge, "points", 0.9).value)
    assert found.expect(edge, "points", 0.9).beyond == ()
    assert str(far).startswith(f"not known, unlike all that were measured in a; the nearest: {far.value:.0f} points (90 % of")


def test_distances_are_about_one_for_graphs_of_meta_training() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(400, 5, generator=generator, dtype=torch.float64) @ torch.diag(
        torch.tensor([1.0, 2.0, 3.0, 0.5, 4.0], dtype=torch.float64)
    )
    known = Known.of(embeddings)
    own = [known.distance({f"embedding {k}": value for k, value in enumerate(row)}) for row in embeddings.tolist()]
    assert sum(d**2 for d in own) / 400 == pytest.approx(1, abs=0.1)
    assert known.distance({f"embedding {k}": 40.0 for k in range(5)}) > 10


def test_clues_are_sizes_shares_and_the_embedding() -> None:
    first = nn.Conv2d(3, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()
    model = nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))
    ghn = with_confidence(None)
    p = ghn_init.predict(model, ghn, torch.zeros(2, 3, 64, 48), head=False)
    (embeddings,) = ghn.embed_nodes([p.graph])
    numel = sum(parameter.numel() for parameter in model.parameters())
    found = clues(p.graph, p.slots, p.cores, numel, embeddings, 64)
    filled = 3 * 128 * 9 + 3 * 128
    assert found["predicted"] == pytest.approx(filled / numel)
    assert found["copies"] == pytest.approx(math.log(filled / sum(core.numel() for core in p.cores.values())))
    assert found["largest width"] == 1
    assert found["pixels"] == 1
    assert found["share of bn"] == pytest.approx(1 / p.graph.num_nodes)
    assert found["depth"] == math.log(1 + max(p.graph.depths))
    assert found["embedding 3"] == pytest.approx(float(embeddings[:, 3].detach().mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (Inputs((torch.zeros(2, 3, 32, 48),), {}, ""), 48),
        (Inputs((), {"pixel_values": torch.zeros(1, 3, 20, 16)}, ""), 20),
        (Inputs((torch.zeros(2, 8),), {}, ""), None),
        (Inputs((torch.zeros(2, 3, 4, 4, dtype=torch.long),), {}, ""), None),
    ],
)
def test_pixels_are_those_of_images(inputs: Inputs, expected: int | None) -> None:
    assert side(inputs) == expected


def test_reports_say_what_is_expected_of_images() -> None:
    ghn = with_confidence(knowing(6.4))
    report = ghn_init.predict(classifier(10), ghn, images()).report
    assert "expected: 6 points ahead (90 % of networks like those measured: 2 to 10)" in report.lines
    assert "% right" not in repr(report)
    assert not report.harm
    assert json.loads(json.dumps(report.to_dict()))["expected"]["gain"]["high"] == 10.4
    assert ghn_init.predict(nn.Linear(8, 8), ghn, vectors(2, 8)).report.expected == {}


def test_accuracy_is_expected_where_its_head_is_predicted() -> None:
    ghn = with_confidence(knowing(6.4))
    report = ghn_init.predict(classifier(3), ghn, images(), head="images").report
    assert set(report.expected) == {"gain", "accuracy"}
    assert report.expected["accuracy"].value == 50


def test_harm_is_warned_of_once_with_a_way_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    api._say_that_statistics_are_of_noise()  # once in a process
    caplog.clear()
    ghn_init.initialize(classifier(10), with_confidence(knowing(6.4)), images())
    assert not caplog.records
    ghn = with_confidence(knowing(-3.0))
    ghn_init.initialize(classifier(10), ghn, images())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "behind the model's own init: race them on your data (choose=True)" in caplog.text
    report = ghn_init.predict(classifier(10), ghn, images()).report
    assert report.warnings.count(report.harm) == 1
    caplog.clear()
    ghn_init.initialize(classifier(10), ghn, data=[images()])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.clear()
    batch = torch.randn(80, 3, 16, 16), torch.arange(80) % 10
    ghn_init.initialize(classifier(10), ghn, data=[batch], choose=True)  # it has been measured
    assert not caplog.records


def test_a_batch_tells_more() -> None:
    p = ghn_init.predict(classifier(10), with_confidence(knowing(6.4)), images())
    before = {name: value.clone() for name, value in p.model.state_dict().items()}
    x = torch.randn(16, 3, 16, 16)
    own, predicted = spread(p.model, p.graph, x), spread(p.model, p.graph, x, p.tensors)
    assert ghn_init.expect(p, x)["gain"].value == pytest.approx(6.4 + math.log((predicted + 1e-3) / (own + 1e-3)))
    assert all(torch.equal(before[name], value) for name, value in p.model.state_dict().items())
    assert p.model.training
    assert ghn_init.expect(ghn_init.predict(classifier(10), with_confidence(None), images()), x) == {}


def test_spread_is_the_share_of_variance_between_images() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Linear(6, 4)).eval()
    x = torch.randn(9, 3, 2, 2)
    graph = ghn_init.trace(model, x)
    features = model[1](model[0](x)).detach().double()
    expected = (features - features.mean(0)).square().mean() / (features - features.mean()).square().mean()
    assert spread(model, graph, x) == pytest.approx(float(expected), rel=1e-4)
    alike = {"1.weight": torch.zeros(6, 12)}
    assert spread(model, graph, x, alike) == pytest.approx(0, abs=1e-6)
    with pytest.raises(HeadError, match="has no classification head"):
        spread(nn.Conv2d(3, 4, 1), ghn_init.trace(nn.Conv2d(3, 4, 1), x), x)


def test_it_travels_with_the_checkpoint(tmp_path: Path) -> None:
    confidence = knowing(6.4)
    with_confidence(confidence).save_pretrained(tmp_path)
    assert ghn_init.load(tmp_path).confidence == confidence
    with_confidence(None).save_pretrained(tmp_path / "other")
    assert ghn_init.load(tmp_path / "other").confidence is None
    with_confidence(confidence).save_pretrained(tmp_path / "other")
    same = with_confidence(confidence)
    same.save_pretrained(tmp_path / "other")
    same.confidence = None
    same.save_pretrained(tmp_path / "other")  # of the same weights nothing new
    assert ghn_init.load(tmp_path / "other").confidence == confidence
    other = with_confidence(None)
    with torch.no_grad():
        other.embed.weight.add_(1)
    other.save_pretrained(tmp_path / "other")  # other weights, of which nothing is known
    assert ghn_init.load(tmp_path / "other").confidence is None
    (tmp_path / FILE).write_text('{"known": 3}')
    with pytest.raises(CheckpointError, match=r"confidence\.json is damaged"):
        ghn_init.load(tmp_path)


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "strings in the mean": lambda file: file["known"].update(mean=["a"] * len(file["known"]["mean"])),
    "a shorter mean": lambda file: file["known"]["mean"].pop(),
    "a shorter row": lambda file: file["known"]["whitening"][0].pop(),
    "no mean": lambda file: file["known"].update(mean=[], whitening=[]),
    "strings in a slope": lambda file: file["measures"]["gain"]["regression"].update(slope=["a"]),
    "a shorter slope": lambda file: file["measures"]["gain"]["regression"]["slope"].pop(),
    "no errors": lambda file: file["measures"]["gain"]["regression"].update(errors=[]),
    "an error that is no number": lambda file: file["measures"]["gain"]["regression"].update(errors=[1.0, math.nan]),
    "no offset": lambda file: file["measures"]["gain"]["regression"].update(offset=None),
    "numbers for names": lambda file: file["measures"]["gain"]["regression"].update(names=[1]),
    "words that are none": lambda file: file["measures"]["gain"].update(told=3),
    "a task that is none": lambda file: file["measures"]["gain"].update(task=["cifar10"]),
    "no regression": lambda file: file["measures"]["gain"].pop("regression"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_files_are_one_clear_error_when_they_are_loaded(tmp_path: Path, what: str) -> None:
    with_confidence(knowing(6.4)).save_pretrained(tmp_path)
    values = json.loads((tmp_path / FILE).read_text())
    DAMAGED[what](values)
    (tmp_path / FILE).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"confidence\.json is damaged .*; remove it, or fetch the checkpoint again"):
        ghn_init.load(tmp_path)


def test_a_file_of_brackets_is_one_clear_error(tmp_path: Path) -> None:
    with_confidence(knowing(6.4)).save_pretrained(tmp_path)
    (tmp_path / FILE).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"confidence\.json is damaged \(RecursionError"):
        ghn_init.load(tmp_path)


def test_embeddings_of_another_width_are_one_clear_error() -> None:
    confidence = knowing(6.4)
    width = len(confidence.known.mean)
    known = Known((0.0,) * (width + 1), ((0.0,) * (width + 1),))
    with pytest.raises(CheckpointError, match=f"asks for 'embedding {width}', which this version does not know"):
        ghn_init.predict(classifier(10), with_confidence(replace(confidence, known=known)), images())


def test_clues_of_another_version_are_one_clear_error() -> None:
    confidence = knowing(6.4)
    gain = confidence.measures["gain"]
    newer = replace(gain, regression=replace(gain.regression, names=("nodes of 2030",)))
    ghn = with_confidence(replace(confidence, measures={"gain": newer}))
    with pytest.raises(CheckpointError, match=r"confidence\.json asks for 'nodes of 2030', which this version does not know"):
        ghn_init.predict(classifier(10), ghn, images())


def test_other_weights_are_expected_nothing_of(tmp_path: Path) -> None:
    ghn = with_confidence(knowing(6.4))
    trained = ghn_init.train(colours(), tmp_path, architectures=tiny_networks(), ghn=ghn, config=RECIPE, steps=1)
    assert trained.confidence is None

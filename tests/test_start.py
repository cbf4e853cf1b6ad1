"""`initialize(model, data=loader)`: predicted, recalibrated, fitted; all of it or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN, Report
from ghn_init.errors import HeadError, RecalibrationError, ShapeMismatchError, StrictError, TraceError
from ghn_init.models.batches import Batches
from ghn_init.trials.starts import Start
from helpers import Tiny
from test_heads import Distilled, changed, copied, labelled, loader, state
from zoo import Fn, conv


def tiny(classes: int = 3) -> Tiny:
    """Batch norms, dropout and a head."""
    torch.manual_seed(0)
    model = Tiny(2, 8)
    model.head = nn.Linear(8, classes)
    return model


def started(model: nn.Module, ghn: GHN, data: Any, **kwargs: Any) -> Report:
    """The report of an initialisation."""
    reports: list[Report] = []
    assert ghn_init.initialize(model, ghn, data=data, on_report=reports.append, **kwargs) is model
    (report,) = reports
    return report


def same_state(a: nn.Module, b: nn.Module) -> bool:
    return changed(state(a), state(b)) == set()


HEAD = ("head.weight", "head.bias")
UNLABELLED = [x for x, _ in loader()]


def test_it_is_predicting_recalibrating_and_fitting(ghn: GHN) -> None:
    model, expected = tiny().eval(), tiny().eval()
    report = started(model, ghn, loader())
    ghn_init.initialize(expected, ghn, torch.zeros(2, 3, 6, 6), head=False)
    fit = ghn_init.fit_head_(expected, loader())
    assert same_state(model, expected)
    assert report.fit is not None
    assert (report.fit.heads, report.fit.accuracy, report.fit.images) == (HEAD, fit.accuracy, 48)
    assert str(report).splitlines()[1:3] == ["batch norms recalibrated on the data, head fitted", str(report.fit)]
    assert {row.name: (row.state, row.note) for row in report.rows if row.name in HEAD} == dict.fromkeys(
        HEAD, ("fitted", "in closed form")
    )
    assert (report.kept, report.warnings, report.summary.rpartition("; ")[2]) == ((), (), "0 kept, 2 fitted")
    assert [group.state for group in report.groups if "head" in group.module] == ["fitted"]
    images, labels = (torch.cat(parts) for parts in zip(*loader(), strict=True))
    assert (model(images).argmax(1) == labels).double().mean() > report.fit.majority / 100


def test_as_many_images_are_used_as_it_takes_to_see_each_class(ghn: GHN) -> None:
    images, labels = labelled(96, 24)
    order = labels.argsort()
    data = [(images[order], labels[order])] * 2
    model, expected = tiny(24), tiny(24)
    with pytest.raises(HeadError, match=r"none of 60 images is of class .* let more .* count: pass max_images=…\.$"):
        ghn_init.initialize(model, ghn, data=data, max_images=60)
    assert same_state(model, expected)
    report = started(model, ghn, data, max_images=96)
    assert report.fit is not None
    assert (report.fit.images, report.fit.classes) == (96, 24)
    ghn_init.initialize(expected, ghn, data=data[:1])
    assert same_state(model, expected)
    with pytest.raises(ValueError, match="max_images=9 is of data, which isn't given"):
        ghn_init.initialize(model, ghn, max_images=9)
    with pytest.raises(ValueError, match="max_images is 0"):
        ghn_init.initialize(model, ghn, data=data, max_images=0)


def test_without_data_the_report_says_nothing_of_them(ghn: GHN) -> None:
    reports: list[Report] = []
    ghn_init.initialize(tiny(), ghn, torch.zeros(2, 3, 8, 8), on_report=reports.append)
    assert (reports[0].fit, reports[0].data_lines) == (None, [])
    assert str(reports[0]) == str(ghn_init.predict(tiny(), ghn, torch.zeros(2, 3, 8, 8)).report)


def test_without_labels_batch_norms_alone_see_the_data(ghn: GHN) -> None:
    model, expected = tiny(10), tiny(10)
    report = started(model, ghn, iter(UNLABELLED))
    ghn_init.initialize(expected, ghn, torch.zeros(2, 3, 6, 6))
    ghn_init.recalibrate_batchnorm(expected, UNLABELLED)
    assert same_state(model, expected)
    assert report.fit is None
    assert report.data_lines == ["batch norms recalibrated on the data; no head fitted: the data have no labels"]


KEPT: dict[str, tuple[dict[str, Any], str]] = {
    "exclude": ({"exclude": "head.*"}, "'head.weight' is left out by exclude"),
    "exclude a bias": ({"exclude": "head.bias"}, "'head.bias' is left out by exclude"),
    "only": ({"only": "body.*"}, "'head.weight' is left out by only"),
}


@pytest.mark.parametrize("how", KEPT)
def test_a_head_that_is_left_out_keeps_its_values(ghn: GHN, how: str) -> None:
    options, reason = KEPT[how]
    model, own = tiny(), tiny()
    report = started(model, ghn, loader(), **options)
    assert report.data_lines == [f"batch norms recalibrated on the data; no head fitted: {reason}"]
    assert torch.equal(model.head.weight, own.head.weight)
    assert torch.equal(model.head.bias, own.head.bias)
    assert not torch.equal(model.body[0].weight, own.body[0].weight)


class TwoOutputs(nn.Module):
    """Classes, and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.side = nn.Conv2d(3, 8, 3), nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x).relu().mean((2, 3))
        return self.head(x), self.side(x)


class Projected(nn.Module):
    """Features first, then classes that are made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.projection, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.projection(self.body(x).relu().mean((2, 3)))
        return {"features": features, "logits": self.head(features)}


@pytest.mark.parametrize("pattern", ["head.*", "projection.*"])
def test_heads_may_be_left_out_where_another_output_comes_first(ghn: GHN, pattern: str) -> None:
    with pytest.raises(HeadError, match=r"leave the heads out \(exclude\)"):
        ghn_init.initialize(Projected(), ghn, data=loader())
    model = Projected()
    own = copied(state(model))
    report = started(model, ghn, loader(), exclude=pattern)
    assert report.fit is None
    assert "no head fitted: " in report.data
    kept = {name for name in own if name.startswith((pattern[:-1], "head."))}
    assert not changed(own, state(model)) & kept
    assert "body.weight" in changed(own, state(model))


def test_a_head_that_is_not_fitted_has_the_true_reason(ghn: GHN) -> None:
    report = started(tiny(), ghn, loader(), exclude="head.bias")
    (weight,) = (row for row in report.rows if row.name == "head.weight")
    assert weight.note == "classification head, no head was fitted: 'head.bias' is left out by exclude"
    several = TwoOutputs()
    notes = {row.name: row.note for row in started(several, ghn, loader()).rows if row.name.startswith("side")}
    assert set(notes.values()) == {"classification head, not among those that were fitted"}


@pytest.mark.parametrize("head", [True, "images"])
def test_a_predicted_head_that_is_asked_for_stays(ghn: GHN, head: Any) -> None:
    model, expected = tiny(10), tiny(10)
    report = started(model, ghn, loader(), head=head)
    assert report.data.endswith(f"no head fitted: head={head!r} asks for the predicted one")
    ghn_init.initialize(expected, ghn, torch.zeros(2, 3, 6, 6), head=head)
    assert torch.equal(model.head.weight, expected.head.weight)


def test_a_fitted_head_is_none_that_strict_refuses(ghn: GHN) -> None:
    assert started(tiny(), ghn, loader(), strict=True).fit is not None
    with pytest.raises(StrictError, match=r"'head.weight': classification head of 3 classes"):
        ghn_init.initialize(tiny(), ghn, strict=True, data=UNLABELLED)


def test_the_report_of_what_was_fitted_is_data_and_names_what_there_is(ghn: GHN) -> None:
    found = json.loads(json.dumps(started(tiny(), ghn, loader()).to_dict()))
    assert found["data"] == "batch norms recalibrated on the data, head fitted"
    assert found["fit"]["heads"] == ["head.weight", "head.bias"]
    assert found["choice"] == ""
    without = Fn(lambda m, x: m.head(m.conv(x).mean((2, 3))), conv=conv(3, 4), head=nn.Linear(4, 3))
    assert started(without, ghn, loader()).data == "head fitted"


def test_a_frozen_teachers_head_stays_unless_it_is_to_be_overwritten(ghn: GHN) -> None:
    model, own = Distilled(), Distilled()
    report = started(model, ghn, loader())
    assert {name for name in changed(state(own), state(model)) if name.startswith("teacher")} == set()
    assert {row.note for row in report.rows if row.name.startswith("teacher.fc")} == {
        "classification head, frozen beside trainable parameters"
    }
    assert "frozen, and left alone: teacher.fc.weight, teacher.fc.bias" in str(report)
    report = started(Distilled(), ghn, loader(), overwrite="teacher.fc.*")
    assert report.fit is not None
    assert {name for name in report.fit.heads if name.startswith("teacher")} == {"teacher.fc.weight", "teacher.fc.bias"}


def test_a_frozen_head_is_fitted(ghn: GHN) -> None:
    model, expected = tiny(), tiny()
    model.head.requires_grad_(False)
    started(model, ghn, loader())
    started(expected, ghn, loader())
    assert torch.equal(model.head.weight, expected.head.weight)
    assert not model.head.weight.requires_grad


def statistics(norm: nn.BatchNorm2d) -> list[torch.Tensor]:
    return [buffer.clone() for buffer in norm.buffers()]


class Adapted(nn.Module):
    """A frozen backbone with a norm that has parameters and one that has none, and a trainable part behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False))
        self.neck = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False))
        self.head = nn.Linear(8, 3)
        self.backbone.requires_grad_(False)
        self.own = [norm for norm in self.modules() if isinstance(norm, nn.BatchNorm2d)]
        for norm in self.own:
            norm.running_mean.fill_(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.neck(self.backbone(x)).mean((2, 3)))


STARTS: dict[str, Any] = {
    "predicted and fitted": lambda model, ghn: started(model, ghn, loader()),
    "predicted": lambda model, ghn: started(model, ghn, UNLABELLED),
    "without data": lambda model, ghn: ghn_init.initialize(model, ghn, torch.zeros(2, 3, 6, 6)),
    "fitted": lambda model, ghn: ghn_init.fit_head_(model, loader()),
    "orthogonal and fitted": lambda model, ghn: Start("orthogonal", True).write_(
        ghn_init.predict(model, ghn, torch.zeros(2, 3, 6, 6)), model, Batches(loader(), model, 100), pytest.fail
    ),
}


@pytest.mark.parametrize("how", STARTS)
def test_frozen_norms_keep_their_statistics_and_others_do_not(ghn: GHN, how: str) -> None:
    model = Adapted()
    before = [statistics(norm) for norm in model.own]
    STARTS[how](model, ghn)
    same = [all(map(torch.equal, old, norm.buffers())) for old, norm in zip(before, model.own, strict=True)]
    assert same == [True, True, False, False]
    frozen_as_a_whole = Adapted().requires_grad_(False)
    STARTS[how](frozen_as_a_whole, ghn)
    assert not any(norm.running_mean.eq(0.3).any() for norm in frozen_as_a_whole.own)


def test_frozen_norms_that_are_overwritten_get_new_statistics(ghn: GHN) -> None:
    model = Adapted()
    started(model, ghn, loader(), overwrite="backbone.*")
    assert not any(norm.running_mean.eq(0.3).any() for norm in model.own)


def test_backbones_may_come_with_labels(ghn: GHN) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    assert started(plain, ghn, loader()).data.endswith("no head fitted: the model has none that was found")
    assert plain[1].num_batches_tracked == 3
    backbone = timm.create_model("mobilenetv3_small_050", num_classes=0)
    before = backbone.conv_head.weight.clone()
    assert started(backbone, ghn, loader()).data.endswith("no head fitted: num_classes is 0")
    assert not torch.equal(backbone.conv_head.weight, before)  # a layer like the others: predicted


def test_inputs_come_from_the_data_unless_they_are_given(ghn: GHN) -> None:
    def sized() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(80, 3))  # for 6 px, which nobody would guess

    with pytest.raises(TraceError):
        ghn_init.initialize(sized(), ghn)
    assert started(sized(), ghn, loader()).fit is not None
    with pytest.raises(TraceError, match=r"float32\[2, 3, 9, 9\]"):
        ghn_init.initialize(sized(), ghn, torch.zeros(2, 3, 9, 9), data=loader())


def interrupted() -> Iterator[Any]:
    yield from loader()[:1]
    raise OSError("the disk is gone")


class Breaking(list[Any]):
    """Fails when it is read for the second time: once for the norms, once for the head."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return interrupted() if self.reads == 2 else super().__iter__()


FAILURES: dict[str, tuple[Any, int, type[Exception], str]] = {
    "no images": ([], 3, RecalibrationError, "the loader has no batches"),
    "no loader": (3, 3, RecalibrationError, "the data are a int; expected a loader"),
    "more outputs than classes": (
        loader(),
        7,
        HeadError,
        "has 7 outputs, but none of 48 images is of class 3, 4, 5 and 1 more",
    ),
    "one class": ([(x, 0 * y) for x, y in loader()], 3, HeadError, "all 48 images are of class 0"),
    "wrong labels": ([(x, y / 2) for x, y in loader()], 3, HeadError, "the labels are torch.float32"),
    "NaN": (
        [(x * float("nan"), y) for x, y in loader()],
        3,
        HeadError,
        "is not finite; images that are not finite themselves: 48",
    ),
    "NaN without labels": ([x * float("nan") for x, _ in loader()], 3, RecalibrationError, "is not finite; images that are"),
    "another precision": (
        [(x.double(), y) for x, y in loader()],
        3,
        TraceError,
        r"of torch.float32 failed on images of torch.float64: .*images.to\(torch.float32\)",
    ),
    "bytes": (
        [(x.byte(), y) for x, y in loader()],
        3,
        TraceError,
        r"of torch.float32 failed on images of torch.uint8: .* Let the loader yield images.float\(\) / 255, normalised",
    ),
    "a loader that breaks": (Breaking(loader()), 3, OSError, "the disk is gone"),
    "no images for the model": ([(torch.zeros(4, 7), torch.arange(4))], 3, TraceError, r"float32\[2, 7\]"),
    "no images for the model, later": ([*loader(), (torch.zeros(4, 2, 6, 6), torch.arange(4))], 3, RuntimeError, "2 channels"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_failures_leave_everything_as_it_was(ghn: GHN, how: str) -> None:
    data, classes, error, words = FAILURES[how]
    model = tiny(classes)
    model(loader()[0][0])
    before = copied(state(model))
    with pytest.raises(error, match=words):
        ghn_init.initialize(model, ghn, data=data)
    assert changed(before, state(model)) == set()


def test_nothing_is_copied_of_a_model_without_values(ghn: GHN) -> None:
    with pytest.raises(ShapeMismatchError, match="on the meta device, without storage"):
        ghn_init.initialize(tiny().to("meta"), ghn, data=loader())


def test_the_same_twice_and_inside_of_wrappers(ghn: GHN) -> None:
    models = [tiny(), tiny(), tiny()]
    started(models[0], ghn, loader())
    ghn_init.initialize(models[1], ghn, data=loader())
    ghn_init.initialize(models[1], ghn, data=loader())
    report = started(nn.DataParallel(models[2]), ghn, loader())
    assert same_state(models[0], models[1])
    assert same_state(models[0], models[2])
    assert report.fit is not None
    assert report.fit.heads == ("module.head.weight", "module.head.bias")
    assert started(nn.DataParallel(tiny()), ghn, loader(), exclude="module.head.*").fit is None


@pytest.mark.parametrize("data", [loader(), UNLABELLED], ids=["labels", "no labels"])
def test_a_default_device_changes_nothing(ghn: GHN, data: Any) -> None:
    expected, model = tiny(), tiny()
    ghn_init.initialize(expected, ghn, data=data)
    with torch.device("meta"):
        ghn_init.initialize(model, ghn, data=data)
    assert same_state(model, expected)


@pytest.mark.parametrize("own", [False, True])
def test_a_loader_that_shuffles_does_so_by_the_seed(ghn: GHN, own: bool) -> None:
    generator = torch.Generator() if own else None
    data = DataLoader(TensorDataset(*labelled()), 15, shuffle=True, generator=generator)
    found = [tiny() for _ in range(3)]
    before = generator and generator.get_state()
    for number, model in enumerate(found):
        torch.manual_seed(number)
        ghn_init.initialize(model, ghn, data=data, seed=max(number, 1))
        assert generator is None or torch.equal(generator.get_state(), before)
    assert same_state(found[0], found[1])
    assert not torch.equal(found[1].body[1].running_mean, found[2].body[1].running_mean)
    with pytest.raises(ValueError, match="seed is 'a'; expected a whole number"):
        ghn_init.initialize(tiny(), ghn, data=data, seed="a")  # type: ignore[arg-type]


def test_autocast_is_for_training(ghn: GHN) -> None:
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        fit = started(model, ghn, loader()).fit
    assert fit is not None
    assert fit.accuracy == ghn_init.fit_head_(model, loader(), recalibrate=False).accuracy


@pytest.mark.parametrize("normed", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_failure_leaves_derived_values_as_they_were_too(ghn: GHN, normed: Any) -> None:
    model = nn.Sequential(normed(conv(3, 8)), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    before = copied(state(model))
    with pytest.raises(HeadError, match="labels go from 0 to 2"):
        ghn_init.initialize(model, ghn, data=loader())
    assert changed(state(model), before) == set()


@pytest.mark.parametrize("data", [loader(), UNLABELLED])
def test_norms_that_are_left_out_keep_their_statistics(ghn: GHN, data: Any) -> None:
    model = Adapted().requires_grad_(True)
    before = [statistics(norm) for norm in model.own]
    started(model, ghn, data, exclude="backbone.*")
    same = [all(map(torch.equal, old, norm.buffers())) for old, norm in zip(before, model.own, strict=True)]
    assert same == [True, True, False, False]
    ghn_init.fit_head_(model, loader())  # by itself, where nothing is left out
    assert not any(norm.running_mean.eq(0.3).any() for norm in model.own)


class WithStatistics(nn.Module):
    """The model itself holds the statistics of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.gain = conv(3, 8), nn.Linear(8, 3), nn.Parameter(torch.ones(8))
        self.register_buffer("mean", torch.full((8,), 3.0))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.batch_norm(self.conv(x), self.mean, self.var, self.gain, None, self.training)
        return self.head(x.relu().mean((2, 3)))


def test_statistics_that_a_wrapped_model_itself_holds_are_taken_from_data(ghn: GHN) -> None:
    model = WithStatistics()
    ghn_init.initialize(nn.DataParallel(model), ghn, data=loader())
    assert not model.mean.eq(3).any()

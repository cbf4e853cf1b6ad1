"""Running statistics from noise: finite and sane logits in eval mode without data, all else untouched."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, api
from ghn_init.prediction.running_statistics import IMAGES, from_noise_, noise_like
from ghn_init.tracing.inputs import Inputs
from zoo import Fn, conv, images

WARNING = "batch norms whose running statistics are not predicted but those of noise: {} (take them from your data: "


def deep(blocks: int = 6) -> nn.Module:
    """Each block doubles what unit statistics get wrong."""
    layers = [layer for _ in range(blocks) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())]
    return nn.Sequential(conv(3, 16), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def norms(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def inputs(*args: Any, **kwargs: Any) -> Inputs:
    return Inputs(args, kwargs, "a test")


def test_eval_mode_gives_what_training_mode_gives() -> None:
    torch.manual_seed(0)
    model = ghn_init.initialize(deep(), example_inputs=torch.zeros(2, 3, 32, 32), condition="none")
    x = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        expected, found = model.train()(x), model.eval()(x)
        for norm in norms(model):
            norm.reset_running_stats()
        reset = model(x)
    assert (reset - expected).norm() > 2 * expected.norm()
    # The images are noise, whose logits differ by little beside what other noise's statistics shift them by.
    assert (found - expected).norm() < 0.2 * (reset - expected).norm()


def test_all_else_is_left_as_it_was(ghn: GHN) -> None:
    model = nn.Sequential(deep(1), nn.Dropout(0.5)).train()
    model[0][2].momentum = 0.3
    state = torch.get_rng_state()
    prediction = ghn_init.predict(model, ghn, images())
    prediction.apply_()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    (norm,) = norms(model)
    assert (norm.momentum, int(norm.num_batches_tracked)) == (0.3, 0)
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prediction.apply_()
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


def test_a_counter_in_a_frozen_parameter_does_not_count_the_noise(ghn: GHN) -> None:
    count = nn.Parameter(torch.zeros(()), requires_grad=False)
    model = Fn(lambda m, x: m.norm(m.a(x)) * m.count.add_(1), a=conv(), norm=nn.BatchNorm2d(8), count=count)
    ghn_init.initialize(model, ghn, images())
    assert (model.count.item(), bool(model.norm.running_mean.any())) == (0, True)


def test_the_report_says_it_once_and_nothing_of_models_without_batch_norms(ghn: GHN, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ghn_init.initialize(deep(3), ghn, images())
    assert caplog.text.count(WARNING.format(3)) == 1
    assert not any("batch norms" in text for text in ghn_init.predict(conv(), ghn, images()).report.warnings)


def test_a_process_is_told_once_unless_there_are_data(ghn: GHN, caplog: pytest.LogCaptureFixture) -> None:
    api._say_that_statistics_are_of_noise.cache_clear()
    ghn_init.initialize(deep(2), ghn, data=[images()])
    ghn_init.initialize(conv(), ghn, images())
    assert not caplog.records
    for _ in range(2):
        ghn_init.initialize(deep(2), ghn, images())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "running statistics of batch norms are those of noise" in record.message
    assert "recalibrate_batchnorm(model, loader)" in record.message


@pytest.mark.parametrize("broken", [lambda x: x / 0, lambda x: x.missing])
def test_a_model_that_fails_on_values_gets_new_statistics_and_says_so(
    ghn: GHN, caplog: pytest.LogCaptureFixture, broken: Any
) -> None:
    model = Fn(lambda m, x: m.norm(m.conv(x if x.is_meta else broken(x))), conv=conv(), norm=nn.BatchNorm2d(8))
    model.norm.running_mean.fill_(5)
    ghn_init.initialize(model, ghn, images())
    assert torch.equal(model.norm.running_mean, torch.zeros(8))
    assert torch.equal(model.norm.running_var, torch.ones(8))
    assert "running statistics of 1 batch norms could not be taken from noise (" in caplog.text


@pytest.mark.parametrize("picky", ["float32", "channels first", "neither"])
def test_bfloat16_is_tried_where_it_pays_and_gives_the_same(monkeypatch: pytest.MonkeyPatch, picky: str) -> None:
    seen: list[tuple[torch.dtype, bool]] = []

    class Picky(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y = self[0](x)
            seen.append((y.dtype, x.is_contiguous()))
            if (picky == "float32" and y.dtype != torch.float32) or (picky == "channels first" and not x.is_contiguous()):
                raise ValueError(picky)
            return nn.Sequential.forward(self, x)

    def statistics(pays: bool) -> list[Tensor]:
        for place in ("running_statistics", "precision"):
            monkeypatch.setattr(f"ghn_init.prediction.{place}.bfloat16_pays", lambda: pays)
        torch.manual_seed(0)
        model = Picky(*deep(2)).train()
        seen.clear()
        assert not from_noise_(model, norms(model), inputs(torch.zeros(2, 3, 16, 16)))
        assert all(module.training for module in model.modules())
        assert [int(norm.num_batches_tracked) for norm in norms(model)] == [0, 0]
        return [buffer for norm in norms(model) for buffer in (norm.running_mean, norm.running_var)]

    plain = statistics(pays=False)
    assert seen == [(torch.float32, True)]
    found = statistics(pays=True)
    assert seen == [(torch.bfloat16, False)] + [(torch.float32, True)] * (picky != "neither")
    for own, other in zip(found, plain, strict=True):
        assert torch.equal(own, other) == (picky != "neither")
        torch.testing.assert_close(own, other, rtol=0.03, atol=0.01)


def test_models_of_other_precisions_are_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ghn_init.prediction.running_statistics.bfloat16_pays", lambda: pytest.fail("asked"))
    model = deep(1).double()
    assert not from_noise_(model, norms(model), inputs(torch.zeros(2, 3, 16, 16, dtype=torch.float64)))


def test_norms_that_talk_to_other_processes_are_not_run() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(deep(1))
    found = [module for module in model.modules() if isinstance(module, nn.SyncBatchNorm)]
    found[0].running_mean.fill_(5)
    assert from_noise_(model, found, inputs(images())) == "SyncBatchNorm would talk to other processes"
    assert found[0].running_mean.eq(0).all()


def test_small_images_are_more_of_them() -> None:
    def batch(size: int) -> Tensor:
        return noise_like(inputs(torch.empty(2, 3, size, size, device="meta")), torch.device("cpu"), 0)[0][0]

    assert [len(batch(size)) for size in (16, 224, 512)] == [IMAGES[1], IMAGES[0], IMAGES[0]]
    assert batch(16).std() == pytest.approx(1, abs=0.05)


def test_several_inputs_keep_their_shapes_and_integers_their_values() -> None:
    tokens, time = torch.tensor([[1, 2]]), torch.tensor(0.5)
    args, kwargs = noise_like(
        inputs(
            torch.empty(2, 3, 8, 8, device="meta"),
            5,
            time,
            tokens=tokens,
            mask=torch.empty(1, 2, dtype=torch.long, device="meta"),
        ),
        torch.device("cpu"),
        0,
    )
    assert args[0].shape == (2, 3, 8, 8)
    assert args[1:] == (5, time)
    assert torch.equal(kwargs["tokens"], tokens)
    assert torch.equal(kwargs["mask"], torch.zeros(1, 2, dtype=torch.long))


def test_the_report_says_that_statistics_were_reset_and_why(ghn: GHN, caplog: pytest.LogCaptureFixture) -> None:
    prediction = ghn_init.predict(deep(1), ghn, images())
    prediction.model.half()
    prediction.apply_()
    assert prediction.report.noise == ""
    (told,) = [text for text in prediction.report.warnings if "running statistics" in text]
    assert told.startswith("batch norms whose running statistics could not be taken from noise (RuntimeError: ")
    assert "eval mode is not sane: 1 (take them from your data: " in told
    assert "from noise (RuntimeError: " in caplog.text
    prediction.model.float()
    prediction.apply_()
    assert [text for text in prediction.report.warnings if "running statistics" in text] == [prediction.report.noise]
    reports: list[Any] = []
    ghn_init.initialize(nn.SyncBatchNorm.convert_sync_batchnorm(deep(1)), ghn, images(), on_report=reports.append)
    assert "(SyncBatchNorm would talk to other processes), so that eval mode is not sane: 1" in "".join(reports[0].warnings)


class Counting(nn.Module):
    """A norm of somebody's own, which counts its calls."""

    def __init__(self, spoiled: bool = False) -> None:
        super().__init__()
        self.spoiled, self.gain = spoiled, nn.Parameter(torch.ones(8))
        self.register_buffer("mean", torch.full((8,), 3.0))
        self.register_buffer("var", torch.full((8,), 2.0))
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        x = x * torch.nan if self.spoiled and not x.is_meta else x
        return nn.functional.batch_norm(x, self.mean, self.var, self.gain, None, self.training)


def test_other_buffers_beside_statistics_stay(ghn: GHN) -> None:
    model = nn.Sequential(conv(3, 8), Counting())
    prediction = ghn_init.predict(model, ghn, images())
    prediction.apply_()
    assert float(model[1].seen) == 0
    assert not model[1].mean.eq(3).any()
    assert WARNING.format(1) in " ".join(prediction.report.warnings)


def test_statistics_of_norms_called_as_functions_stay_where_noise_fails(ghn: GHN) -> None:
    model = nn.Sequential(conv(3, 8), Counting(spoiled=True))
    prediction = ghn_init.predict(model, ghn, images())
    prediction.apply_()
    assert model[1].mean.eq(3).all()
    assert model[1].var.eq(2).all()
    assert "could not be taken from noise (they are not finite)" in " ".join(prediction.report.warnings)


class Batch(NamedTuple):
    images: Tensor
    sizes: list[int]


HELD: dict[str, tuple[Any, Callable[[Any], Tensor]]] = {
    "dictionary": ({"image": torch.zeros(2, 3, 32, 32)}, lambda batch: batch["image"]),
    "on meta": ({"image": torch.zeros(2, 3, 32, 32, device="meta")}, lambda batch: batch["image"]),
    "named tuple": (Batch(torch.zeros(2, 3, 32, 32), [1]), lambda batch: batch.images),
    "list in a dictionary": ({"views": [torch.zeros(2, 3, 32, 32)]}, lambda batch: batch["views"][0]),
}


@pytest.mark.parametrize("kind", HELD)
def test_images_that_something_holds_become_the_same_noise(ghn: GHN, kind: str) -> None:
    held, images_of = HELD[kind]

    def statistics(example: Any, look: Callable[[Any], Tensor]) -> list[Tensor]:
        torch.manual_seed(0)
        model = Fn(lambda m, batch: m.a(look(batch)), a=deep(2))
        ghn_init.initialize(model, ghn, (example,))
        return [buffer for norm in norms(model) for buffer in (norm.running_mean, norm.running_var)]

    expected = statistics(torch.zeros(2, 3, 32, 32), lambda x: x)
    assert all(map(torch.equal, statistics(held, images_of), expected))


def test_lists_of_single_images_become_noise_like_images() -> None:
    (pictures,), _ = noise_like(inputs([torch.zeros(3, 64, 48), torch.zeros(1, 8, 8)]), torch.device("cpu"), 0)
    assert [tuple(picture.shape) for picture in pictures] == [(3, 64, 48), (1, 8, 8)]
    picture = pictures[0]
    assert picture.std() == pytest.approx(1, abs=0.01)
    alike = [float((picture * picture.roll(1, axis)).mean()) for axis in range(3)]
    assert alike[0] > 0.2, "colours go together"
    assert min(alike[1:]) > 0.5, "neighbours are alike"


def test_of_what_is_held_only_placeholders_and_images_become_noise() -> None:
    boxes, times = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0.5, 0.5])
    sample = {
        "boxes": boxes, "none": torch.zeros(0, 4), "times": times, "size": torch.tensor(3.0), "labels": torch.tensor([1]),
        "x": torch.zeros(4, 8), "sequence": torch.ones(2, 5, 4), "mask": torch.zeros(2, dtype=torch.long, device="meta"),
    }  # fmt: skip
    (found,), _ = noise_like(inputs(sample), torch.device("cpu"), 0)
    assert all(torch.equal(found[name], sample[name]) for name in ("boxes", "none", "times", "size", "labels"))
    assert all(found[name].shape == sample[name].shape and found[name].std() > 0.5 for name in ("x", "sequence"))
    assert torch.equal(found["mask"], torch.zeros(2, dtype=torch.long))


def test_a_number_of_examples_that_is_fixed_stays(ghn: GHN) -> None:
    model = Fn(lambda m, x: m.norm(m.a(x.view(2, 3, 8, 8))), a=conv(), norm=nn.BatchNorm2d(8))
    ghn_init.initialize(model, ghn, images())
    assert model.norm.running_mean.any()


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_noise_does_not_depend_on_the_default_precision(default: torch.dtype) -> None:
    def made() -> list[Tensor]:
        shapes = torch.zeros(2, 3, 16, 16, dtype=torch.float32), torch.zeros(4, 5, dtype=torch.float32)
        return list(noise_like(inputs(*shapes), torch.device("cpu"), 0)[0])

    expected = made()
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = made()
    finally:
        torch.set_default_dtype(before)
    assert all(map(torch.equal, found, expected))

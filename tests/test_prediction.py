"""Predictions: heads, strictness, running statistics, devices, all or nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ghn_init
from ghn_init import GHN
from zoo import Fn, conv, images, param


def classifier(classes: int) -> nn.Module:
    return nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


@pytest.mark.parametrize(("classes", "head", "predicted"), [
    (10, "auto", False), (7, "auto", False), (10, True, True), (7, True, True), (10, False, False), (7, False, False),
])  # fmt: skip
def test_head(ghn: GHN, classes: int, head: Any, predicted: bool) -> None:
    prediction = ghn_init.predict(classifier(classes), ghn, images(), head=head)
    assert ("3.weight" in prediction.tensors) == predicted
    assert ("3.bias" in prediction.tensors) == predicted
    if not predicted:
        assert "classification head" in prediction.kept["3.weight"]


def test_a_head_of_other_classes_names_both_numbers(ghn: GHN) -> None:
    reason = ghn_init.predict(classifier(7), ghn, images()).kept["3.weight"]
    assert reason == "classification head of 7 classes, the hypernetwork has 10 (head=True predicts it)"


def test_head_takes_nothing_else(ghn: GHN) -> None:
    with pytest.raises(ValueError, match=r"head is 'maybe'; expected True, False, 'auto' or a task: \w+ \(10\)\."):
        ghn_init.predict(classifier(7), ghn, images(), head="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"head is 0; expected True, False, 'auto' or a task: \w+ \(10\)\."):
        ghn_init.predict(classifier(7), ghn, images(), head=0)  # type: ignore[arg-type]


def test_running_statistics_are_those_of_noise_where_weights_were_predicted(ghn: GHN) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(8))
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8) + 5)
    untouched, reset = model[4].running_mean.clone(), nn.BatchNorm2d(8).running_mean
    ghn_init.initialize(model, ghn, images(), exclude="4.*")
    out = model[0](torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(model[1].running_mean, out.mean((0, 2, 3)), atol=0.1, rtol=0.1)
    torch.testing.assert_close(model[1].running_var, out.var((0, 2, 3)), atol=0.1, rtol=0.1)
    hidden = F.relu(F.batch_norm(out, None, None, model[1].weight, model[1].bias, training=True))
    torch.testing.assert_close(model[3].running_mean, hidden.mean((0, 2, 3)), atol=0.1, rtol=0.1)  # without parameters
    assert model[1].num_batches_tracked == model[3].num_batches_tracked == 0
    assert torch.equal(model[4].running_mean, untouched)  # its own are kept
    assert not torch.equal(untouched, reset)


def test_statistics_of_norms_that_are_no_batch_norms_are_those_of_noise_too(ghn: GHN) -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
            self.register_buffer("mean", torch.full((8,), 5.0))
            self.register_buffer("var", torch.full((8,), 5.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, self.training)

    instance = nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
    instance.running_mean.fill_(5)
    model = nn.Sequential(conv(3, 8), ByHand(), conv(8, 8), instance, conv(8, 8), ByHand(), conv(8, 4))
    prediction = ghn_init.predict(model, ghn, images(), exclude="5.*")
    assert "those of noise: 2 (" in prediction.report.noise
    prediction.apply_()
    assert float(instance.running_mean.max()) < 4
    assert float(model[1].mean.max()) < 4
    assert model[5].mean.eq(5).all()  # left out
    spectral = torch.nn.utils.spectral_norm(nn.Conv2d(8, 8, 1))  # its two vectors are no statistics
    assert ghn_init.predict(nn.Sequential(conv(3, 8), spectral), ghn, images()).report.noise == ""


def test_running_statistics_of_tied_and_parametrised_norms_are_set_too(ghn: GHN) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8), conv(8), nn.BatchNorm2d(8))
    model[3].weight, model[3].bias = model[1].weight, model[1].bias
    torch.nn.utils.parametrize.register_parametrization(model[5], "weight", nn.Identity())
    for k in (1, 3, 5):
        model[k].running_mean.fill_(5)
    ghn_init.initialize(model, ghn, images())
    assert all(float(model[k].running_mean.max()) < 4 for k in (1, 3, 5))


def test_predict_writes_nothing_and_apply_writes_everything(ghn: GHN) -> None:
    model = classifier(10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    prediction = ghn_init.predict(model, ghn, images(), head=True)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    prediction.apply_()
    assert all(not torch.equal(before[name], p) for name, p in model.named_parameters())


def test_a_changed_model_is_refused_and_nothing_is_written(ghn: GHN) -> None:
    model = classifier(10)
    prediction = ghn_init.predict(model, ghn, images(), head=True)
    model[3] = nn.Linear(9, 10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(
        ghn_init.errors.ShapeMismatchError, match=r"predicted \(10, 8\) for '3.weight' of shape \(10, 9\).*nothing was"
    ):
        prediction.apply_()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_a_model_without_storage_is_predicted_and_applied_later(ghn: GHN) -> None:
    with torch.device("meta"):
        model = classifier(10)
    prediction = ghn_init.predict(model, ghn, images().to("meta"))
    assert prediction.tensors["0.weight"].device.type == "cpu"
    with pytest.raises(ghn_init.errors.ShapeMismatchError, match=r"'0.weight' is on the meta device.*to_empty"):
        prediction.apply_()
    model.to_empty(device="cpu")
    prediction.apply_()
    assert torch.equal(model[0].weight, prediction.tensors["0.weight"])


def test_predicted_tensors_are_the_callers_own(ghn: GHN) -> None:
    prediction = ghn_init.predict(classifier(10), ghn, images())
    tensor = prediction.tensors["0.weight"]
    value = tensor.clone()
    tensor.mul_(2)
    assert torch.equal(prediction.tensors["0.weight"], value)


def test_parameters_that_cannot_be_written_are_refused_before_the_first_write(ghn: GHN) -> None:
    expanded = classifier(10)
    expanded[3].bias = nn.Parameter(torch.zeros(1).expand(10))
    with torch.inference_mode():
        inference = classifier(10)
    for model, words in ((expanded, "'3.bias' is an expanded view"), (inference, "'0.weight' was made in inference mode")):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        with pytest.raises(ghn_init.errors.ShapeMismatchError, match=words):
            ghn_init.initialize(model, ghn, images(), head=True)
        assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["the third parameter", "the noise"])
def test_what_is_stopped_in_the_middle_is_as_before(ghn: GHN, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.utils.parametrizations.spectral_norm(conv(8, 8)))
    model(torch.randn(4, 3, 8, 8) + 5)
    prediction = ghn_init.predict(model, ghn, images())
    fill_, written = type(prediction)._fill_, []

    def filled(self: Any, tensor: torch.Tensor, name: str) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        fill_(self, tensor, name)
        written.append(name)

    if where == "the noise":
        model[1].register_forward_hook(stopped)
    else:
        monkeypatch.setattr(type(prediction), "_fill_", filled)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        prediction.apply_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training


def test_parameters_without_elements_are_kept(ghn: GHN) -> None:
    with pytest.warns(UserWarning, match="Initializing zero-element tensors"):
        model = nn.Sequential(nn.Linear(8, 0), nn.Linear(0, 8))
    prediction = ghn_init.predict(model, ghn, torch.zeros(2, 8), head=True)
    assert set(prediction.tensors) == {"1.bias"}
    assert prediction.kept["0.weight"] == "it has no elements"
    prediction.apply_()


def test_values_beyond_half_precision_are_refused(ghn: GHN) -> None:
    prediction = ghn_init.predict(classifier(10).half(), ghn, images().half())
    prediction.cores["0.weight"].fill_(1e6)
    with pytest.raises(ghn_init.errors.ShapeMismatchError, match=r"'0.weight' exceed torch.float16"):
        prediction.apply_()


def test_damaged_hypernetworks_are_refused(ghn: GHN) -> None:
    damaged = copy.deepcopy(ghn)
    damaged.embed.weight.data.fill_(torch.nan)
    with pytest.raises(ghn_init.errors.CheckpointError, match=r"not finite for \['0.weight'"):
        ghn_init.predict(classifier(10), damaged, images())


def test_strict_names_what_is_kept_and_what_is_approximated(ghn: GHN) -> None:
    model = Fn(lambda m, x: m.b(m.a(x) * m.scale), a=conv(k=9), b=conv(8), scale=param(1))
    with pytest.raises(ghn_init.errors.StrictError, match=r"'scale': it scales a stream.*strict=False"):
        ghn_init.initialize(model, ghn, images(), strict=True)
    with pytest.raises(ghn_init.errors.StrictError, match=r"'a.weight': kernel 9×9 interpolated from 7×7"):
        ghn_init.initialize(model, ghn, images(), strict=True)


def test_strict_accepts_what_is_whole_and_a_head_left_out_on_request(ghn: GHN) -> None:
    ghn_init.initialize(classifier(10), ghn, images(), head=True, strict=True)
    ghn_init.initialize(classifier(7), ghn, images(), head=False, strict=True)
    with pytest.raises(ghn_init.errors.StrictError, match="classification head of 7 classes"):
        ghn_init.initialize(classifier(7), ghn, images(), strict=True)


def test_the_seed_decides_what_is_random_and_nothing_else_does(ghn: GHN) -> None:
    model = Fn(lambda m, x: m.fc(m.p + m.q + x), p=param(1, 10, 8), q=param(1, 10, 8), fc=nn.Linear(8, 8))
    x = torch.zeros(2, 10, 8)

    def values(seed: int) -> torch.Tensor:
        torch.rand(3)
        return ghn_init.predict(model, ghn, x, seed=seed).tensors["p"]

    assert torch.equal(values(0), values(0))
    assert not torch.equal(values(0)[:, 0], values(1)[:, 0])
    assert torch.equal(values(0)[:, 1:], values(1)[:, 1:])
    tensors = ghn_init.predict(model, ghn, x).tensors
    assert not torch.equal(tensors["p"][:, 0], tensors["q"][:, 0])


def test_a_hypernetwork_in_double_precision_predicts_in_single(ghn: GHN) -> None:
    double = copy.deepcopy(ghn).double()
    model = classifier(10)
    a, b = (ghn_init.predict(model, g, images()).tensors["0.weight"] for g in (ghn, double))
    torch.testing.assert_close(a, b)
    assert double.embed.weight.dtype == torch.float64


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(ghn: GHN) -> None:
    model = classifier(10)
    on_cpu = ghn_init.predict(model, ghn, images()).tensors
    on_cuda = ghn_init.predict(model.cuda(), ghn, images()).tensors
    for name in on_cuda:
        assert on_cuda[name].device.type == "cuda"
        torch.testing.assert_close(on_cuda[name].cpu(), on_cpu[name], rtol=1e-4, atol=1e-4)


def test_the_summary_is_logged_and_nothing_is_printed(
    ghn: GHN, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level("INFO", logger="ghn_init"):
        ghn_init.initialize(classifier(7), ghn, images())
    assert "Sequential: 2 of 4 parameters predicted" in caplog.text
    assert "parameters that keep their values: 2" in caplog.text
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("only", "exclude", "predicted"),
    [
        ("0.*", (), {"0.weight", "0.bias"}),
        (["*.weight"], (), {"0.weight", "3.weight"}),
        (None, "*.bias", {"0.weight", "3.weight"}),
        (["0.*", "3.*"], ["3.bias"], {"0.weight", "0.bias", "3.weight"}),
    ],
)
def test_patterns_leave_parameters_out(ghn: GHN, only: Any, exclude: Any, predicted: set[str]) -> None:
    model = classifier(10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    whole = ghn_init.predict(model, ghn, images(), head=True)
    prediction = ghn_init.predict(model, ghn, images(), head=True, only=only, exclude=exclude, strict=True)
    assert set(prediction.tensors) == predicted
    assert set(prediction.kept) == set(before) - predicted
    assert all(reason.startswith("left out by") for reason in prediction.kept.values())
    prediction.apply_()
    for name, parameter in model.state_dict().items():
        if name in predicted:
            torch.testing.assert_close(parameter, whole.tensors[name], check_stride=False, msg=name)
        else:
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("argument", ["only", "exclude"])
def test_a_pattern_that_matches_nothing_is_an_error(ghn: GHN, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument}='backbone.\*' matches no parameter; there are 0.weight, 0.bias"):
        ghn_init.initialize(classifier(10), ghn, images(), **{argument: "backbone.*"})


def test_left_out_norms_keep_their_running_statistics(ghn: GHN) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), conv(8), nn.BatchNorm2d(8))
    model(torch.randn(4, 3, 8, 8))
    before = model[1].running_mean.clone()
    ghn_init.initialize(model, ghn, images(), exclude="1.*")
    noted = model[3].running_mean.clone()
    assert torch.equal(model[1].running_mean, before)
    ghn_init.initialize(model, ghn, images(), exclude="1.*", seed=1)
    assert torch.equal(model[1].running_mean, before)
    assert not torch.equal(model[3].running_mean, noted)  # other noise


def test_one_linear_map_gets_one_prediction_however_it_is_written(ghn: GHN) -> None:
    forms = {
        "linear": (lambda m, x: m.head(F.linear(x, m.w)), (40, 24), False),
        "x @ w.T": (lambda m, x: m.head(x @ m.w.T), (40, 24), False),
        "einsum od": (lambda m, x: m.head(torch.einsum("bld,od->blo", x, m.w)), (40, 24), False),
        "x @ w": (lambda m, x: m.head(x @ m.w), (24, 40), True),
        "einsum do": (lambda m, x: m.head(torch.einsum("bld,do->blo", x, m.w)), (24, 40), True),
        "flat": (lambda m, x: m.head(x @ m.w.view(24, 40)), (960,), True),
    }
    weights = {}
    for name, (forward, shape, transposed) in forms.items():
        model = Fn(forward, w=param(*shape), head=nn.Linear(40, 10))
        predicted = ghn_init.predict(model, ghn, torch.zeros(2, 5, 24)).tensors["w"]
        weights[name] = predicted.view(24, 40).T if transposed else predicted
    for name, weight in weights.items():
        torch.testing.assert_close(weight, weights["linear"], check_stride=False, msg=name)


def test_parameters_in_the_same_memory_are_predicted_once(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 12, bias=False), nn.ReLU(), nn.Linear(12, 8, bias=False))
    model[2].weight = nn.Parameter(model[0].weight.data.T)
    prediction = ghn_init.predict(model, ghn, torch.zeros(2, 8), head=True)
    assert prediction.kept == {"2.weight": "it shares memory with '0.weight'"}
    flat = torch.zeros(72)
    views = nn.Linear(8, 8)
    views.weight, views.bias = nn.Parameter(flat[:64].view(8, 8)), nn.Parameter(flat[64:])
    assert ghn_init.predict(views, ghn, torch.zeros(2, 8), head=True).kept == {}


@pytest.mark.parametrize("context", [lambda: torch.autocast("cpu", torch.bfloat16), lambda: torch.device("meta")])
def test_ambient_modes_change_nothing(ghn: GHN, context: Any) -> None:
    model = Fn(lambda m, x: m.fc(m.p + x), p=param(1, 10, 8), fc=nn.Linear(8, 8))
    plain = ghn_init.predict(model, ghn, torch.zeros(2, 10, 8), head=True).tensors
    with context():
        ghn_init.initialize(model, ghn, torch.zeros(2, 10, 8, device="cpu"), head=True)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, plain[name])


def test_tied_parameters_match_patterns_by_each_of_their_names(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    kept = ghn_init.predict(model, ghn, torch.zeros(2, 8), head=True, exclude="2.weight").kept
    assert kept == {"0.weight": "left out by exclude"}


def test_asking_for_a_kept_tensor_says_why_it_is_kept(ghn: GHN) -> None:
    with pytest.raises(KeyError, match="'3.bias' keeps its value: left out by exclude"):
        ghn_init.predict(classifier(10), ghn, images(), exclude="3.bias").tensors["3.bias"]


def test_tensors_follow_the_parameters_dtype(ghn: GHN) -> None:
    model = classifier(10)
    prediction = ghn_init.predict(model, ghn, images())
    assert prediction.tensors["0.weight"].dtype == torch.float32
    model.half()
    assert prediction.tensors["0.weight"].dtype == torch.float16


@pytest.mark.parametrize("choose", [False, True])
@pytest.mark.parametrize("given", [images(), [images()], nn.Linear(2, 2)])
def test_inputs_in_the_hypernetworks_place_are_told_where_they_go(given: Any, choose: bool) -> None:
    data = [(images(), torch.tensor([0, 1]))] if choose else None
    with pytest.raises(TypeError, match=rf"ghn is of type {type(given).__name__}; .* example_inputs=, images .* data="):
        ghn_init.initialize(classifier(2), given, data=data, choose=choose)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, None])
def test_seeds_are_checked_first(ghn: GHN, seed: Any) -> None:
    with pytest.raises(ValueError, match=r"seed is .*; expected a whole number(, 0 at least| below 2\*\*63)\."):
        ghn_init.predict(classifier(10), ghn, images(), seed=seed)


@pytest.mark.parametrize("data", [None, [(images(), torch.tensor([0, 1]))]])
def test_a_seed_may_be_one_of_numpys(ghn: GHN, data: Any) -> None:
    torch.manual_seed(0)
    model = classifier(2)
    expected = ghn_init.initialize(copy.deepcopy(model), ghn, images(), data=data, seed=3)
    ghn_init.initialize(model, ghn, images(), data=data, seed=np.int64(3))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_forward_without_tensors_is_an_error() -> None:
    with pytest.raises(ghn_init.errors.TraceError, match="returned NoneType, in which there is no tensor"):
        ghn_init.trace(Fn(lambda m, x: None, a=conv()), images())

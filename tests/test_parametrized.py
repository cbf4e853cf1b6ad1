"""Weights that are made from other tensors, and what is kept beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import ghn_init
from ghn_init import GHN
from ghn_init.errors import ShapeMismatchError, StrictError
from ghn_init.prediction.parametrized import COMPUTED
from zoo import Fn, param, vectors


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm], ids=["new", "old"])
@pytest.mark.parametrize("layer", [lambda: nn.Linear(32, 32), lambda: nn.Conv2d(8, 8, 3)], ids=["linear", "convolution"])
def test_the_largest_singular_value_is_one_in_eval_mode(ghn: GHN, norm: Any, layer: Any) -> None:
    model = norm(layer()).eval()
    x = vectors(2, 32) if isinstance(model, nn.Linear) else vectors(2, 8, 5, 5)
    ghn_init.initialize(model, ghn, x, head=True)
    model(x)
    assert float(torch.linalg.matrix_norm(model.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)
    assert not any(module.training for module in model.modules())


def test_an_orthogonal_weight_is_the_predictions_nearest(ghn: GHN) -> None:
    model = parametrizations.orthogonal(nn.Linear(8, 8))
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    name = "parametrizations.weight.original"
    assert "right_inverse" in {row.name: row.conditioning for row in prediction.report.rows}[name]
    before = model.weight.clone()
    tensor = prediction.tensors[name]
    assert torch.equal(model.weight, before)  # a look at the tensor changes nothing
    prediction.apply_()
    assert torch.equal(model.parametrizations.weight.original, tensor)
    torch.testing.assert_close(model.weight @ model.weight.T, torch.eye(8), atol=1e-5, rtol=0)
    plain = ghn_init.predict(nn.Linear(8, 8), ghn, vectors(2, 8), head=True).tensors["weight"]
    assert F.cosine_similarity(model.weight.flatten(), plain.flatten(), dim=0) > F.cosine_similarity(
        before.flatten(), plain.flatten(), dim=0
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_recurrent_weight_that_a_hook_computes_is_no_cache(ghn: GHN) -> None:
    model = nn.utils.spectral_norm(nn.LSTM(8, 8, batch_first=True), "weight_hh_l0")
    prediction = ghn_init.predict(model, ghn, vectors(2, 5, 8), head=True)
    assert prediction.report.warnings == ()
    prediction.apply_()
    assert model._flat_weights[1] is model.weight_hh_l0
    assert float(torch.linalg.matrix_norm(model.weight_hh_l0.detach(), 2)) == pytest.approx(1, abs=0.05)


def test_predicting_leaves_singular_vectors_as_they_are(ghn: GHN) -> None:
    model = parametrizations.spectral_norm(nn.Linear(8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    assert len(dict(prediction.tensors)) == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2

    def right_inverse(self, x: Tensor) -> Tensor:
        return 2 * x


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.125 * x


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.exp()


def test_the_weight_is_the_prediction_where_its_parametrization_allows_it(ghn: GHN) -> None:
    model = nn.Linear(8, 8)
    parametrize.register_parametrization(model, "weight", Halved())
    plain = ghn_init.predict(nn.Linear(8, 8), ghn, vectors(2, 8), head=True).tensors["weight"]
    ghn_init.initialize(model, ghn, vectors(2, 8), head=True)
    torch.testing.assert_close(model.weight, plain)


@pytest.mark.parametrize("parts", [[Scaled], [Scaled, Halved], [Halved, Scaled]])
def test_a_constant_of_a_parametrization_without_an_inverse_is_divided_out(ghn: GHN, parts: list[Any]) -> None:
    model = nn.Linear(8, 8)
    for part in parts:
        parametrize.register_parametrization(model, "weight", part())
    plain = ghn_init.predict(nn.Linear(8, 8), ghn, vectors(2, 8), head=True).tensors["weight"]
    ghn_init.initialize(model, ghn, vectors(2, 8), head=True)
    torch.testing.assert_close(model.weight, plain)


class Gained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(3.0))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / self.gain


def test_parameters_of_a_parametrization_are_not_unused(ghn: GHN, capsys: pytest.CaptureFixture[str]) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        print("training" if m.training else "evaluating")
        return m.b(m.a(x))

    model = Fn(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 3))
    parametrize.register_parametrization(model.a, "weight", Gained())
    prediction = ghn_init.predict(model, ghn, vectors(2, 8))
    assert capsys.readouterr().out.split() == ["training"]
    reason = "it reparametrises 'a.parametrizations.weight.original'"
    assert prediction.kept["a.parametrizations.weight.0.gain"] == reason
    prediction.apply_()
    plain = ghn_init.predict(Fn(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 3)), ghn, vectors(2, 8)).tensors["a.weight"]
    torch.testing.assert_close(model.a.weight, plain)


def test_parameters_of_a_parametrization_that_did_not_run_are_unused() -> None:
    model = Fn(lambda m, x: m.b(x), a=nn.Linear(8, 8), b=nn.Linear(8, 3))
    parametrize.register_parametrization(model.a, "weight", Gained())
    assert (
        ghn_init.trace(model, vectors(2, 8))
        .kept["a.parametrizations.weight.0.gain"]
        .endswith("does not use it with these inputs")
    )


def test_a_parametrization_without_an_inverse_is_noted_and_strict_refuses_it(ghn: GHN) -> None:
    model = nn.Linear(8, 8)
    parametrize.register_parametrization(model, "weight", Positive())
    notes = {row.name: row.note for row in ghn_init.predict(model, ghn, vectors(2, 8), head=True).report.rows}
    assert notes["parametrizations.weight.original"].startswith("its parametrization has no right_inverse")
    with pytest.raises(StrictError, match="'parametrizations.weight.original': its parametrization has no right_inverse"):
        ghn_init.predict(model, ghn, vectors(2, 8), head=True, strict=True)


class Softplus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)

    def right_inverse(self, x: Tensor) -> Tensor:
        return x.expm1().log()  # NaN where x is negative


class Strict(Positive):
    def right_inverse(self, x: Tensor) -> Tensor:
        if (x <= 0).any():
            raise ValueError("not positive")
        return x.log()


@pytest.mark.parametrize("part", [Softplus, Strict])
def test_an_inverse_that_does_not_take_the_prediction_is_left_out(ghn: GHN, part: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    with torch.no_grad():
        model[2].weight.abs_()
    parametrize.register_parametrization(model[2], "weight", part())
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    name = "2.parametrizations.weight.original"
    assert "right_inverse does not take" in {row.name: row.note for row in prediction.report.rows}[name]
    prediction.apply_()
    assert torch.equal(model[2].parametrizations.weight.original, prediction.tensors[name])
    assert model(vectors(2, 8)).isfinite().all()
    with pytest.raises(StrictError, match="does not take"):
        ghn_init.predict(model, ghn, vectors(2, 8), head=True, strict=True)


def test_an_inverse_that_fails_when_the_model_gets_storage_leaves_all_as_it_was(ghn: GHN) -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        parametrize.register_parametrization(model[2], "weight", Softplus())
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.25)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ShapeMismatchError, match=r"'2.parametrizations.weight.original' has no finite inverse"):
        prediction.apply_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def cached(m: Any, x: Tensor) -> Tensor:
    if m.cached is None:
        m.cached = 2 * m.w
    return F.linear(x, m.cached)


def test_a_cache_that_stands_for_a_weight_is_named(ghn: GHN) -> None:
    model = Fn(cached, w=param(8, 8), cached=None)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}
    with torch.no_grad():
        model(vectors(2, 8))
    assert "'cached', stored beside it, may stand for it" in ghn_init.predict(model, ghn, vectors(2, 8)).kept["w"]


def test_a_cache_in_a_dictionary_is_named(ghn: GHN) -> None:
    w = param(8, 8)
    model = Fn(lambda m, x: F.linear(x, m.held.get("w", m.w)), w=w, held={"w": 2 * w.detach()})
    assert "'held['w']', stored beside it, may stand for it" in ghn_init.predict(model, ghn, vectors(2, 8)).kept["w"]
    model.held = {"folded": 2 * w.detach()}
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).report.warnings == (
        "'held['folded']' seems to be computed from 'w', and still is what the former values gave",
    )


@pytest.mark.parametrize("function", [lambda w: torch.linalg.qr(w)[0], torch.tanh, torch.tril])
def test_a_weight_that_the_model_computes_is_said_to_be_none(ghn: GHN, function: Any) -> None:
    model = Fn(lambda m, x: F.linear(F.linear(x, m.v), function(m.w)), w=param(8, 8), v=param(8, 8))
    rows = {row.name: row.conditioning for row in ghn_init.predict(model, ghn, vectors(2, 8), head=True).report.rows}
    assert (COMPUTED in rows["w"], COMPUTED in rows["v"]) == (function is not torch.tril, False)


def test_what_was_computed_from_a_weight_that_is_predicted_gets_a_warning(ghn: GHN) -> None:
    w = param(8, 8)
    model = Fn(lambda m, x: F.linear(x, m.w) if m.training else F.linear(x, m.folded), w=w, folded=nn.Buffer(3 * w.detach()))
    report = ghn_init.predict(model, ghn, vectors(2, 8), head=True).report
    assert report.warnings == ("'folded' seems to be computed from 'w', and still is what the former values gave",)


def test_a_merged_adapter_gets_a_reason_and_a_warning(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.fc(x) if m.merged else m.fc(x) + x @ m.down @ m.up

    model = Fn(forward, fc=nn.Linear(8, 8), down=param(8, 2), up=param(2, 8), merged=True)
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    assert "its module says that it is merged" in prediction.kept["up"]
    assert any("holds a merged adapter: unmerge it first" in warning for warning in prediction.report.warnings)


def test_pruned_weights_are_made_anew_without_a_warning(ghn: GHN) -> None:
    model = prune.l1_unstructured(nn.Linear(8, 8), "weight", 0.5)
    prediction = ghn_init.predict(model, ghn, vectors(2, 8), head=True)
    assert prediction.report.warnings == ()
    prediction.apply_()
    assert torch.equal(model.weight, model.weight_orig * model.weight_mask)

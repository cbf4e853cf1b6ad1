"""Biases that start as something on purpose are kept, and those of usual inits are predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN
from ghn_init.prediction.biases import FAR, ONE_NUMBER, biases
from ghn_init.tracing.rules.reasons import COMPUTED_SHIFT, SHIFT
from zoo import Fn, conv, images, param, vectors


def gated() -> nn.Module:
    """A highway layer, whose gate starts almost closed."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x, gate = m.stem(x), torch.sigmoid(m.gate(m.stem(x)))
        return m.head(gate * F.relu(m.body(x)) + (1 - gate) * x)

    model = Fn(forward, stem=nn.Linear(8, 16), gate=nn.Linear(16, 16), body=nn.Linear(16, 16), head=nn.Linear(16, 10))
    nn.init.constant_(model.gate.bias, -2.0)
    return model


def test_a_gate_that_starts_closed_stays_so(ghn: GHN) -> None:
    assert ghn_init.predict(gated(), ghn, vectors(2, 8), head=True).kept == {"gate.bias": ONE_NUMBER}
    assert ghn_init.predict(gated(), ghn, vectors(2, 8), head=True, overwrite="gate.bias").kept == {}


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("inputs", [1, 8])
def test_the_bias_of_a_forget_gate_is_kept(ghn: GHN, inputs: int, both: bool) -> None:
    model = Fn(lambda m, x: m.head(m.lstm(x)[0][:, -1]), lstm=nn.LSTM(inputs, 16, batch_first=True), head=nn.Linear(16, 10))
    with torch.no_grad():
        model.lstm.bias_hh_l0[16:32] = 1
        if both:
            model.lstm.bias_ih_l0[16:32] = 1
    kept = dict.fromkeys(["lstm.bias_hh_l0", *["lstm.bias_ih_l0"] * both], ONE_NUMBER)
    assert ghn_init.predict(model, ghn, torch.zeros(2, 5, inputs), head=True).kept == kept


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_the_prior_of_a_detector_is_kept(ghn: GHN, classes: int) -> None:
    model = nn.Sequential(conv(), nn.ReLU(), conv(8, classes))
    nn.init.normal_(model[2].weight, std=0.01)
    nn.init.constant_(model[2].bias, math.log(0.01 / 0.99))
    assert ghn_init.predict(model, ghn, images()).kept == {"2.bias": FAR if classes < 4 else ONE_NUMBER}


@pytest.mark.parametrize("rank", [1, 4])
def test_time_steps_under_a_softplus_are_kept(ghn: GHN, rank: int) -> None:
    model = Fn(lambda m, x: m.fc(F.softplus(m.dt(m.a(x)))), a=nn.Linear(8, rank), dt=nn.Linear(rank, 64), fc=nn.Linear(64, 10))
    steps = torch.exp(torch.rand(64) * math.log(100) + math.log(1e-3))
    nn.init.uniform_(model.dt.weight, -(rank**-0.5), rank**-0.5)
    model.dt.bias.data = steps + torch.log(-torch.expm1(-steps))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"dt.bias": FAR}


def test_shares_of_one_number_are_those_that_are_not_zero(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 10))
    with torch.no_grad():
        model[1].bias.zero_()[:3] = 1  # fewer than a quarter
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


@pytest.mark.parametrize("number", [0.02, 0.1])
def test_a_small_number_that_keeps_units_alive_means_nothing(ghn: GHN, number: float) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    nn.init.constant_(model[2].bias, number)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


@pytest.mark.parametrize("number", [1.0, -3.0])
def test_a_number_that_all_layers_have_is_a_style_and_not_a_meaning(ghn: GHN, number: float) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    nn.init.constant_(model[2].bias, number)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"2.bias": ONE_NUMBER}
    nn.init.constant_(model[0].bias, number)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


def test_the_only_biases_that_there_are_may_all_mean_something(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 10))
    nn.init.constant_(model[2].bias, -3.0)
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"2.bias": ONE_NUMBER}


def test_a_head_that_has_a_prior_is_a_head_like_others(ghn: GHN) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 10))
    nn.init.constant_(model[1].bias, -math.log(10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {}


INITS: dict[str, Callable[[Tensor], Any]] = {
    "zero": nn.init.zeros_,
    "next to it": lambda b: nn.init.normal_(b, std=1e-6),
    "BERT's": lambda b: nn.init.normal_(b, std=0.02),
    "of one": lambda b: nn.init.normal_(b, std=1.0),
}


@pytest.mark.parametrize("name", ["PyTorch's", *INITS])
def test_usual_inits_mean_nothing(ghn: GHN, name: str) -> None:
    layers = [nn.Linear(i, o) for i, o in ((1, 1), (1, 2), (2, 3), (3, 4), (4, 64), (64, 256), (256, 10))]
    model = nn.Sequential(*layers)
    graph = ghn_init.trace(model, vectors(2, 1))
    for seed in range(50):
        torch.manual_seed(seed)
        for layer in layers:
            layer.reset_parameters()
            INITS.get(name, lambda b: b)(layer.bias.data)
        assert biases(graph, dict(model.named_parameters())) == {}


def test_a_predicted_model_is_predicted_again(ghn: GHN) -> None:
    model = nn.Sequential(conv(), nn.Conv2d(8, 32, 1), nn.ReLU(), nn.Conv2d(32, 8, 1), nn.Flatten(), nn.Linear(512, 10))
    ghn_init.initialize(model, ghn_init.load(ghn_init.DEFAULT), images(), condition="none")
    assert ghn_init.predict(model, ghn, images(), head=True).kept == {}


COMPUTED = {
    "added": lambda m, x: m.head(F.linear(x, m.w) - m.b.exp()),
    "of a layer": lambda m, x: m.head(F.linear(x, m.w, -m.b.exp())),
    "of heads": lambda m, x: m.head((F.linear(x, m.w).view(-1, 2, 4) - m.b.view(2, 4).exp()).flatten(1)),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_what_a_bias_is_computed_from_is_kept(ghn: GHN, name: str) -> None:
    model = Fn(COMPUTED[name], w=param(8, 8), b=param(8), head=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"b": COMPUTED_SHIFT}


def test_a_computed_bias_of_a_norm_is_kept(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        return m.head((x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True) * m.w + m.b.exp())

    model = Fn(forward, a=nn.Linear(8, 8), w=param(8), b=param(8), head=nn.Linear(8, 10))
    assert ghn_init.predict(model, ghn, vectors(2, 8), head=True).kept == {"b": SHIFT}

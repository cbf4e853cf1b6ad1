"""Parallel layers that are alike in the graph: told apart for fine-tuning, said in any case, and which layers are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN
from zoo import SEQUENCE, Fn, conv, images

LINE = "parallel layers that the graph does not tell apart: "


def branches() -> nn.Module:
    """Two branches that are averaged."""
    return Fn(
        lambda m, x: (m.a(x) + m.b(x)) / 2,
        **{name: nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), conv(8)) for name in "ab"},
    )


def variational() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.e(x).relu()
        mu, logvar = m.mu(h), m.logvar(h)
        return m.d(mu + torch.randn_like(mu) * (0.5 * logvar).exp())

    widths = {"e": (8, 6), "mu": (6, 4), "logvar": (6, 4), "d": (4, 8)}
    return Fn(forward, **{name: nn.Linear(*sizes) for name, sizes in widths.items()})


TWINS: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, str]]] = {
    "branches": (branches, images(), {"b.0.weight": "a.0.weight", "b.3.weight": "a.3.weight"}),
    "mu and logvar": (variational, SEQUENCE, {"logvar.weight": "mu.weight"}),
    "two tables": (
        lambda: Fn(lambda m, i: m.a(i) + m.b(i), a=nn.Embedding(50, 8), b=nn.Embedding(50, 8)),
        torch.zeros(2, 5).long(),
        {"b.weight": "a.weight"},
    ),
}


def lines(prediction: ghn_init.Prediction) -> list[str]:
    return [text for text in prediction.report.warnings if text.startswith(LINE)]


@pytest.mark.parametrize("name", TWINS)
def test_twins_are_told_apart_by_noise_that_the_report_tells(ghn: GHN, name: str) -> None:
    build, inputs, expected = TWINS[name]
    prediction = ghn_init.predict(build(), ghn, inputs)
    tensors = dict(prediction.tensors)
    for twin, first in expected.items():
        difference = (tensors[twin] - tensors[first]).norm() / tensors[first].norm()
        assert difference == pytest.approx(0.1, rel=0.3)
    twin, first = next(iter(expected.items()))
    assert lines(prediction) == [f"{LINE}{len(expected)} ('{twin}' is like '{first}'); 10% of noise does"]
    noted = {row.name for row in prediction.report.rows if "10% of noise added" in row.conditioning}
    assert noted == set(expected)


@pytest.mark.parametrize("name", TWINS)
def test_published_values_stay_and_the_report_says_that_they_are_alike(ghn: GHN, name: str) -> None:
    build, inputs, expected = TWINS[name]
    plain, noisy = ghn_init.predict(build(), ghn, inputs, condition="none"), ghn_init.predict(build(), ghn, inputs)
    for key, tensor in plain.tensors.items():
        torch.testing.assert_close(tensor, plain.tensors[expected.get(key, key)])
        assert torch.equal(tensor, noisy.tensors[key]) == (key not in expected)
    (line,) = lines(plain)
    assert line.endswith("they start the same, and stay so where the model treats them alike (condition='balanced' adds noise)")


def test_the_noise_is_that_of_name_and_seed(ghn: GHN) -> None:
    def weight(seed: int) -> Tensor:
        return ghn_init.initialize(variational(), ghn, SEQUENCE, seed=seed).logvar.weight.detach()

    assert torch.equal(weight(0), weight(0))
    assert not torch.equal(weight(0), weight(1))


def test_conditioning_by_noise_tells_twins_apart_already(ghn: GHN) -> None:
    for condition, said in {"noise": 0, "orthogonal+noise": 0, "orthogonal": 1}.items():
        assert len(lines(ghn_init.predict(branches(), ghn, images(), condition=condition))) == said


def test_copies_stay_copies(ghn: GHN) -> None:
    model = branches()
    model.teacher = branches()
    model.teacher.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("teacher")})
    model.teacher.requires_grad_(False)
    ghn_init.initialize(model, ghn, images())
    for name, parameter in model.teacher.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name))
    assert not torch.allclose(model.a[0].weight, model.b[0].weight, rtol=1e-3)


def attention(m: Any, x: Tensor) -> Tensor:
    return m.o(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x)))


NONE: dict[str, tuple[nn.Module, Tensor]] = {
    "one after the other": (nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(8, 8), nn.ReLU()))), SEQUENCE),
    "queries, keys, values": (Fn(attention, **{name: nn.Linear(8, 8) for name in "qkvo"}), SEQUENCE),
    "a gate": (Fn(lambda m, x: m.a(x) * m.b(x).sigmoid(), a=nn.Linear(8, 8), b=nn.Linear(8, 8)), SEQUENCE),
    "a residual": (Fn(lambda m, x: m.c(x + m.b(x)), b=nn.Linear(8, 8), c=nn.Linear(8, 8)), SEQUENCE),
    "other sizes": (Fn(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv(k=1)), images()),
    "one that is kept": (Fn(lambda m, x: m.a(x) + m.b(x), a=conv(), b=conv().requires_grad_(False)), images()),
}


@pytest.mark.parametrize("name", NONE)
def test_these_are_no_twins(ghn: GHN, name: str) -> None:
    model, inputs = NONE[name]
    assert lines(ghn_init.predict(model, ghn, inputs)) == []

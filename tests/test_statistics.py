"""Statistics of predicted layers, beside the model's own."""

from __future__ import annotations

import json
from math import isnan

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init.prediction.statistics import effective_rank
from zoo import conv, images


@pytest.mark.parametrize(
    ("tensor", "rank"),
    [
        (torch.eye(5), 5.0),
        (torch.ones(4, 6), 1.0),
        (torch.zeros(3, 3), 0.0),
        (torch.eye(3).repeat(4, 2), 3.0),
        (torch.diag(torch.tensor([3.0, 1.0])), 4 / 27**0.25),  # exp of the entropy of (¾, ¼)
    ],
)
def test_effective_rank(tensor: torch.Tensor, rank: float) -> None:
    assert effective_rank(tensor) == pytest.approx(rank, rel=1e-6)
    assert effective_rank(tensor.T) == pytest.approx(rank, rel=1e-6)


def test_copies_add_nothing_to_the_rank_but_rounding() -> None:
    tensor = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert effective_rank(tensor.repeat(50, 30)) == pytest.approx(effective_rank(tensor), rel=1e-9)


def test_effective_rank_is_that_of_singular_values() -> None:
    tensor = torch.randn(7, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    shares = torch.linalg.svdvals(tensor.flatten(1).double())
    shares = shares / shares.sum()
    assert effective_rank(tensor) == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-6)


def test_before_and_after(ghn: ghn_init.GHN) -> None:
    model = nn.Sequential(conv(3, 40), nn.BatchNorm2d(40))
    prediction = ghn_init.predict(model, ghn, images())
    found = {layer.name: layer for layer in prediction.layer_statistics()}
    assert list(found) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    layer, own, after = found["0.weight"], model[0].weight.detach(), prediction.tensors["0.weight"]
    assert (layer.norm_before, layer.norm) == pytest.approx((float(own.norm()), float(after.norm())))
    assert layer.scale == pytest.approx(float(after.square().mean().sqrt()) * 27**0.5)
    assert layer.copies == 2.5
    assert layer.full_rank == 27
    assert layer.rank is not None
    assert layer.rank_before is not None
    assert layer.rank <= 16  # copies add nothing
    assert layer.rank_before > 20
    assert (found["1.weight"].scale, found["1.weight"].rank, found["1.weight"].full_rank) == (None, None, None)


def test_models_without_values_have_only_what_is_predicted(ghn: ghn_init.GHN) -> None:
    with torch.device("meta"):
        model = nn.Sequential(conv())
    layer = ghn_init.predict(model, ghn, images()).layer_statistics()[0]
    assert (layer.norm_before, layer.scale_before, layer.rank_before) == (None, None, None)
    assert layer.rank is not None


def test_it_is_a_table_and_data(ghn: ghn_init.GHN) -> None:
    statistics = ghn_init.predict(nn.Sequential(conv()), ghn, images()).layer_statistics()
    titles, weight, bias = repr(statistics).splitlines()
    assert titles.split() == ["parameter", "norm", "→", "scale", "→", "copies", "rank", "→", "of"]
    assert weight.split()[0] == "0.weight"
    assert bias.split()[0] == "0.bias"
    assert len(weight) == len(titles)
    assert [row["name"] for row in json.loads(json.dumps(statistics.to_dict()))] == ["0.weight", "0.bias"]
    assert statistics._repr_html_().count("<tr>") == 3


def test_values_that_are_not_finite_have_no_rank(ghn: ghn_init.GHN) -> None:
    model = nn.Linear(3, 4)
    nn.init.constant_(model.weight, torch.nan)
    (layer, *_) = ghn_init.predict(model, ghn, torch.zeros(2, 3), head=True).layer_statistics()
    assert isnan(layer.rank_before)
    assert layer.rank > 0

"""What `explain` tells of a prediction."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ghn_init
from ghn_init import GHN, GHNConfig, deepnets
from ghn_init.errors import UnsupportedModelError
from ghn_init.viz.filters import tiles
from ghn_init.viz.inline import image


def network() -> nn.Module:
    layers = [nn.Conv2d(3, 96, 3), nn.BatchNorm2d(96), nn.ReLU(), nn.Conv2d(96, 32, 3), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def test_a_weight_is_explained(ghn: GHN) -> None:
    model = network()
    prediction = ghn_init.predict(model, ghn, torch.zeros(2, 3, 16, 16), condition="none")
    told = ghn_init.explain(prediction, "3.weight")
    assert (told.primitive, told.shape, tuple(told.core.shape)) == ("conv", (32, 96, 3, 3), (16, 16, 3, 3))
    assert prediction.graph.nodes[told.node].weight == "3.weight"
    assert told.copies == 12
    torch.testing.assert_close(prediction.tensors["3.weight"][16:, :16], told.core)
    assert told.scale == pytest.approx(prediction.tensors["3.weight"].square().mean().sqrt().item())
    assert told.default_scale == pytest.approx(model[3].weight.square().mean().sqrt().item())
    assert told.he_scale == pytest.approx((2 / (96 * 9)) ** 0.5)
    before = [neighbour for neighbour in told.neighbours if neighbour.hops < 0]
    after = [neighbour for neighbour in told.neighbours if neighbour.hops > 0]
    assert {neighbour.parameter for neighbour in before if neighbour.parameter} == {"0.weight", "0.bias", "1.weight"}
    assert "4.weight" in {neighbour.parameter for neighbour in after}
    for side in (before, after):
        shares = [neighbour.share for neighbour in side]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
    assert repr(told).startswith("3.weight: node ")
    assert json.loads(json.dumps(told.to_dict()))["core"] == [16, 16, 3, 3]


def test_what_cannot_be_explained_says_why(ghn: GHN) -> None:
    prediction = ghn_init.predict(network(), ghn, torch.zeros(2, 3, 16, 16), head=False)
    with pytest.raises(KeyError, match=r"'8.weight' keeps its value: "):
        ghn_init.explain(prediction, "8.weight")
    with pytest.raises(KeyError, match=r"the model has no parameter '3.weigth'; did you mean '3.weight'\?"):
        ghn_init.explain(prediction, "3.weigth")
    attention = GHN(GHNConfig({"images": 3}, hid=8, layers=1, heads=1, max_shape=(8, 8, 3, 3)))
    with pytest.raises(UnsupportedModelError, match="a GHN-3 of 1 layers has no messages to show"):
        ghn_init.explain(ghn_init.predict(network(), attention, torch.zeros(2, 3, 16, 16)), "3.weight")


def test_an_ablation_listens_to_nobody() -> None:
    mlp = GHN(GHNConfig.mlp({"images": 3}, hid=8, max_shape=(8, 8, 3, 3)))
    prediction = ghn_init.predict(network(), mlp, torch.zeros(2, 3, 16, 16))
    assert ghn_init.explain(prediction, "0.bias").neighbours == ()
    assert ghn_init.explain(prediction, "0.bias").he_scale is None


def test_the_nearest_nodes_of_other_graphs_are_told(ghn: GHN) -> None:
    x = torch.zeros(2, 3, 16, 16)
    prediction = ghn_init.predict(network(), ghn, x)
    other = nn.Sequential(nn.Conv2d(3, 8, 1), nn.LayerNorm([8, 16, 16]), nn.Flatten(), nn.Linear(8 * 256, 10))
    graphs = {"other": ghn_init.trace(other, x), "the same": ghn_init.trace(network(), x)}
    told = ghn_init.explain(prediction, "3.weight", graphs, count=4)
    first, *rest = told.nearest
    assert (first.graph, first.parameter, first.shape, first.primitive) == ("the same", "3.weight", (32, 96, 3, 3), "conv")
    assert first.distance == pytest.approx(0, abs=1e-6)
    assert len(rest) == 3
    distances = [near.distance for near in told.nearest]
    assert distances == sorted(distances)
    assert distances[1] > 1e-3
    (own,), (theirs,) = ghn.embed_nodes([prediction.graph]), ghn.embed_nodes([graphs[rest[0].graph]])
    expected = (theirs[rest[0].node] - own[told.node]).norm() / own[told.node].norm()
    assert rest[0].distance == pytest.approx(expected.item(), rel=1e-5)
    assert "the same: 3.weight" in repr(told)
    assert json.loads(json.dumps(told.to_dict()))["nearest"][0]["graph"] == "the same"
    assert ghn_init.explain(prediction, "3.weight", {}).nearest == ()


def test_by_default_networks_of_meta_training_are_looked_through(ghn: GHN) -> None:
    x = torch.zeros(2, 3, 32, 32)
    prediction = ghn_init.predict(network(), ghn, x)
    told = ghn_init.explain(prediction, "3.weight", count=40)
    assert len({near.graph for near in told.nearest}) > 1
    graphs = {f"train {index}": ghn_init.trace(deepnets.network("train", index), x) for index in range(16)}
    expected = ghn_init.explain(prediction, "3.weight", graphs, 40).nearest
    assert [(near.graph, near.node) for near in told.nearest] == [(near.graph, near.node) for near in expected]


@pytest.mark.parametrize(("verb", "what"), [(ghn_init.explain, "weight"), (ghn_init.expect, torch.zeros(2, 3))])
def test_a_model_is_no_prediction(verb: Callable[..., Any], what: Any) -> None:
    with pytest.raises(TypeError, match=rf"{verb.__name__} takes a prediction, not a Linear; pass ghn_init.predict\(model\)"):
        verb(nn.Linear(3, 3), what)


def test_notebooks_show_filters_beside_the_models_own(ghn: GHN) -> None:
    prediction = ghn_init.predict(network(), ghn, torch.zeros(2, 3, 16, 16))
    told = ghn_init.explain(prediction, "3.weight", {})
    page = told._repr_html_()
    assert page.count("data:image/png;base64,") == 2
    assert "3.weight: node" in page
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall('base64,([^"]+)', page)]
    for picture, weight in zip(pictures, (told.core, prediction.model.get_parameter("3.weight")), strict=True):
        expected = (tiles(weight.detach()) * 255).round().to(torch.uint8)
        assert torch.equal(torch.from_numpy(np.array(picture)), expected)
    assert ghn_init.explain(prediction, "3.bias", {})._repr_html_().count("<img") == 0


def test_filters_of_images_are_in_colour() -> None:
    data = re.findall('base64,([^"]+)', image(torch.tensor([[[1.0, 0.5, 0.0]], [[0.0, 0.0, 1.0]]]), "<one>"))
    picture = Image.open(io.BytesIO(base64.b64decode(data[0])))
    assert np.array(picture).tolist() == [[[255, 128, 0]], [[0, 0, 255]]]


def test_what_is_written_already_is_not_shown_as_the_models_own(ghn: GHN) -> None:
    prediction = ghn_init.predict(network(), ghn, torch.zeros(2, 3, 16, 16))
    assert ghn_init.explain(prediction, "3.weight", {}).own is not None
    prediction.apply_()
    assert ghn_init.explain(prediction, "3.weight", {}).own is None

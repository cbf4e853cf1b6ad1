"""Scales before fine-tuning: which parameters get one, how large it is, and when."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import ghn_init
from ghn_init import GHN
from ghn_init.prediction.balance import ADDS_UP, FEATURES, LOGITS, NO_SCALE
from zoo import Fn, conv, images


def ending(*layers: nn.Module, width: int = 40) -> nn.Module:
    return nn.Sequential(conv(3, 40), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def residual() -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.norm1(m.conv1(m.norm0(m.conv0(x))))
        x = F.relu(x + m.norm2(m.conv2(x)))
        return m.head(x.mean((2, 3)))

    norms = {f"norm{k}": nn.BatchNorm2d(16) for k in range(3)}
    convs = {f"conv{k}": nn.Conv2d(16 if k else 3, 16, 3, padding=1) for k in range(3)}
    return Fn(forward, **convs, **norms, head=nn.Linear(16, 10))


def factors(model: nn.Module, ghn: GHN | None, **options: Any) -> dict[str, float]:
    """What `balanced` multiplies each parameter by, where that is not one."""
    none = ghn_init.predict(model, ghn, images(), condition="none", **options).tensors
    some = ghn_init.predict(model, ghn, images(), condition="balanced", **options).tensors
    found = {}
    for name, tensor in none.items():
        if not torch.equal(tensor, some[name]):
            found[name] = float(some[name].norm() / tensor.norm())
            torch.testing.assert_close(some[name], tensor * found[name])
    return found


def test_the_norms_that_a_head_reads_through_sums_share_one_factor(ghn: GHN) -> None:
    model = residual()
    found = factors(model, ghn)
    assert set(found) == {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}
    tensors = ghn_init.predict(model, ghn, images()).tensors
    assert sum(float(tensors[name].square().mean()) for name in found) == pytest.approx(FEATURES["bn"])
    assert max(found.values()) == pytest.approx(min(found.values()))


def test_large_weights_of_a_head_make_the_features_smaller(ghn: GHN) -> None:
    model = residual()
    with torch.no_grad():
        model.head.weight.copy_(torch.ones(10, 16))
    tensors = ghn_init.predict(model, ghn, images()).tensors
    norms = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
    moment = sum(float(tensors[name].square().mean()) for name in norms)
    assert moment == pytest.approx(LOGITS * math.log(10) / 16)
    with torch.device("meta"):  # no values to look at
        blank = residual()
    tensors = ghn_init.predict(blank, ghn, images()).tensors
    assert sum(float(tensors[name].square().mean()) for name in norms) == pytest.approx(FEATURES["bn"])


def test_a_head_that_is_fitted_counts_for_nothing() -> None:
    data = [(torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 10)]
    models = [ghn_init.initialize(residual(), data=data) for _ in range(2)]
    with torch.no_grad():
        models[0].head.weight.mul_(100)
    again = ghn_init.initialize(models[0], data=data)
    assert torch.equal(again.norm2.weight, models[1].norm2.weight)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_first_loss_is_sane_where_a_head_begins_with_large_weights(classes: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model("efficientnet_lite0", num_classes=classes).train()  # 1,280 features, weights of ±1 / √classes
    x, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % classes
    with torch.no_grad():
        own = float(F.cross_entropy(model(x), labels))
        predicted = float(F.cross_entropy(ghn_init.initialize(model, example_inputs=x)(x), labels))
    assert own > 1.5 * math.log(classes) > 1.2 * predicted


def test_tiled_weights_between_the_last_norm_and_the_head_are_divided_by_the_root_of_their_copies(ghn: GHN) -> None:
    found = factors(ending(nn.BatchNorm2d(40), nn.Conv2d(40, 32, 1), nn.ReLU(), nn.Conv2d(32, 40, 1)), ghn)
    assert {name: found[name] for name in ("2.weight", "4.weight")} == pytest.approx(
        {"2.weight": math.sqrt(16 / 40), "4.weight": math.sqrt(16 / 32)}
    )
    assert set(found) == {
        "1.weight",
        "1.bias",
        "4.bias",
        "2.weight",
        "4.weight",
    }  # the head and what lies before the norm have none


class Standardised(nn.Conv2d):
    """As in NFNets: whatever the weight's scale is, filters have mean zero and the norm that the gain says."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, self.gain * centred / centred.square().sum((1, 2, 3), keepdim=True).sqrt(), self.bias)


def kept(model: nn.Module, ghn: GHN | None, **options: Any) -> set[str]:
    """What is kept because its copies would add up, or because its weight has another scale."""
    return {name for name, why in ghn_init.predict(model, ghn, images(), **options).kept.items() if why in (ADDS_UP, NO_SCALE)}


def test_copies_in_standardised_weights_and_their_biases_are_kept_where_no_norm_follows(ghn: GHN) -> None:
    model = ending(Standardised(40, 12), nn.ReLU(), Standardised(12, 40))  # the second reads no copies
    assert kept(model, ghn) == {"1.weight", "1.bias", "3.bias"}
    assert kept(nn.DataParallel(model), ghn) == {"module.1.weight", "module.1.bias", "module.3.bias"}
    assert kept(ending(Standardised(40, 40), nn.BatchNorm2d(40)), ghn) == set()
    assert kept(ending(nn.Conv2d(40, 40, 3)), ghn) == set()
    assert kept(model, ghn, condition="none") == kept(model, ghn, head=True) == set()
    report = ghn_init.predict(model, ghn, images()).report
    notes = {row.name: row.note for row in report.kept}
    assert (notes["1.weight"], notes["1.bias"], notes["3.bias"]) == (ADDS_UP, NO_SCALE, NO_SCALE)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    ghn_init.initialize(model, ghn, images())
    same = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert same == {"1.weight", "1.bias", "1.gain", "3.bias", "3.gain", "6.weight", "6.bias"}


def test_wide_standardised_layers_do_not_explode() -> None:
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def features(condition: Any) -> float:
        torch.manual_seed(0)
        layers = [layer for _ in range(6) for layer in (Standardised(256, 256), nn.ReLU())]
        model = nn.Sequential(Standardised(3, 256), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))
        ghn_init.initialize(model, example_inputs=x, condition=condition, head=False)
        with torch.no_grad():
            return float(model[:-1](x).square().mean())

    assert features("none") > 100 * features("auto")
    assert features("auto") < 5


def test_biases_of_a_standardised_stem_do_not_make_all_images_alike() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 32, 32)
    widths = (3, 16, 32, 64, 128)
    layers = [layer for a, b in pairwise(widths) for layer in (Standardised(a, b), nn.GELU())]  # nothing tiled but the last
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))

    def shared(condition: Any) -> float:
        with torch.no_grad():
            features = ghn_init.initialize(copy.deepcopy(model), example_inputs=x, condition=condition, head=False)[:-1](x)
        return float(features.mean(0).square().mean())

    assert shared("none") > 5 * shared("auto")


def test_small_features_and_models_without_a_head_stay(ghn: GHN) -> None:
    prediction = ghn_init.predict(ending(nn.GroupNorm(1, 40)), ghn, images(), condition="none")
    assert 0.5 < sum(prediction.cores[name].square().mean() for name in ("1.weight", "1.bias")) < FEATURES["ln"]
    assert factors(ending(nn.GroupNorm(1, 40)), ghn) == {}
    assert factors(nn.Sequential(conv(3, 40), nn.BatchNorm2d(40), conv(40, 40)), ghn) == {}


@pytest.mark.parametrize(
    ("head", "condition", "scaled"),
    [
        ("auto", "auto", True), (False, "auto", True), (True, "auto", False), ("classes", "auto", False),
        (True, "balanced", True), (False, "none", False), (False, "noise", False),
    ],
)  # fmt: skip
def test_it_is_done_where_the_head_is_the_models_own_or_on_request(ghn: GHN, head: Any, condition: Any, scaled: bool) -> None:
    head = next(iter(ghn.config.tasks)) if head == "classes" else head
    report = ghn_init.predict(residual(), ghn, images(), head=head, condition=condition).report
    rows = [row.name for row in report.rows if row.conditioning.startswith("scaled by 0.")]
    assert rows == (["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] if scaled else [])


def test_kept_norms_are_not_counted(ghn: GHN) -> None:
    assert set(factors(residual(), ghn, exclude="norm1.*")) == {"norm2.weight", "norm2.bias"}


def test_a_wide_network_starts_with_sane_logits() -> None:
    """1,024 features with a bias, and a head whose default init is large."""
    timm = pytest.importorskip("timm")
    x, y = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10

    def first(condition: Any) -> float:
        torch.manual_seed(0)
        model = timm.create_model("mobilenetv3_small_100", num_classes=10, drop_rate=0.0)
        ghn_init.initialize(model, example_inputs=torch.empty(2, 3, 32, 32, device="meta"), condition=condition)
        with torch.no_grad():
            return float(F.cross_entropy(model.train()(x), y))

    assert first("auto") < 1.5 * math.log(10) < first("none")

"""Mixed precision: what runs in bfloat16, what in float32, and that both mean the same."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init.prediction import cost, precision
from ghn_init.prediction.precision import bfloat16_pays, mixed_precision
from ghn_init.tracing.record import record_calls
from ghn_init.tracing.rules import WHOLE

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one without instructions for bfloat16 is to compute in it here."""
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: True)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(8, 8, 3, padding=1), torch.bfloat16),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.bfloat16),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), torch.float32),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2), torch.float32),
        (nn.Conv2d(8, 8, 3, padding=2, groups=8, dilation=2), torch.float32),
        (nn.Conv2d(8, 8, 3, padding=2, groups=8, dilation=2, stride=2), torch.bfloat16),  # a plain one on fewer pixels
        (nn.Conv2d(8, 16, 5, padding=2, groups=4), torch.bfloat16),
        (nn.Linear(4, 4), torch.bfloat16),
    ],
)
def test_convolutions(layer: nn.Module, expected: torch.dtype) -> None:
    x = torch.randn(2, 8, 6, 4)
    with mixed_precision(CPU, True):
        y = layer(x)
        z = layer(x.bfloat16())
    assert y.dtype == z.dtype == expected
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
@pytest.mark.parametrize(("kernel", "padding", "stride"), [(3, 2, 2), (5, 4, 2), (3, 3, 3), (3, 0, 2)])
def test_dilated_convolutions_of_the_same_stride(size: tuple[int, int], kernel: int, padding: int, stride: int) -> None:
    layer = nn.Conv2d(4, 4, kernel, stride, padding, stride, groups=4)
    x = torch.randn(2, 4, *size) if min(size) > stride * (kernel - 1) or padding else torch.randn(2, 4, 11, 12)
    with mixed_precision(CPU, True):
        y = layer(x)
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)  # shapes too


def test_attention_runs_in_float32_in_both_directions() -> None:
    q = torch.randn(2, 4, 5, 8, dtype=torch.bfloat16, requires_grad=True)
    with mixed_precision(CPU, True):
        y = F.scaled_dot_product_attention(q, q, q)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert q.grad is not None
    assert q.grad.dtype == torch.bfloat16


def test_without_bf16_nothing_changes() -> None:
    layer = nn.Conv2d(8, 8, 3)
    x = torch.randn(2, 8, 6, 4)
    expected = layer(x)
    with mixed_precision(CPU, False):
        assert torch.equal(layer(x), expected)


def test_where_bfloat16_is_slow_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: False)
    layer = nn.Conv2d(8, 8, 3)
    x = torch.randn(2, 8, 6, 4)
    expected = layer(x)
    with mixed_precision(CPU, True):
        assert torch.equal(layer(x), expected)


def seconds(module: nn.Module, shape: tuple[int, ...]) -> float:
    return cost.seconds(record_calls(module, (torch.empty(shape, device="meta"),), {}, WHOLE))


def test_costs_by_hand() -> None:
    x = (2, 8, 6, 4)
    with torch.device("meta"):
        dense, depthwise = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
    values = 16 * 24
    expected = cost.COEFFICIENTS["dense"] * values * 8 * 9 + cost.COEFFICIENTS["values"] * values + cost.COEFFICIENTS["calls"]
    assert seconds(dense, x) == pytest.approx(expected)
    assert seconds(depthwise, x) == pytest.approx(
        cost.COEFFICIENTS["depthwise"] * 8 * 24 * 9 + cost.COEFFICIENTS["values"] * 8 * 24 + cost.COEFFICIENTS["calls"]
    )
    assert seconds(dense, (5, 8, 6, 4)) == pytest.approx(expected)  # the estimate is for 64 images, whatever was run


def test_attention_costs_by_its_scores() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    more, less = (seconds(Attention(), (2, 4, n, 8)) for n in (64, 32))
    assert more - less == pytest.approx(
        cost.COEFFICIENTS["scores"] * 4 * (64**2 - 32**2) + cost.COEFFICIENTS["values"] * 4 * 32 * 8
    )


@pytest.mark.parametrize("slow", [False, True])
def test_bfloat16_pays_where_its_convolutions_are_faster(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    def convolution(x: Tensor, weight: Tensor, padding: int) -> None:
        time.sleep(0.004 if torch.is_autocast_enabled("cpu") == slow else 0.001)

    monkeypatch.setattr(F, "conv2d", convolution)
    assert bfloat16_pays.__wrapped__() is not slow

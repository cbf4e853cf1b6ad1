"""Devices that lack what others have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN
from ghn_init.heads.expect import spread
from ghn_init.prediction.clues import clues
from ghn_init.prediction.conditioning import correlation_spread
from ghn_init.prediction.statistics import effective_rank
from zoo import conv, images


class OnMPS(Tensor):
    """Stands in for a tensor of a device without float64."""

    device: Any = property(lambda _: SimpleNamespace(type="mps"))

    def double(self) -> Tensor:  # type: ignore[override]
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(Tensor)


@pytest.mark.filterwarnings("ignore:at..frobenius_norm is deprecated")  # subclasses of tensors take that way
def test_float64_is_computed_where_it_exists(ghn: GHN) -> None:
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    there = matrix.as_subclass(OnMPS)
    assert effective_rank(there) == effective_rank(matrix)
    assert correlation_spread(there) == correlation_spread(matrix)
    model = nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    prediction = ghn_init.predict(model, ghn, images())
    known: Any = (prediction.graph, prediction.slots, prediction.cores, 100)
    assert clues(*known, there, 8) == clues(*known, matrix, 8)
    x = images()
    assert spread(model, prediction.graph, x.as_subclass(OnMPS)) == spread(model, prediction.graph, x)

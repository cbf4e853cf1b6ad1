"""`torch.cond`: the branch that its predicate chooses counts, as of an `if`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.tracing.flow import UNREACHED
from zoo import Fn


def either(m: Any, x: Tensor) -> Tensor:
    y = torch.cond(x.sum() > 0, lambda x: m.a(x).relu(), lambda x: m.b(x), (m.first(x),))
    return m.last(y)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_chosen_branch_is_followed(sign: int) -> None:
    model = Fn(either, first=nn.Linear(8, 6), a=nn.Linear(6, 4), b=nn.Linear(6, 4, bias=False), last=nn.Linear(4, 3))
    graph = ghn_init.trace(model, sign * torch.ones(2, 8))
    body = ["a.weight", "a.bias"] if sign > 0 else ["b.weight"]
    assert list(graph.parameter_names) == ["first.weight", "first.bias", *body, "last.weight", "last.bias"]
    assert graph.edges == [(k, k + 1) for k in range(graph.num_nodes - 1)]
    assert set(graph.kept.values()) == {UNREACHED}


def test_branches_in_branches_are_followed() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.cond(x.sum() > 1e9, m.a, m.b, (x,)), m.a, (x,))

    graph = ghn_init.trace(Fn(forward, a=nn.Linear(8, 6), b=nn.Linear(8, 6)), torch.ones(2, 8))
    assert graph.parameter_names == ("b.weight", "b.bias")

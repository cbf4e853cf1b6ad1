"""Forward passes that no other inputs would help: the true reason, and the way out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

import ghn_init
from ghn_init.errors import TraceError
from zoo import Fn, vectors


def refusal(model: nn.Module, inputs: Any) -> str:
    with pytest.raises(TraceError) as caught:
        ghn_init.trace(model, inputs)
    assert "Pass what it takes" not in str(caught.value)
    assert "issue" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_inputs_are_to_be_padded(layout: torch.layout) -> None:
    rows = torch.nested.nested_tensor([torch.zeros(3, 8), torch.zeros(5, 8)], layout=layout)
    told = refusal(nn.Linear(8, 4), rows)
    assert "Linear can't be traced on (float32 nested of 2) from example_inputs: a nested tensor" in told
    assert "Pass a padded one, tensor.to_padded_tensor(0.0)" in told
    model = Fn(lambda m, x: m.a(x["rows"]), a=nn.Linear(8, 4))
    assert "(x={rows: float32 nested of 2})" in refusal(model, {"x": {"rows": rows}})
    assert ghn_init.trace(nn.Linear(8, 4), rows.to_padded_tensor(0.0)).primitives["conv"] == 1


def test_nested_tensors_of_the_models_own_are_followed() -> None:
    def forward(m: Any, rows: list[Tensor]) -> Tensor:
        nested = m.a(torch.nested.nested_tensor(rows, layout=torch.jagged))
        return m.b(torch.stack([row.mean(0) for row in nested.unbind()]))

    model = Fn(forward, a=nn.Linear(8, 4), b=nn.Linear(4, 3))
    graph = ghn_init.trace(model, ([torch.zeros(3, 8), torch.zeros(5, 8)],))
    assert graph.primitives["conv"] == 2


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (lambda y: None, "NoneType"),
        (lambda y: (part for part in y), "generator"),
        (lambda y: {"loss": 0.5}, "dict"),
    ],
    ids=["nothing", "a generator", "a number"],
)
def test_a_forward_has_to_return_a_tensor(result: Any, kind: str) -> None:
    told = refusal(Fn(lambda m, x: result(m.a(x)), a=nn.Linear(8, 4)), vectors(2, 8))
    assert f"Fn returned {kind}, in which there is no tensor, on (float32[2, 8]) from example_inputs" in told
    assert "Let it return what it computes" in told


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_an_operator_that_is_not_followed_is_named() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        y = m.a(x)[:, None]
        return flex_attention(y, y, y)

    told = refusal(Fn(forward, a=nn.Linear(8, 16)), torch.zeros(2, 4, 8))
    assert "Fn calls flex_attention, a higher-order operator, which is not followed" in told
    assert "Recorder" not in told

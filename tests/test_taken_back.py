"""The pass of noise writes running statistics and nothing else, whatever the forward writes into."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN
from ghn_init.tracing.taken_back import taken_back
from zoo import Fn, conv, images, param


def clamps_a_scale(m: Any, x: Tensor) -> Tensor:
    m.scale.data.clamp_(max=0.5)
    return m.norm(m.a(x)) * m.scale


def clips_weights(m: Any, x: Tensor) -> Tensor:
    for parameter in m.parameters():
        parameter.data.clamp_(-0.001, 0.001)
    return m.norm(m.a(x)) * m.scale


def gives_a_parameter_other_memory(m: Any, x: Tensor) -> Tensor:
    m.a.weight.data = torch.renorm(m.a.weight.data, 2, 0, 0.01)
    m.scale.data = F.normalize(m.scale.data, dim=0).repeat(3)
    return m.norm(m.a(x)) * m.scale[0]


def starts_from_data(m: Any, x: Tensor) -> Tensor:
    x = m.norm(m.a(x))
    if not x.is_meta and not m.buffer.any():
        m.buffer.fill_(1)
        m.scale.copy_(1 / x.std())
    return x * m.scale


def writes_plain_tensors(m: Any, x: Tensor) -> Tensor:
    x = m.norm(m.a(x))
    m.plain[0].mul_(0.9).add_(1)
    m.helper.plain += 1
    m.listed[0].add_(m.plain)
    torch.add(m.plain, 1, out=m.listed[1])
    return x * m.scale


def resizes_a_buffer(m: Any, x: Tensor) -> Tensor:
    m.buffer.resize_(64).fill_(5)
    return m.norm(m.a(x)) * m.scale


FORWARDS = [
    clamps_a_scale, clips_weights, gives_a_parameter_other_memory, starts_from_data, writes_plain_tensors, resizes_a_buffer,
]  # fmt: skip


def written_by(forward: Callable[..., Any]) -> Any:
    model = Fn(
        lambda m, x: m.norm(m.a(x)) * m.scale if x.is_meta else forward(m, x),
        a=conv(),
        norm=nn.BatchNorm2d(8),
        scale=nn.Parameter(torch.tensor([3.0])),
        plain=torch.zeros(2, 3),
        helper=SimpleNamespace(plain=torch.zeros(3)),
        listed=[torch.zeros(2, 3), torch.zeros(2, 3)],
    )
    model.register_buffer("buffer", torch.zeros(2))
    return model


def of(model: Any) -> dict[str, Tensor]:
    """Everything but the norm's statistics, by value."""
    plain = {"plain": model.plain, "helper": model.helper.plain, **{f"listed.{i}": t for i, t in enumerate(model.listed)}}
    state = {name: t for name, t in model.state_dict().items() if "running" not in name}
    return {name: tensor.clone() for name, tensor in (plain | state).items()}


@pytest.mark.parametrize("forward", FORWARDS)
def test_all_but_statistics_is_as_it_was(ghn: GHN, forward: Callable[..., Any]) -> None:
    model = written_by(forward)
    prediction = ghn_init.predict(model, ghn, images())
    prediction.apply_(statistics=False)
    before, memory = of(model), {name: p.data_ptr() for name, p in model.named_parameters()}
    prediction.apply_()
    assert all(torch.equal(before[name], tensor) for name, tensor in of(model).items())
    assert memory == {name: p.data_ptr() for name, p in model.named_parameters()}
    assert model.norm.running_mean.any()
    assert torch.equal(prediction.tensors["a.weight"], model.a.weight)


def test_a_table_whose_rows_a_look_up_shortens_is_as_it_was(ghn: GHN) -> None:
    model = Fn(
        lambda m, t: m.head(m.norm(m.table(t).mean(1))),
        table=nn.Embedding(10, 8, max_norm=0.05),
        norm=nn.BatchNorm1d(8),
        head=nn.Linear(8, 3),
    )
    table = model.table.weight.detach().clone()
    ghn_init.initialize(model, ghn, torch.arange(8).view(2, 4), exclude="table.*")
    assert torch.equal(model.table.weight, table)
    assert model.norm.running_mean.any()


def test_inputs_are_as_they_were(ghn: GHN) -> None:
    def forward(m: Any, x: Tensor, step: Tensor, state: dict[str, Any]) -> Tensor:
        if not x.is_meta:
            step += 1
            x *= 2
            state["h"] += 1
            state["new"] = state["seen"].append(1)
        return m.norm(m.a(x)) + state["h"]

    model = Fn(forward, a=nn.Linear(8, 8), norm=nn.BatchNorm1d(8))
    x, step, state = torch.ones(4, 8), torch.zeros(4, dtype=torch.long), {"h": torch.arange(8.0), "seen": []}
    ghn_init.initialize(model, ghn, (x, step, state))
    assert x.eq(1).all()
    assert not step.any()
    assert list(state) == ["h", "seen"]
    assert state["seen"] == []
    assert torch.equal(state["h"], torch.arange(8.0))
    assert model.norm.running_mean.any()


def test_what_a_run_makes_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    backed_up = "ghn_init.tracing.writes.Overwritten.back_up"
    monkeypatch.setattr(backed_up, lambda self, tensor: copied.append(tensor.shape))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    with torch.no_grad(), taken_back(model):
        model.eval()(images())
        assert set(copied) <= {(8,)}  # of the norm
        copied.clear()
        model[0].weight.add_(1)
    assert copied == [(8, 3, 3, 3)]


def test_views_of_shared_memory_and_a_failing_run_are_taken_back() -> None:
    whole = torch.arange(6.0)
    model = Fn(lambda m: None, a=nn.Parameter(whole[:3]), b=nn.Parameter(whole[3:]))
    model.a.requires_grad_(False)

    def run() -> None:
        with torch.inference_mode(), taken_back(model):
            model.a[1:].zero_()
            torch._foreach_mul_([model.b.data, whole], 2.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert torch.equal(whole, torch.arange(6.0))
    assert torch.equal(model.b.detach(), whole[3:])


def test_parameters_without_values_or_strides_pass_through() -> None:
    model = Fn(lambda m: None, meta=param(3).to("meta"), sparse=nn.Parameter(torch.eye(3).to_sparse()))
    with torch.no_grad(), taken_back(model):
        model.meta.add_(1)
        model.sparse.coalesce()

"""What is predicted can change the output, and what is said to be unused can't: over one architecture of every timm module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import GHNConfig
from ghn_init.prediction.selection import select
from ghn_init.tracing.flow import DEAD_END, UNREACHED, UNUSED
from ghn_init.tracing.holders import tensors_in
from test_every_family import SMALL, SMALLER, architectures

NO_INFLUENCE = (UNUSED, UNREACHED, DEAD_END)
"""Reasons that say so."""


def shaken(model: nn.Module) -> nn.Module:
    """Nothing is zero, nothing saturates: what could have influence has some."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                spread = 0.1 if parameter.dim() < 2 else min(0.1, (parameter[0].numel() + 1) ** -0.5)
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


def influence(model: nn.Module, inputs: Any, training: bool) -> dict[str, bool]:
    """Dotted names of parameters → whether any output's gradient with respect to them is not zero."""
    for module in model.modules():  # as for tracing: dropout and stochastic depth drop nothing
        module.training = training and any(True for _ in module.parameters(recurse=True))
    model.zero_grad()
    generator = torch.Generator().manual_seed(1)
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    outputs = [t for t in tensors_in(model(**inputs) if isinstance(inputs, dict) else model(*args)) if t.requires_grad]
    total = sum((t.double() * torch.randn(t.shape, generator=generator, dtype=torch.float64)).sum() for t in outputs)
    assert isinstance(total, Tensor)
    total.backward()
    return {name: p.grad is not None and bool(p.grad.any()) for name, p in model.named_parameters()}


def faults(model: nn.Module, inputs: Any) -> Iterator[str]:
    """Parameters of which the report says what is not true."""
    graph = ghn_init.trace(model, inputs)
    config = GHNConfig({"images": 1}, hid=8, max_shape=(8, 8, 3, 3))  # no task fits: heads are decoded like other layers
    kept = select(model, graph, config, head=True, overwrite="*").kept
    shaken(model).requires_grad_(True)
    found = [influence(model, inputs, training) for training in (True, False)]
    for name, _ in model.named_parameters():
        has = any(each[name] for each in found)
        if name not in kept and not has:
            yield f"'{name}' is predicted, but has no influence"
        if kept.get(name) in NO_INFLUENCE and has:
            yield f"'{name}' has influence, but: {kept[name]}"


def image(model: Any) -> Tensor:
    shape = SMALLER.get(model.pretrained_cfg["architecture"], model.pretrained_cfg["input_size"])
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
def test_small_models(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    assert list(faults(model, image(model))) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures())
def test_every_module(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    assert list(faults(model, image(model))) == []

"""Programs of `torch.export` have one mode: statistics are those of the exported module, heads are not fitted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import UnsupportedModelError

DATA = [(torch.randn(4, 3, 8, 8), torch.arange(4) % 2)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2))


def exported(module: nn.Module, decomposed: bool = False, fixed: bool = False) -> nn.Module:
    sizes = None if fixed else ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(copy.deepcopy(module), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=sizes)
    return (program.run_decompositions() if decomposed else program).module()


def statistics(module: nn.Module) -> list[torch.Tensor]:
    return [tensor for name, tensor in module.state_dict().items() if "running" in name]


@pytest.mark.parametrize("training", [False, True])
def test_statistics_are_those_of_the_module(ghn: GHN, training: bool) -> None:
    module = network().train(training)
    program = exported(module)
    for model in (module, program):
        ghn_init.initialize(model, ghn, torch.zeros(2, 3, 8, 8))
    assert statistics(module)[0].any()
    assert all(map(torch.equal, statistics(program), statistics(module)))
    for model in (module, program):
        ghn_init.recalibrate_batchnorm(model, [3 + images for images, _ in DATA])
    assert all(map(torch.equal, statistics(program), statistics(module)))
    assert program.training


def test_a_program_inside_of_a_module_and_one_of_fixed_batches(ghn: GHN) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), exported(network(), fixed=True))
    ghn_init.initialize(model, ghn, torch.zeros(2, 3, 8, 8))
    assert all(tensor.ne(0).any() for tensor in statistics(model))


VERBS: dict[str, Callable[[nn.Module, GHN], Any]] = {
    "initialize": lambda model, ghn: ghn_init.initialize(model, ghn, data=DATA),
    "choose": lambda model, ghn: ghn_init.choose(model, DATA, ghn=ghn),
    "fit_head_": lambda model, ghn: ghn_init.fit_head_(model, DATA),
}


@pytest.mark.parametrize("verb", VERBS)
def test_heads_are_not_fitted(ghn: GHN, verb: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"GraphModule was made by torch\.export.* initialise with data before exp"):
        VERBS[verb](exported(network()), ghn)


def test_norms_that_were_taken_apart_take_no_statistics() -> None:
    program = exported(network().eval(), decomposed=True)
    with pytest.raises(UnsupportedModelError, match=r"decomposed \(its norms are aten\._native_batch_norm.* before exporting"):
        ghn_init.recalibrate_batchnorm(program, DATA)

"""Wrapped models are looked into, models that can't be written are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import UnsupportedModelError
from zoo import Fn, conv, images, param


def small() -> nn.Module:
    return nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU())


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (torch.compile, "_orig_mod."),
        (nn.DataParallel, "module."),
        (lambda model: torch.compile(nn.DataParallel(model)), "_orig_mod.module."),
    ],
    ids=["compile", "DataParallel", "both"],
)
def test_wrappers_are_taken_off(ghn: GHN, wrap: object, prefix: str) -> None:
    torch.manual_seed(0)
    model = small()
    plain = ghn_init.predict(model, ghn, images())
    wrapped = wrap(model)  # type: ignore[operator]
    prediction = ghn_init.predict(wrapped, ghn, images())
    assert list(prediction.tensors) == [prefix + name for name in plain.tensors]
    assert prediction.apply_() is wrapped
    assert torch.equal(model[0].weight, plain.tensors["0.weight"])


def test_distributed_data_parallel_is_taken_off(ghn: GHN, tmp_path: object) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(small())
        ghn_init.initialize(model, ghn, images())
        names = ghn_init.predict(model, ghn, images()).tensors
        assert set(names) == {name for name, _ in model.named_parameters()}
        assert all(name.startswith("module.") for name in names)
    finally:
        torch.distributed.destroy_process_group()


def test_a_compiled_part_is_traced_as_it_is_written() -> None:
    model = nn.Sequential(conv(), torch.compile(conv(8, 8)), conv(8, 8))
    model[2].compile()
    graph = ghn_init.trace(model, images())
    assert graph.primitives == {"input": 1, "conv": 3, "bias": 3}
    assert set(graph.parameter_names) == {name for name, _ in model.named_parameters()}


class FullyShardedDataParallel(nn.Module):
    """Has the name that the check looks for; the real one needs several devices."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv()


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(conv(), nn.Linear(8, 8)), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.ReLU(), "ReLU has no parameters; there is nothing to initialise"),
        (lambda: 3, "expected a torch.nn.Module, got int"),
        (lambda: nn.LazyLinear(4), r"'weight' is not initialised yet \(lazy module\).*run one forward pass"),
        (
            lambda: Fn(lambda m, x: x, w=nn.Parameter(torch.zeros(2, dtype=torch.complex64)), a=conv()),
            r"'w' is torch.complex64",
        ),
        (
            lambda: Fn(lambda m, x: x, w=nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)),
            "'w' is Parameter of torch.int8; initialise before quantising",
        ),
        (FullyShardedDataParallel, "the model is sharded by FullyShardedDataParallel; initialise before sharding"),
        (lambda: torch.jit.trace(small().eval(), images()), "compiled by TorchScript; initialise before scripting"),
        (quantised, "1 is a quantised Linear; initialise before quantising"),
    ],
    ids=["no parameters", "no module", "lazy", "complex", "integers", "sharded", "scripted", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_models_that_cannot_be_written_get_one_clear_error(ghn: GHN, build: object, words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        ghn_init.initialize(build(), ghn, images())  # type: ignore[operator]


def test_an_error_names_all_that_is_wrong() -> None:
    broken = [nn.Parameter(torch.zeros(2, dtype=torch.complex64)) for _ in range(7)]
    model = nn.ParameterList([*broken, param(1)])
    with pytest.raises(UnsupportedModelError, match="'0' is torch.complex64, '1' is .* and 2 more"):
        ghn_init.trace(model)

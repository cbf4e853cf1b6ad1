"""Wrapped models are looked into, models that can't be written are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN
from ghn_init.errors import RecalibrationError, UnsupportedModelError
from zoo import Fn, conv, images


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


LABELLED = [(torch.randn(6, 3, 8, 8), torch.arange(6) % 2)]


def of_two_classes() -> nn.Module:
    return nn.Sequential(conv(), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("verb", [
    lambda model, ghn: ghn_init.initialize(model, ghn, data=LABELLED),
    lambda model, ghn: ghn_init.initialize(model, ghn, data=LABELLED, choose=True),
    lambda model, ghn: ghn_init.choose(model, LABELLED, ghn),
    lambda model, ghn: ghn_init.fit_head_(model, LABELLED),
    lambda model, ghn: ghn_init.recalibrate_batchnorm(model, LABELLED),
], ids=["initialize", "initialize and choose", "choose", "fit_head_", "recalibrate_batchnorm"])  # fmt: skip
def test_replicas_are_not_fitted_each_to_its_own_images(
    ghn: GHN, verb: Any, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(of_two_classes())
        ghn_init.initialize(model, ghn, data=LABELLED)  # a process alone has all images
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
        with pytest.raises(UnsupportedModelError, match="Sequential is distributed over 2 processes: each would fit its own"):
            verb(model, ghn)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        ghn_init.initialize(model, ghn, images())
        ghn_init.initialize(model.module, ghn, data=LABELLED)
        model.module = nn.SyncBatchNorm(3)
        with pytest.raises(RecalibrationError, match="the loader has no batches"):  # its statistics are of all processes
            ghn_init.recalibrate_batchnorm(model, [])
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


def complex_layers(m: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = m.a(x).to(torch.complex64)
    return [torch.nn.functional.linear(x, w).real for name, w in m.named_parameters() if name.startswith("w")]


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(conv(), nn.Linear(8, 8)), {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.ReLU(), "ReLU has no parameters; there is nothing to initialise"),
        (lambda: 3, "expected a torch.nn.Module, got int"),
        (lambda: nn.LazyLinear(4), r"'weight' is not initialised yet \(lazy module\).*run one forward pass"),
        (
            lambda: Fn(complex_layers, w=nn.Parameter(torch.ones(4, 8, dtype=torch.complex64)), a=conv(3, 3)),
            r"'w' is Parameter of torch.complex64; freeze complex parameters.*or leave them out by exclude",
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


def test_an_error_names_all_that_is_wrong(ghn: GHN) -> None:
    with pytest.raises(UnsupportedModelError, match="'0.weight' is not initialised yet .*, '0.bias' is .* and 3 more"):
        ghn_init.trace(nn.Sequential(*[nn.LazyLinear(2) for _ in range(4)]))
    broken = {f"w{k}": nn.Parameter(torch.ones(4, 8, dtype=torch.complex64)) for k in range(7)}
    with pytest.raises(UnsupportedModelError, match="'w0' is .* of torch.complex64, 'w1' is .* and 2 more"):
        ghn_init.predict(Fn(complex_layers, a=conv(3, 3), **broken), ghn, images())


class Scaled(nn.Module):
    """Preprocessing without parameters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x - 1


def spectral(m: object, x: torch.Tensor) -> torch.Tensor:
    return torch.fft.ifft(torch.fft.fft(m.a(x)) * m.w).real  # type: ignore[attr-defined]


NOT_REFUSED = {
    "stubs of quantisation": lambda: Fn(
        lambda m, x: m.add.add(m.a(x), m.a(x)), a=conv(), add=torch.ao.nn.quantized.FloatFunctional()
    ),
    "preprocessing that is scripted": lambda: Fn(lambda m, x: m.a(m.scaled(x)), a=conv(), scaled=torch.jit.script(Scaled())),
    "complex parameters that are frozen": lambda: Fn(
        spectral, a=conv(), w=nn.Parameter(torch.ones(8, dtype=torch.complex64), requires_grad=False)
    ),
    "complex parameters that make no layer": lambda: Fn(
        spectral, a=conv(), w=nn.Parameter(torch.ones(8, dtype=torch.complex64))
    ),
    "complex parameters that are not used": lambda: Fn(
        lambda m, x: m.a(x), a=conv(), w=nn.Parameter(torch.ones(8, dtype=torch.complex64))
    ),
    "bytes beside weights that are trained": lambda: Fn(
        lambda m, x: m.a(x) * m.w.float(), a=conv(), w=nn.Parameter(torch.ones(8, 1, 1, dtype=torch.int8), requires_grad=False)
    ),
    "a frozen part that is scripted": lambda: Fn(
        lambda m, x: m.a(m.w(x)), a=conv(), w=torch.jit.script(nn.Sequential(conv(3, 3)).requires_grad_(False))
    ),
}


@pytest.mark.parametrize("name", NOT_REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_what_nothing_would_be_written_to_is_not_refused(ghn: GHN, name: str) -> None:
    model = NOT_REFUSED[name]()
    others = {name: p.detach().clone() for name, p in model.named_parameters() if not name.startswith("a.")}
    prediction = ghn_init.predict(model, ghn, images())
    assert set(prediction.tensors) == {"a.weight", "a.bias"}
    prediction.apply_()
    assert all(torch.equal(model.get_parameter(name), value) for name, value in others.items())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8])
def test_parameters_that_the_caller_leaves_out_are_not_refused(ghn: GHN, dtype: torch.dtype) -> None:
    w = nn.Parameter(torch.ones(8, dtype=dtype), requires_grad=dtype.is_complex)
    model = Fn(lambda m, x: m.a(x) * m.w.real, a=conv(), w=w)
    assert ghn_init.predict(model, ghn, images(), exclude="w").kept == {"w": "left out by exclude"}


def test_offloaded_models_are_refused() -> None:
    accelerate = pytest.importorskip("accelerate")
    model = accelerate.cpu_offload(nn.Sequential(conv()), execution_device=torch.device("cpu"))
    with pytest.raises(UnsupportedModelError, match="is offloaded by Accelerate; initialise before offloading"):
        ghn_init.trace(model, images())

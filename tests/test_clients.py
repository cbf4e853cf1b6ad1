"""What the page on clients says of programs around a model: they hold on to it before `initialize`, or take it afterwards."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN
from helpers import Tiny, colours
from zoo import conv

IN_TWO_PROCESSES = """
import ghn_init, sys, torch
from torch import distributed, nn

rank = int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
torch.manual_seed(rank)  # what is kept begins differently

def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

def check(model, images):
    nn.functional.cross_entropy(model(images), torch.arange(4)).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    mine = torch.cat([p.detach().flatten() for p in model.parameters()])
    others = [torch.empty_like(mine) for _ in range(2)]
    distributed.all_gather(others, mine)
    assert torch.equal(*others)

def both_orders(images):
    model = ghn_init.initialize(network(), example_inputs=images)
    check(nn.parallel.DistributedDataParallel(model), images)
    model = nn.parallel.DistributedDataParallel(network())
    check(ghn_init.initialize(model, example_inputs=images), images)

both_orders(torch.randn(4, 3, 16, 16))  # its wrappers are gone before the group is: they hold gloo's threads
distributed.barrier()
distributed.destroy_process_group()
"""


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return Tiny(2, 8).eval()


def same(model: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_both_processes_have_the_same_model(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IN_TWO_PROCESSES, str(tmp_path / "store")]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    options: Any = {"stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen([*command, rank], **options) for rank in "01"]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_program_that_ran_computes_with_the_new_weights(ghn: GHN, backend: str) -> None:
    model, images = tiny(), torch.randn(4, 3, 16, 16)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        before = compiled(images)
        ghn_init.initialize(compiled, ghn, images)
        assert not torch.equal(compiled(images), before)
        assert torch.equal(compiled(images), model(images))


@pytest.mark.parametrize(
    ("average", "refresh"),
    [
        (ModelEmaV3, lambda average, model: average.set(model)),
        (AveragedModel, lambda average, model: average.update_parameters(model)),  # its first update copies
    ],
    ids=["ModelEmaV3", "AveragedModel"],
)
def test_averages_made_before_are_of_the_former_weights(
    ghn: GHN, average: Callable[[nn.Module], Any], refresh: Callable[[Any, nn.Module], None]
) -> None:
    model = tiny()
    averaged = average(model)
    ghn_init.initialize(model, ghn, torch.zeros(2, 3, 16, 16))
    assert same(averaged.module, tiny())
    assert not same(averaged.module, model)
    refresh(averaged, model)
    assert same(averaged.module, model)


def test_accelerate_may_prepare_model_and_loader_first(ghn: GHN) -> None:
    images = colours()
    loader = DataLoader(TensorDataset(images.normalise(images.pixels), images.labels), 20)
    expected = ghn_init.initialize(tiny(), ghn, data=loader)
    assert not same(expected, tiny())
    prepared, its_loader = Accelerator(cpu=True).prepare(tiny(), loader)
    ghn_init.initialize(prepared, ghn, data=its_loader)
    assert same(Accelerator(cpu=True).unwrap_model(prepared), expected)


class Kind(Tensor):
    """As fastai's `TensorImage` and `TensorCategory`: operations return the class again, two of them refuse to meet."""


class OtherKind(Tensor):
    """The labels'."""


def test_images_and_labels_may_be_classes_of_tensors(ghn: GHN) -> None:
    pixels, labels = torch.randn(40, 3, 16, 16), torch.arange(40) % 3
    expected = ghn_init.initialize(tiny(), ghn, data=[(pixels, labels)])
    model = ghn_init.initialize(tiny(), ghn, data=[(pixels.as_subclass(Kind), labels.as_subclass(OtherKind))])
    assert same(model, expected)
    assert ghn_init.trace(tiny(), pixels[:2].as_subclass(Kind)).nodes == ghn_init.trace(tiny(), pixels[:2]).nodes


@pytest.mark.filterwarnings("ignore")  # torch.ao says where it moves
def test_what_quantisation_observes_is_not_the_noise_that_sets_statistics(ghn: GHN) -> None:
    model = nn.Sequential(conv(), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8)).train()
    plain = ghn_init.initialize(copy.deepcopy(model), ghn, torch.zeros(2, 3, 16, 16))
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")  # type: ignore[assignment]
    torch.ao.quantization.prepare_qat(model, inplace=True)
    norms = {f"1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")}
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if name not in norms}
    ghn_init.initialize(model, ghn, torch.zeros(2, 3, 16, 16))
    after = dict(model.named_buffers())
    assert [name for name, buffer in before.items() if not torch.equal(after[name], buffer)] == []
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], parameter) for name, parameter in plain.named_parameters())


@pytest.mark.filterwarnings("ignore")
def test_onnx_has_the_predicted_weights(ghn: GHN, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, images = timm.create_model("test_resnet", num_classes=5).eval(), torch.randn(2, 3, 32, 32)
    ghn_init.initialize(model, ghn)
    torch.onnx.export(model, (images,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(answers), model(images), atol=1e-5, rtol=1e-4)

"""One architecture of each of timm's modules: what `initialize` takes can be trained on and evaluated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import ghn_init
from ghn_init import GHN, GHNConfig, Images, ImageTask
from ghn_init.evaluation.accuracy import accuracy
from ghn_init.training.loop import Job, meta_step
from ghn_init.training.networks import Network
from ghn_init.training.objectives import ZeroShot
from ghn_init.training.recipe import TrainConfig

CHEAP: dict[str, str] = json.loads((Path(__file__).parent / "data" / "timm_architectures.json").read_text())
"""timm's module → an architecture of it with few parameters and pixels."""


def architectures() -> list[str]:
    """A cheap one of each module that the installed timm has, the first one of modules that are new."""
    by_module: dict[str, str] = {}
    for name in timm.list_models():
        module = timm.model_entrypoint(name).__module__.rpartition(".")[2]
        by_module.setdefault(module, CHEAP[module] if timm.is_model(CHEAP.get(module, "")) else name)
    return list(by_module.values())


SMALL = ("convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "mixer_s32_224")
"""A few that run in seconds; all modules are `slow`."""


SMALLER = {"gemma4_vit_167m": (3, 192, 192), "qwen3_vit_88m": (3, 192, 192)}
"""Models for any size, which their configurations give as 768 px."""


def images_for(model: Any) -> Images:
    """Two images of two classes, of the size that the model is made for."""
    shape = SMALLER.get(model.pretrained_cfg["architecture"], model.pretrained_cfg["input_size"])
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=generator)
    return Images.from_tensors(pixels, torch.tensor([0, 1]), classes=tuple("abcdefghij"))


def check(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = images_for(model)
    task = ImageTask(images)
    ghn = GHN(GHNConfig.ghn2({task.name: task.outputs}, max_shape=(16, 16, 7, 7), hid=8))
    network = Network.of(model, task)
    recipe = TrainConfig(meta_batch=1, bf16=False)
    sums = meta_step(ghn, [Job(network, [task.batch(0, 2, 0)], "key")], ZeroShot(), recipe)
    gradients = [p.grad for p in ghn.parameters() if p.grad is not None]
    assert sums[task.name].networks == 1
    assert math.isfinite(sums[task.name].loss)
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)
    prediction = ghn_init.predict(model, ghn, head=task.name)
    assert set(network.kept) == set(prediction.kept)
    assert all(torch.equal(value, before[key]) for key, value in network.kept.items())
    assert accuracy(ghn, model, images, task.name) in (0, 50, 100)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_a_training_step_and_an_evaluation(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in architectures() if name not in SMALL])
def test_every_module_makes_a_training_step_and_an_evaluation(name: str) -> None:
    check(name)

"""Widened hypernetworks: the same predictions, copies that differ in training, what can't be widened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import ghn_init
from ghn_init import GHN, GHNConfig, ImageTask
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.widening import widen_
from ghn_init.training.loop import Job, meta_step
from ghn_init.training.networks import Network
from ghn_init.training.objectives import ZeroShot
from ghn_init.training.recipe import TrainConfig
from helpers import SMALL, colours, tiny_networks

TASK = ImageTask(colours())


def widened(narrow: GHN, times: int) -> GHN:
    wide = GHN(replace(narrow.config, hid=times * narrow.config.hid))
    widen_(wide, narrow)
    return wide


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("make", [GHNConfig.ghn1, GHNConfig.ghn2, GHNConfig.mlp])
def test_a_widened_hypernetwork_predicts_the_same(make: Callable[..., GHNConfig], times: int) -> None:
    torch.manual_seed(0)
    narrow = GHN(make({"images": 3}, hid=8, max_shape=(16, 16, 5, 5)))
    wide = widened(narrow, times)
    for network in tiny_networks():
        before, after = (ghn_init.predict(network, ghn, torch.zeros(2, 3, 8, 8), head="images") for ghn in (narrow, wide))
        assert before.tensors.keys() == after.tensors.keys()
        for name, tensor in before.tensors.items():
            torch.testing.assert_close(after.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_copies_of_a_unit_come_to_differ() -> None:
    torch.manual_seed(0)
    wide = widened(GHN(SMALL), 2)
    jobs = [Job(Network.of(module, TASK), [TASK.batch(0, 8, 0)], str(k)) for k, module in enumerate(tiny_networks())]
    meta_step(wide, jobs, ZeroShot(), TrainConfig(meta_batch=len(jobs), bf16=False))
    for name in ("embed.weight", "gnn.gru.weight_ih", "decoder.conv.0.weight", "decoder_1d.fc.0.weight"):
        gradient = wide.get_parameter(name).grad
        assert gradient is not None
        units = gradient.T if name.startswith("embed") else gradient
        assert (units[::2] - units[1::2]).norm() > 0.1 * units.norm(), name


@pytest.mark.parametrize(
    "changes", [{"hid": 12}, {"hid": 4}, {"hid": 16, "max_shape": (16, 16, 3, 3)}, {"hid": 16, "ve": False}], ids=str
)
def test_what_is_no_wider_one_is_refused(changes: dict[str, object]) -> None:
    narrow = GHN(replace(SMALL, hid=8))
    wide = GHN(replace(narrow.config, **changes))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=rf"hid is {wide.config.hid}; expected a multiple of 8, all else alike"):
        widen_(wide, narrow)


def test_transformers_are_refused() -> None:
    narrow = GHN(replace(SMALL, hid=8, layers=1, heads=1))
    with pytest.raises(CheckpointError, match="hid is 16; .* a GHN-1 or a GHN-2"):
        widen_(GHN(replace(narrow.config, hid=16)), narrow)

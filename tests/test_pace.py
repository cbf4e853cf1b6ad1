"""How fast this machine is beside the estimate: an arithmetic of two times, and it leaves no trace."""

from __future__ import annotations

import time

import pytest
import torch

from ghn_init import deepnets
from ghn_init.prediction import cost
from ghn_init.tracing.trace import read_in_eval_mode
from ghn_init.training.pace import EXAMPLES, NETWORK, pace


def estimated() -> float:
    """Core-seconds of the network, by its cost with 64 examples."""
    with torch.device("meta"):
        network = deepnets.network("train", NETWORK)
    return cost.seconds(read_in_eval_mode(network, torch.empty(2, 3, 32, 32)).record) * EXAMPLES / 64


def test_the_faster_of_two_after_a_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 10.0, 10.5, 20.0, 20.25])  # 9 s with compilation, then 0.5 and 0.25
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert pace(bf16=False) == pytest.approx(0.25 / estimated())


def test_random_state_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    assert pace() > 0
    assert torch.equal(torch.get_rng_state(), expected)

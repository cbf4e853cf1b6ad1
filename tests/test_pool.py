"""Which networks take part in a step; traced networks without parameters of their own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ghn_init import ImageTask, deepnets
from ghn_init.errors import TrainingError
from ghn_init.training.networks import Network
from ghn_init.training.pool import Part, Pool, Pools
from helpers import Tiny, colours, tiny_networks

CPU = torch.device("cpu")
TASK = ImageTask(colours())


def pool(**changes: object) -> Pool:
    options = {"task": TASK, "architectures": tiny_networks(), "size": 6, "device": CPU} | changes
    return Pool(**options)  # type: ignore[arg-type]


def draws(own: Pool, key: str, places: int) -> list[Part]:
    """A step's."""
    return [own.draw(key, place, places, 8, 1, None) for place in range(places)]


def test_draws_depend_on_the_key_alone_and_have_no_network_twice() -> None:
    parts = draws(pool(), "a", 3)
    assert parts == draws(pool(), "a", 3)
    assert [draws(pool(), key, 3) for key in "bcde"].count(parts) < 4
    assert len({part.index for part in parts}) == 3
    assert {part.examples for part in parts} == {8}


def test_a_place_traces_its_own_networks_alone() -> None:
    own = pool()
    drawn = {own.draw(str(k), 1, 3, 8, 1, budget=100.0).index for k in range(20)}
    assert drawn == set(own._networks) == {1, 4}


def test_costly_networks_get_fewer_images_or_stay_out() -> None:
    own = pool()
    seconds = [own[index].seconds for index in range(6)]
    assert seconds[3] > 1.5 * seconds[0]  # four convolutions against one
    budget = 32 / 64 * seconds[0] * 1.01
    drawn = [own.draw(str(k), place, 2, 32, 16, budget) for k in range(20) for place in range(2)]
    parts = {part.index: part.examples for part in drawn}
    allowed = {index: min(int(64 * budget / cost) // 8 * 8, 32) for index, cost in enumerate(seconds)}
    assert parts == {index: examples for index, examples in allowed.items() if examples >= 16}
    assert parts[0] == 32
    assert 3 not in parts


@pytest.mark.parametrize("shared", [True, False])
def test_networks_of_a_generator_are_for_all_tasks(shared: bool) -> None:
    tasks = {name: ImageTask(colours(), name) for name in ("a", "b")}
    endless = (Tiny(1, 8 + 4 * k) for k in itertools.count())
    pools = Pools(tasks, endless if shared else {"a": endless, "b": endless}, {}, 3, CPU)
    assert pools.described["a"] == pools.described["b"]
    assert pools.described["a"].startswith("3 modules")
    assert pools.network("b", Part(2, 8)).slots[0].shape == (16, 3, 3, 3)


def test_the_default_pool_is_the_training_split() -> None:
    own = pool(architectures=None, size=3)
    with torch.device("meta"):
        expected = Network.of(deepnets.network("train", 2, 3, 16), TASK)
    assert own[2].graph.nodes == expected.graph.nodes


def test_a_file_of_networks(tmp_path: Path) -> None:
    deepnets.write(tmp_path / "nets.db", "val", 0, 2)
    own = pool(architectures=tmp_path / "nets.db", size=100)
    assert own.size == 2
    assert draws(own, "a", 2) == [Part(0, 8), Part(1, 8)]


@pytest.mark.parametrize(
    ("architectures", "words"),
    [
        (["resnet18"], "have 'resnet18' at place 0; expected modules, or the path"),
        ([Tiny(1, 8), Tiny], "have <class 'helpers.Tiny'> at place 1; expected modules"),
        (Tiny(1, 8), "are one Tiny; pass a list of modules"),
        (Tiny(1, 8).body, "are one Sequential; pass a list of modules"),
        (3, "are 3; pass a list of modules, or a file's path"),
    ],
    ids=["names", "functions", "module", "layers", "number"],
)
def test_what_is_no_list_of_modules_is_named(architectures: Any, words: str) -> None:
    with pytest.raises(TrainingError, match=f"^architectures {words}"):
        pool(architectures=architectures, size=3)


def test_entries_of_a_file_are_no_modules(tmp_path: Path) -> None:
    deepnets.write(tmp_path / "nets.db", "val", 0, 2)
    with pytest.raises(TrainingError, match="have Entry.* at place 0; expected modules, or the path of a file"):
        pool(architectures=deepnets.read(tmp_path / "nets.db"), size=3)


def test_lists_of_modules_may_be_modules() -> None:
    assert pool(architectures=nn.ModuleList(tiny_networks()), size=3).size == 3


def test_a_network_is_a_copy_without_parameters_and_running_statistics() -> None:
    module = Tiny(2, 8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    network = Network.of(module, TASK)
    parameters = {slot.name: torch.rand(slot.shape) for slot in network.slots}
    x = torch.randn(8, 3, 16, 16)
    found = network(parameters, x)
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.is_meta for p in network.module.parameters())
    assert list(network.module.buffers()) == []
    reference = Tiny(2, 8)
    reference.load_state_dict(parameters, strict=False)
    reference.train()
    reference.body[-1].eval()  # no dropout
    torch.testing.assert_close(found, reference(x))


def test_buffers_stay() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("shift", torch.tensor([1.0, 2.0, 3.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.mean((2, 3))) + self.shift

    network = Network.of(Shifted(), TASK)
    parameters = {"layer.weight": torch.zeros(3, 3), "layer.bias": torch.zeros(3)}
    assert network(parameters, torch.zeros(1, 3, 4, 4)).tolist() == [[1, 2, 3]]

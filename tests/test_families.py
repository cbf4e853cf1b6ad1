"""Members of families that people use: drawn, built, traced, trained on; and that the splits keep to themselves."""

from __future__ import annotations

import copy
import json
import math
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from statistics import fmean, quantiles

import pytest
import torch
from torch import nn

from ghn_init import GHN, GHNConfig, Images, ImageTask, deepnets, families
from ghn_init.errors import ArchitectureError, TrainingError
from ghn_init.families import FAMILIES, SPLITS, FamilySummary, Member, MemberStatistics, Networks
from ghn_init.families.member import Recipe
from ghn_init.families.splits import TENTHS
from ghn_init.training.loop import Job, meta_step, train
from ghn_init.training.networks import Network
from ghn_init.training.objectives import ZeroShot
from ghn_init.training.pool import Pool
from ghn_init.training.recipe import TrainConfig

SIZES = (24, 32, 48, 64)
TRAINED = [name for name, family in FAMILIES.items() if not family.held_out]
HELD_OUT = [name for name, family in FAMILIES.items() if family.held_out]
EACH_FAMILY = [("train", k) for k in range(len(TRAINED))] + [("held-out", k) for k in range(len(HELD_OUT))]
"""One member of each."""
SLOW = [(split, k) for split, count in (("train", 76), ("val", 38), ("test", 38), ("held-out", 48)) for k in range(count)]
"""200 members."""


def task(image_size: int = 32) -> ImageTask:
    pixels = torch.randint(0, 256, (4, 3, image_size, image_size), generator=torch.Generator().manual_seed(0))
    return ImageTask(Images.from_tensors(pixels.byte(), torch.tensor([0, 1, 2, 3]), classes=tuple("abcdefghij")))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def check(split: str, index: int) -> None:
    """Runs at all sizes; traced; a step of meta-training; what is kept holds its start values."""
    of_size = {size: families.network(split, index, image_size=size) for size in SIZES}
    assert all(module.training for module in of_size.values())
    for size, built in of_size.items():
        with torch.no_grad():
            outputs = copy.deepcopy(built).eval()(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
        assert outputs.shape == (2, 10)
        assert outputs.isfinite().all()
    module, images = of_size[32], task()
    before = state(module)
    network = Network.of(module, images)
    ghn = GHN(GHNConfig.ghn2({images.name: images.outputs}, max_shape=(16, 16, 7, 7), hid=8))
    sums = meta_step(ghn, [Job(network, [images.batch(0, 4, 0)], "key")], ZeroShot(), TrainConfig(meta_batch=1, bf16=False))
    gradients = [p.grad for p in ghn.parameters() if p.grad is not None]
    assert math.isfinite(sums[images.name].loss)
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)
    start = {name: before[name] for name, _ in module.named_parameters()}
    assert all(torch.equal(value, start[name]) for name, value in network.kept.items())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert {slot.name for slot in network.slots} | network.kept.keys() == start.keys()
    assert 2e4 < sum(p.numel() for p in start.values()) < 3.2e6
    assert sum(value.numel() for value in network.kept.values()) < 0.05 * sum(p.numel() for p in start.values())
    assert network.seconds < 0.9
    assert any(slot.head for slot in network.slots)


@pytest.mark.parametrize(("split", "index"), EACH_FAMILY)
def test_every_family(split: str, index: int) -> None:
    check(split, index)


@pytest.mark.slow
@pytest.mark.parametrize(("split", "index"), SLOW)
def test_many_members(split: str, index: int) -> None:
    check(split, index)


@pytest.mark.parametrize(("split", "index"), [("train", 0), ("val", 11), ("test", 14), ("held-out", 6)])
def test_a_network_depends_on_its_key_alone(split: str, index: int) -> None:
    torch.manual_seed(1)
    first = families.network(split, index, image_size=24)
    torch.manual_seed(2)
    random.seed(2)
    with torch.device("meta"):
        again = families.network(split, index, image_size=24)
    assert equal(first, again)
    assert not equal(first, families.network(split, index + 1, image_size=24))
    assert not equal(first, families.network(split, index, image_size=24, seed=1))


def test_other_processes_draw_the_same_and_import_nothing_for_it() -> None:
    here = [families.member(split, index).digest for split in SPLITS for index in range(30)]
    code = (
        "import sys; from ghn_init import families as f; print([f.member(s, k).digest for s in f.SPLITS for k in range(30)]); "
        "print([m for m in ('timm', 'torchvision', 'transformers') if m in sys.modules])"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert there.stdout.splitlines() == [str(here), "[]"]


def test_first_members_are_the_same_everywhere() -> None:
    first = families.member("train", 0)
    assert (first.family, first.library) == ("resnet", "transformers")
    assert first.digest[:12] == "1664d38900ff"


def test_random_states_are_left_alone() -> None:
    before, python = torch.get_rng_state(), random.getstate()
    for index in range(4):
        families.network("held-out", index)
    assert torch.equal(before, torch.get_rng_state())
    assert python == random.getstate()


def members(split: str, count: int = 200, seed: int = 0) -> list[Member]:
    return [families.member(split, index, seed) for index in range(count)]


def test_splits_share_no_member() -> None:
    drawn = {(split, seed): {m.digest for m in members(split, seed=seed)} for split in SPLITS for seed in (0, 1)}
    for (split, seed), digests in drawn.items():
        for (other, other_seed), others in drawn.items():
            assert split == other or not digests & others, (split, seed, other, other_seed)


@pytest.mark.parametrize("split", SPLITS)
def test_members_are_different(split: str) -> None:
    drawn = members(split)
    assert len({m.digest for m in drawn}) >= 190
    assert all(int(m.digest, 16) % 10 in TENTHS[split] for m in drawn)


@pytest.mark.parametrize("split", SPLITS)
def test_families_take_turns_and_held_out_ones_keep_out(split: str) -> None:
    names = HELD_OUT if split == "held-out" else TRAINED
    found = Counter(m.family for m in members(split))
    assert found.keys() == set(names)
    assert max(found.values()) - min(found.values()) <= 1


def test_what_is_held_out_is_of_different_kinds() -> None:
    assert {"ghostnet", "gmlp", "xcit", "mobilevit"} <= set(HELD_OUT)
    assert len(TRAINED) >= 17
    assert all("arXiv" in (family.draw.__doc__ or "") for family in FAMILIES.values())


def test_members_are_json() -> None:
    for split in SPLITS:
        for drawn in members(split, 60):
            again = Member(**json.loads(json.dumps(drawn.to_dict())))
            assert again == drawn
            assert len({again, drawn}) == 1
            assert again.digest == drawn.digest
            assert drawn.constructor in repr(drawn)


def test_costs() -> None:
    rows = [MemberStatistics.of("train", index) for index in range(len(TRAINED))]
    seconds = [row.seconds for row in rows]
    assert fmean(seconds) < 0.25
    assert quantiles(seconds, n=20)[-1] < 0.6


@pytest.mark.slow
def test_costs_of_many() -> None:
    seconds = [MemberStatistics.of(split, index).seconds for split in ("train", "held-out") for index in range(100)]
    assert fmean(seconds) < 0.2
    assert quantiles(seconds, n=20)[-1] < 0.5


def test_statistics() -> None:
    row = MemberStatistics.of("train", 4)
    module = families.network("train", 4)
    assert (row.family, row.library) == ("vgg", "torchvision")
    assert row.params == row.predicted == sum(p.numel() for p in module.parameters())
    other = replace(row, params=2 * row.params, nodes=row.nodes + 2, kept={"a reason": 3}, seconds=row.seconds + 1)
    found = FamilySummary.of([row, other])
    assert found.millions == pytest.approx((row.params / 1e6, 1.5 * row.params / 1e6, 2 * row.params / 1e6))
    assert found.nodes == (row.nodes, row.nodes + 1, row.nodes + 2)
    assert found.predicted == (0.5, 0.75)
    assert found.kept == {"a reason": 1}
    assert found.libraries == {"torchvision": 2}
    assert found.seconds == pytest.approx((row.seconds + 0.5, row.seconds + 1))


class Built(list):
    """Positions that a pool asked for."""


def counted(count: int) -> tuple[Networks, Built]:
    built = Built()

    def build(k: int) -> nn.Module:
        built.append(k)
        return families.network("train", k, 10)

    return Networks(build, count, "counted networks"), built


def test_a_pool_builds_what_it_is_asked_for_alone() -> None:
    networks, built = counted(10**9)
    pool = Pool(task(), networks, 10**6, torch.device("cpu"))
    assert (pool.size, pool.described, built) == (10**6, "counted networks", [])
    assert pool[4] is pool[4]
    assert built == [4]
    assert Pool(task(), networks, 10**10, torch.device("cpu")).size == 10**9


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(TrainingError, match="there are no architectures; pass at least meta_batch"):
        Pool(task(), families.networks("train", 0), 4, torch.device("cpu"))


def test_training_on_families_and_deepnets(tmp_path: object) -> None:
    networks = families.mixed(6, deepnets_share=0.5)
    ghn = GHNConfig.ghn2({"images": 10}, max_shape=(16, 16, 7, 7), hid=8)
    options = {"steps": 2, "meta_batch": 2, "batch_size": 4, "pool": 6, "bf16": False, "budget": None}
    train(task(), f"{tmp_path}", architectures=networks, ghn=ghn, **options)
    with open(f"{tmp_path}/recipe.json") as file:
        assert networks.described in file.read()
    with pytest.raises(TrainingError, match="architectures"):
        train(task(), f"{tmp_path}", architectures=families.mixed(6, 0.25), ghn=ghn, **{**options, "steps": 3})


def test_networks_are_those_of_the_split() -> None:
    networks = families.networks("val", 3, num_classes=4, image_size=24, seed=2)
    assert len(networks) == 3
    assert networks.described == "families val, 3 networks of seed 2, 4 classes, 24 px"
    assert equal(networks[1], families.network("val", 1, 4, 24, 2))
    assert equal(networks[-1], networks[1:][1])
    with pytest.raises(IndexError):
        networks[3]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_mixtures_have_their_shares(share: float) -> None:
    networks = families.mixed(4, share)
    of_deepnets = [isinstance(net, deepnets.DeepNet) for net in networks]
    assert sum(of_deepnets) == 4 * share
    assert sum(of_deepnets[:2]) == 4 * share // 2
    own = [net for net, other in zip(networks, of_deepnets, strict=True) if not other]
    assert all(equal(net, families.network("train", k)) for k, net in enumerate(own))
    drawn = [net for net, other in zip(networks, of_deepnets, strict=True) if other]
    shapes = [[p.shape for p in net.parameters()] for net in drawn]
    with torch.device("meta"):
        assert shapes == [[p.shape for p in deepnets.network("train", k).parameters()] for k in range(len(drawn))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: families.member("tset", 0), r"no split 'tset' of families; there are train, val, test, held-out"),
        (lambda: families.network("train", -1), r"index is -1; expected 0 or above"),
        (lambda: families.networks("deep", 3), r"no split 'deep' of families"),
        (lambda: families.networks("train", -3), r"count is -3; expected 0 or above"),
        (lambda: families.mixed(3, 1.5), r"deepnets_share is 1.5; expected 0 to 1"),
        (lambda: families.mixed(3, split="held-out"), r"DeepNets-1M has no split 'held-out' to mix with; train, val and test"),
        (lambda: families.mixed(3, split="wide"), r"no split 'wide' of families"),
        (lambda: families.network("train", 0, image_size=-8), r"can't build the resnet .* for 10 classes and -8 px"),
        (lambda: Member.of("vit", Recipe("timm.models.Nothing", {"a": 1})).module(), r"timm [\d.]+ can't build the vit timm"
         r".models.Nothing\(\{'a': 1\}\) for 10 classes and 32 px \(AttributeError: .*\); sizes are 24, 32, 48 or 64 px"),
    ],
)  # fmt: skip
def test_errors(call: object, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        call()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        ArchitectureError, match=r"transformers, which has this bert, is not installed .*; pip install transformers"
    ):
        families.network("train", TRAINED.index("bert"))

"""The race between inits."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import ghn_init
from ghn_init import GHN, Conditioning, api, comparison
from ghn_init.comparison import Comparison, Run
from ghn_init.errors import ComparisonError, DeviceError
from ghn_init.trials.contestant import sgd
from ghn_init.viz.race import draw
from helpers import Tiny, colours
from test_heads import changed, copied, state
from zoo import Fn


def loader(shuffle: bool) -> torch.utils.data.DataLoader[tuple[torch.Tensor, ...]]:
    images = colours()
    data = torch.utils.data.TensorDataset(images.normalise(images.pixels), images.labels)
    return torch.utils.data.DataLoader(data, 16, shuffle)


def tiny() -> nn.Module:
    return Tiny(2, 8)


def test_residual_norms_are_those_that_end_the_branches() -> None:
    with torch.device("meta"):
        model = torchvision.models.resnet18()
    expected = {f"layer{k}.{block}.bn2.weight" for k in range(1, 5) for block in (0, 1)}
    assert set(comparison.residual_norms(model)) == expected
    assert comparison.residual_norms(tiny()) == []


def test_zero_gamma_makes_residual_blocks_identities() -> None:
    model = torchvision.models.resnet18(num_classes=3)
    comparison.zero_gamma(model, 0)
    block = model.layer1[0].eval()
    x = torch.rand(1, 64, 8, 8)
    assert torch.equal(block(x), x)
    with pytest.raises(ComparisonError, match="Tiny has no residual branch"):
        comparison.zero_gamma(tiny(), 0)


def test_orthogonal_weights() -> None:
    model = tiny()
    comparison.orthogonal(model, 0)
    weight = model.head.weight  # type: ignore[union-attr]
    torch.testing.assert_close(weight @ weight.T, torch.eye(3), atol=1e-5, rtol=0)


def test_orthogonal_weights_keep_the_memory_format() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3)).to(memory_format=torch.channels_last)
    comparison.orthogonal(model, 0)
    weight = model[0].weight.detach()
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weight.flatten(1) @ weight.flatten(1).T, torch.eye(8), atol=1e-5, rtol=0)


def test_mimetic_products_look_like_identities() -> None:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=1)
    comparison.mimetic(model, 0)
    attention, D, d = model.blocks[0].attn, 192, 64
    q, k, v = attention.qkv.weight.detach().split(D)
    product = v.T @ attention.proj.weight.detach().T
    assert product.diagonal().mean() == pytest.approx(-0.4, abs=0.03)
    assert (product - torch.diag(product.diagonal())).std() == pytest.approx(0.4 / math.sqrt(D), rel=0.1)
    head = q[:d].T @ k[:d]  # the best approximation of rank d
    assert head.diagonal().mean() > 0.25
    assert abs((head - torch.diag(head.diagonal())).mean()) < 0.01
    positions = model.pos_embed[0, 1:].detach()
    assert torch.allclose(positions.square().sum(1), torch.full((196,), D / 2), atol=1e-3)
    with pytest.raises(ComparisonError, match="Tiny has no attention"):
        comparison.mimetic(tiny(), 0)


@pytest.mark.parametrize("prefix", [0, 1])
def test_impulse_heads_look_at_one_neighbour_each(prefix: int) -> None:
    torch.manual_seed(0)
    pool = {"class_token": False, "global_pool": "avg"} if not prefix else {}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2, img_size=48, patch_size=4, **pool)
    own = model.pos_embed.detach().clone()
    comparison.impulse(model, 0)
    torch.testing.assert_close(model.pos_embed[:, prefix:].detach(), 18 * own[:, prefix:])
    assert torch.equal(model.pos_embed[:, :prefix].detach(), own[:, :prefix])
    attention, D, d, side = model.blocks[1].attn, 192, 64, 12
    x = F.layer_norm(model.pos_embed[0, prefix:].detach(), (D,))
    q, k, v = attention.qkv.weight.detach().split(D)
    rows, columns = torch.arange(side**2) // side, torch.arange(side**2) % side
    for head, (down, right) in enumerate([(0, 0), (-1, 0), (0, 1)]):
        part = slice(head * d, (head + 1) * d)
        assert float(q[part].norm()) == pytest.approx(7)
        logits = (x @ q[part].T) @ (x @ k[part].T).T / d**0.5
        inside = ((rows + down).clamp(0, side - 1) == rows + down) & ((columns + right).clamp(0, side - 1) == columns + right)
        wanted = (rows + down) * side + columns + right
        hits = (logits.argmax(1) == wanted)[inside].float().mean()
        assert hits > 0.8, (head, hits)
    assert (v.T @ attention.proj.weight.detach().T).diagonal().mean() == pytest.approx(-0.4, abs=0.03)


@pytest.mark.parametrize("init", [comparison.mimetic, comparison.impulse])
def test_inits_of_attention_are_the_same_whatever_the_default_device(init: Any) -> None:
    torch.manual_seed(0)
    expected = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1)
    model = copy.deepcopy(expected)
    torch.manual_seed(0)
    init(expected, 0)
    torch.manual_seed(0)
    with torch.device("meta"):
        init(model, 0)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in model.state_dict().items())


def test_impulses_want_a_square_grid_of_patches() -> None:
    with pytest.raises(ComparisonError, match="Tiny has no plain attention with a positional embedding of a square grid"):
        comparison.impulse(tiny(), 0)
    with pytest.raises(ComparisonError, match="of a square grid"):
        comparison.impulse(timm.create_model("vit_tiny_patch16_224", img_size=(32, 64), depth=1), 0)


class Attention(nn.Module):
    """The layers of an attention, run one after the other."""

    def __init__(self, qkv: int = 24, inner: int = 8, heads: int = 2, head_first: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj, self.num_heads, self.head_first = nn.Linear(8, qkv), nn.Linear(inner, 8), heads, head_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.qkv(x)[..., : self.proj.in_features])


@pytest.mark.parametrize("other", [{"qkv": 48}, {"qkv": 40, "inner": 16}, {"heads": 3}, {"heads": None}, {"head_first": True}])
def test_attention_of_other_shapes_is_not_made_mimetic(other: dict[str, Any]) -> None:
    model = nn.Sequential(Attention(**other))
    assert "mimetic" not in comparison.applicable(model)
    with pytest.raises(ComparisonError, match="Sequential has no attention with square `qkv` and `proj`, and `num_heads`"):
        comparison.mimetic(model, 0)
    mixed = nn.Sequential(Attention(**other), Attention())
    before = [p.detach().clone() for p in mixed.parameters()]
    assert "mimetic" in comparison.applicable(mixed)
    comparison.mimetic(mixed, 0)
    changed = [not torch.equal(p, q) for p, q in zip(mixed.parameters(), before, strict=True)]
    assert changed == [False] * 4 + [True, False, True, False]


def test_positions_without_class_token_become_sinusoidal() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=1, img_size=32, embed_dim=24, no_embed_class=True)
    comparison.mimetic(model, 0)
    torch.testing.assert_close(model.pos_embed[0].detach().square().sum(1), torch.full((4,), 12.0))


def test_what_suits_a_model() -> None:
    own = [ghn_init.DEFAULT, f"{ghn_init.DEFAULT}+noise", f"{ghn_init.DEFAULT}+orthogonal+noise"]
    assert comparison.applicable(tiny()) == ["default", "orthogonal", *own]
    zero = timm.create_model("resnet18")
    assert "zero-gamma" not in comparison.applicable(zero)  # it is timm's default
    assert "zero-gamma" in comparison.applicable(timm.create_model("resnet18", zero_init_last=False))
    with torch.device("meta"):
        suits = comparison.applicable(timm.create_model("vit_tiny_patch16_224"))
        assert suits == ["default", "orthogonal", "mimetic", *own, f"{own[-1]}+weights"]
        assert "zero-gamma" in comparison.applicable(torchvision.models.resnet18())


def test_predicted_inits_go_by_name() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))

    conditions = {"": "auto", "+noise": "noise", "+orthogonal+weights": Conditioning("orthogonal", vectors=False)}
    for text, condition in conditions.items():
        model = network()
        comparison.named(ghn_init.DEFAULT + text)(model, 3)
        expected = ghn_init.initialize(network(), seed=3, condition=condition)
        assert all(torch.equal(p, expected.get_parameter(name)) for name, p in model.named_parameters()), text


def test_models_for_one_size_are_traced_on_the_images_they_are_trained_on() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 3, 18, 14))
            self.head = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((x + self.position).mean((2, 3)))

    data = [(torch.randn(4, 3, 18, 14), torch.tensor([0, 1, 2, 0]))]
    found = ghn_init.compare(Odd, data, data, steps=1, seeds=1, rates=(0.1,))
    assert ghn_init.DEFAULT in found.inits


def test_names_with_conditions() -> None:
    torch.manual_seed(0)
    models = [nn.Sequential(nn.Conv2d(3, 128, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 3)) for _ in range(2)]
    for model, name in zip(models, (ghn_init.DEFAULT, f"{ghn_init.DEFAULT}+noise"), strict=True):
        comparison.named(name)(model, 0)
    raw, noisy = (model[0].weight.detach() for model in models)
    assert torch.equal(raw[:64], raw[64:])  # tiled
    assert not torch.equal(noisy[:64], noisy[64:])
    with pytest.raises(ComparisonError, match="has the condition 'twice'; expected orthogonal, noise, orth"):
        comparison.named(f"{ghn_init.DEFAULT}+twice")


def test_heads_are_kept_unless_asked_for() -> None:
    def head_after(write: comparison.Init) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
        write(model, 0)
        return model[3].weight.detach()

    own = head_after(comparison.named("default"))
    assert torch.equal(head_after(comparison.predicted(ghn_init.load())), own)
    assert not torch.equal(head_after(comparison.predicted(ghn_init.load(), head="cifar10")), own)


def worst(model: nn.Module, seed: int) -> None:
    for p in model.parameters():
        nn.init.zeros_(p)


def test_a_race_is_fair_and_has_a_winner() -> None:
    seen: list[Run] = []
    found = ghn_init.compare(
        tiny,
        loader(True),
        loader(False),
        {"default": comparison.named("default"), "zeros": worst},
        steps=30,
        seeds=3,
        rates=(1e-6, 0.1),
        checks=3,
        on_run=seen.append,
    )
    assert found.inits == ["default", "zeros"]
    assert found.winner == "default"
    assert {run.lr for run in found.of("default")} == {0.1}
    assert [run.seed for run in found.of("default")] == [0, 1, 2]
    assert len(found.tuning) == 4
    assert seen == [*found.tuning, *found.runs]
    assert found.runs[0].steps == (10, 20, 30)
    assert "winner: default" in str(found)


def test_learning_rate_and_weight_decay_are_chosen_on_data_of_their_own() -> None:
    images = colours()
    swapped = torch.utils.data.TensorDataset(images.normalise(images.pixels), (images.labels + 1) % 3)
    used: list[str] = []

    def noted(name: str, batches: Iterable[Any]) -> Iterable[Any]:
        class Noted:
            def __iter__(self) -> Iterator[Any]:
                used.append(name)
                yield from batches

        return Noted()

    seen: list[float] = []

    def optimizer(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        seen.append(weight_decay)
        return torch.optim.SGD(parameters, lr, 0.9, weight_decay=weight_decay)

    inits = {"default": comparison.named("default"), "zeros": worst}
    found = ghn_init.compare(
        tiny,
        noted("data", loader(True)),
        noted("data", loader(False)),
        inits,
        steps=30,
        seeds=1,
        rates=(1e-6, 0.1),
        weight_decays=(0.0, 0.5),
        tuning=(
            noted("own", loader(True)),
            noted("own", torch.utils.data.DataLoader(swapped, 16)),
        ),  # what is learnt is wrong there: better not to learn
        optimizer=optimizer,
    )
    assert [(run.lr, run.weight_decay) for run in found.tuning[:4]] == [(1e-6, 0.0), (1e-6, 0.5), (0.1, 0.0), (0.1, 0.5)]
    assert found.of("default")[0].lr == 1e-6
    assert sorted(used[:4]) == ["data", "data", "own", "own"]  # looked at before the race
    used = used[4:]
    assert used == sorted(used, key=["own", "data"].index)
    assert used.count("own") == 4 * used.count("data") > 0
    assert seen == [run.weight_decay for run in (*found.tuning, *found.runs)]


def test_equal_inits_are_equal_and_nobody_wins() -> None:
    twins = {"one": comparison.named("default"), "two": comparison.named("default")}
    found = ghn_init.compare(tiny, loader(True), loader(False), twins, steps=4, seeds=2, rates=(0.05,))
    assert [run.accuracies for run in found.of("one")] == [run.accuracies for run in found.of("two")]
    assert found.winner is None
    assert found.tuning == ()


def test_a_generator_of_the_loaders_own_gives_all_inits_the_same_batches() -> None:
    generator = torch.Generator()
    data = torch.utils.data.DataLoader(loader(False).dataset, 16, shuffle=True, generator=generator)
    twins, before = {"one": comparison.named("default"), "two": comparison.named("default")}, generator.get_state()
    found = ghn_init.compare(tiny, data, loader(False), twins, steps=4, seeds=2, rates=(0.05,))
    assert [run.losses for run in found.of("one")] == [run.losses for run in found.of("two")]
    ghn_init.compare(tiny, data, loader(False), ["default", "orthogonal"], steps=1, seeds=1, rates=(0.05,))
    assert torch.equal(generator.get_state(), before)


def test_an_init_may_draw_random_numbers_without_changing_the_batches() -> None:
    class Recorded:
        def __iter__(self) -> Iterator[Any]:
            for images, labels in loader(True):
                seen.append(labels.tolist())
                yield images, labels

    def plain(model: nn.Module, seed: int) -> None:
        starts.append((seed, next(model.parameters()).sum().item()))

    def drawing(model: nn.Module, seed: int) -> None:
        plain(model, seed)
        torch.randn(17)

    class Noted(Tiny):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.add((torch.is_grad_enabled(), self.training))
            return super().forward(x)

    seen: list[list[int]] = []
    starts: list[tuple[int, float]] = []
    modes: set[tuple[bool, bool]] = set()
    inits = {"one": plain, "two": drawing}
    ghn_init.compare(lambda: Noted(1, 8), Recorded(), loader(False), inits, steps=4, seeds=2, rates=(0.05,))
    del seen[0]  # looked at before the race
    assert seen[:8] == seen[8:]
    assert seen[:4] != seen[4:8]
    assert starts[:2] == starts[2:]
    assert [seed for seed, _ in starts] == [0, 1, 0, 1]
    assert starts[0][1] != starts[1][1]
    assert modes == {(True, True), (False, False)}


def test_the_default_optimizer_decays_weights() -> None:
    optimizer = sgd(tiny().parameters(), 0.1, 0.3)
    assert {key: optimizer.defaults[key] for key in ("lr", "momentum", "weight_decay")} == {
        "lr": 0.1, "momentum": 0.9, "weight_decay": 0.3,
    }  # fmt: skip


def test_the_optimizers_own_momentum_and_groups_stay() -> None:
    seen: list[list[tuple[float, float]]] = []

    class Noted(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            seen.append([(group["momentum"], group["lr"]) for group in self.param_groups])
            super().step()

    def noted(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        first, *others = parameters
        return Noted([{"params": [first], "lr": lr / 10}, {"params": others}], lr, momentum=0.3)

    def adagrad(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(parameters, lr)  # has no momentum

    for optimizer in (noted, adagrad):
        ghn_init.compare(
            tiny, loader(True), loader(False), ["default", "orthogonal"],
            steps=11, seeds=1, rates=(0.1,), checks=1, optimizer=optimizer,
        )  # fmt: skip
    assert {momentum for groups in seen for momentum, _ in groups} == {0.3}
    first, others = (max(groups[k][1] for groups in seen) for k in (0, 1))
    assert others == pytest.approx(0.1, rel=0.05)
    assert first == pytest.approx(others / 10)


def test_answers_that_are_no_numbers_are_wrong_answers() -> None:
    class Broken(Tiny):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * math.nan

    first = [(torch.randn(8, 3, 16, 16), torch.arange(8) % 2)]  # argmax takes NaN for 0
    twins = {"one": comparison.named("default"), "two": comparison.named("default")}
    found = ghn_init.compare(lambda: Broken(1, 8), first, first, twins, steps=1, seeds=1, rates=(0.1,))
    assert {run.final for run in found.runs} == {0.0}


def test_a_race_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ghn_init.compare(tiny, loader(True), loader(False), ["default", "orthogonal"], steps=1, seeds=1, rates=(0.1,))
    assert torch.equal(torch.rand(3), expected)


def test_augmentations_are_the_same_for_all_inits_whatever_they_draw_from() -> None:
    class Augmented(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 32

        def __getitem__(self, k: int) -> Any:
            return images[k] * (1 + np.random.rand()) + random.random(), k % 3  # noqa: NPY002

    def made() -> nn.Module:
        np.random.rand()  # noqa: NPY002
        return tiny()

    def drawing(model: nn.Module, seed: int) -> None:
        random.random()
        np.random.rand(17)  # noqa: NPY002

    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1:3]]  # noqa: NPY002

    images = torch.randn(32, 3, 16, 16)
    data = torch.utils.data.DataLoader(Augmented(), 8, shuffle=True)
    inits = {"one": lambda model, seed: None, "two": drawing}
    before = states()
    found = ghn_init.compare(made, data, data, inits, steps=3, seeds=1, rates=(0.1,))
    torch.testing.assert_close(states(), before)
    one, two = found.runs
    assert (one.accuracies, one.losses) == (two.accuracies, two.losses)
    random.random()
    np.random.rand()  # noqa: NPY002
    assert ghn_init.compare(made, data, data, inits, steps=3, seeds=1, rates=(0.1,)).runs == found.runs
    before = states()
    ghn_init.compare(made, data, data, ["default", "orthogonal"], steps=1, seeds=1, rates=(0.1,))
    torch.testing.assert_close(states(), before)


def test_models_that_cannot_race() -> None:
    def race(make: Callable[[], nn.Module]) -> None:
        ghn_init.compare(make, loader(True), loader(False), ["default", "orthogonal"], steps=1, seeds=1, rates=(0.1,))

    same = tiny()
    before = copied(state(same))
    with pytest.raises(ComparisonError, match="a Tiny whose parameter 'body.0.weight' is also .* of the one that it made"):
        race(lambda: same)
    assert not changed(state(same), before)
    assert same.training
    with pytest.raises(ComparisonError, match="parameter '0.body.0.weight' is also"):
        race(lambda: nn.Sequential(same, nn.Linear(3, 3)))
    assert not changed(state(same), before)
    with pytest.raises(ComparisonError, match=r"Conv2d fails on images of shape \(16, 3, 16, 16\) \(RuntimeError: .*channels"):
        race(lambda: nn.Conv2d(5, 3, 3))
    with pytest.raises(ComparisonError, match=r"Images gives a tensor of shape \(16, 3, 16, 16\) for 16 images"):
        race(Images)
    with pytest.raises(ComparisonError, match="labels go from 0 to 2, and Fn has classes 0 to 1"):
        race(lambda: Fn(lambda m, x: m.head(x.flatten(1)), head=nn.Linear(768, 2)))


class Images(Tiny):
    """Whose logits are images."""

    def __init__(self) -> None:
        super().__init__(1, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Pair(Tiny):
    """Whose first output is the logits, as of models with auxiliary heads."""

    def __init__(self) -> None:
        super().__init__(1, 8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return super().forward(x), x


def test_a_name_of_no_init_is_said_to_be_none() -> None:
    with pytest.raises(
        ComparisonError, match="there is no init 'predicted'; expected one of default, .*, GHN.CONDITION.weights.$"
    ):
        comparison.named("predicted")
    with pytest.raises(ComparisonError, match="there is no init 'ghn9'; .* As a GHN: 'ghn9' is neither a bundled checkpoint"):
        comparison.named("ghn9")


def test_mappings_and_models_of_several_outputs_race_as_others() -> None:
    pairs = list(loader(False))
    mappings = [{"pixels": images, "label": labels} for images, labels in pairs]
    setting: dict[str, Any] = {"inits": ["default", "orthogonal", "lsuv"], "steps": 3, "seeds": 1, "rates": (0.1,)}
    plain = ghn_init.compare(lambda: Tiny(1, 8), pairs, pairs, **setting)
    assert ghn_init.compare(lambda: Tiny(1, 8), mappings, mappings, **setting).runs == plain.runs
    setting["inits"] = ["default", "orthogonal"]
    several = ghn_init.compare(Pair, pairs, pairs, **setting)
    assert all(several.of(name) == plain.of(name) for name in setting["inits"])


def runs(name: str, *finals: float) -> list[Run]:
    return [Run(name, 0.1, 0.0, seed, (5,), (final,)) for seed, final in enumerate(finals)]


def test_the_winner_by_hand() -> None:
    clear = Comparison((*runs("a", 80, 82, 84), *runs("b", 70, 73, 74)), ())
    assert clear.winner == "a"  # gaps of 10, 9 and 10
    assert clear.deviation("a") == 2
    assert Comparison((*runs("a", 80, 70, 90), *runs("b", 79, 75, 80)), ()).winner is None  # gaps of 1, −5 and 10
    assert Comparison((*runs("a", 84, 81, 80), *runs("b", 80, 80, 80)), ()).winner is None  # 1.7, standard error 1.2
    assert Comparison((*runs("a", 80), *runs("b", 10)), ()).winner is None  # one seed says nothing
    few = Comparison((*runs("a", 80, 82, 83), *runs("b", 78, 79, 78)), ())
    assert few.winner is None  # gaps of 2, 3 and 5: 3.3, standard error 0.9, of which three seeds take 4.3


def test_seeds_that_change_nothing_tell_nothing_of_chance() -> None:
    batches = list(loader(False))

    def flat() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3))

    def smaller(model: nn.Module, seed: int) -> None:
        with torch.no_grad():
            model[2].weight.mul_(0.1)  # type: ignore[index, operator, union-attr]

    def race(make: Any, train: Any) -> Comparison:
        inits: dict[str, Any] = {"own": lambda model, seed: None, "smaller": smaller}
        return ghn_init.compare(make, train, batches, inits, steps=4, rates=(0.05,))

    same = race(flat(), batches)
    assert same.alike == same.inits
    assert same.behind(same.inits[1])[1] == math.inf
    assert same.winner is None
    assert (
        " and ".join(same.inits) + ": the same run with each seed, whose chance is in no interval; pass a function"
        in same.verdict
    )
    for other in (race(flat, batches), race(flat(), loader(True))):
        assert other.alike == []
        assert other.behind(other.inits[1])[1] < math.inf
        assert "the same run" not in other.verdict


def test_a_last_batch_of_one_image_is_left_out() -> None:
    pairs = [(torch.randn(n, 3, 4, 4), torch.arange(n) % 3) for n in (8, 1)]

    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 4), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3))

    setting: dict[str, Any] = {"inits": ["default", "orthogonal"], "steps": 3, "seeds": 1, "rates": (0.1,)}
    assert ghn_init.compare(make, pairs, pairs, **setting).runs == ghn_init.compare(make, pairs[:1], pairs, **setting).runs
    with pytest.raises(ComparisonError, match="norms need two images: pass larger batches, or drop_last=True"):
        ghn_init.compare(make, [(x[:1], y) for x, _ in pairs for y in torch.arange(2).split(1)], pairs, **setting)


@pytest.mark.parametrize("place", [0, 1])
def test_batches_without_an_image_are_left_out(place: int) -> None:
    data = [(torch.randn(8, 3, 16, 16), torch.arange(8) % 3)]
    setting: dict[str, Any] = {"inits": ["default", "orthogonal"], "steps": 3, "seeds": 1, "rates": (0.1,)}
    expected = ghn_init.compare(tiny, data, data, **setting)
    data.insert(place, (data[0][0][:0], data[0][1][:0]))
    assert ghn_init.compare(tiny, data, data, **setting).runs == expected.runs


def test_nothing_is_raced_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = tiny()
    for make in (model, lambda: Tiny(2, 8).to("meta")):
        with pytest.raises(ComparisonError, match="Tiny is on the meta device, where it has no values to train; make it on"):
            ghn_init.compare(make, loader(True), loader(False), ["default", "orthogonal"])


def test_images_and_labels_in_the_place_of_a_loader_are_refused() -> None:
    images = colours()
    pair = (images.normalise(images.pixels), images.labels)
    with pytest.raises(
        ComparisonError, match=r"train_loader: .*expected a loader, which yields batches: \[\(images, labels\)\]"
    ):
        ghn_init.compare(tiny, pair, loader(False))
    with pytest.raises(ComparisonError, match=r"val_loader: .*expected a loader, which yields batches: \[\(images, labels\)\]"):
        ghn_init.compare(tiny, loader(False), pair)


def test_one_init_in_the_place_of_several_is_refused() -> None:
    with pytest.raises(ComparisonError, match=r"inits is 'default'; expected several to compare: pass \['default', …\]"):
        ghn_init.compare(tiny, loader(True), loader(False), "default")


def test_the_table_says_what_may_be_chance() -> None:
    found = Comparison((*runs("a", 80, 82, 83), *runs("b", 78, 79, 78), *runs("c", 60, 62, 64)), ())
    assert found.behind("b") == pytest.approx((10 / 3, 4.303 * 1.52753 / 3**0.5), abs=1e-3)
    assert found.table() == [
        ("init", "accuracy, %", "behind the first", "learning rate", "weight decay"),
        ("a", "81.7 ± 1.5", "", "0.1", "0"),
        ("b", "78.3 ± 0.6", "3.3 ± 3.8 (noise)", "0.1", "0"),
        ("c", "62.0 ± 2.0", "19.7 ± 1.4", "0.1", "0"),
    ]
    assert found.verdict == "no winner: the first is not surely ahead of all others (95 %); 3 seeds"
    assert str(found).splitlines()[2].split() == ["b", "78.3", "±", "0.6", "3.3", "±", "3.8", "(noise)", "0.1", "0"]
    alone = Comparison((*runs("a", 80), *runs("b", 10)), ())
    assert alone.table()[2] == ("b", "10.0", "70.0", "0.1", "0")
    assert alone.verdict.endswith("; 1 seed, which tells nothing of chance")


def test_equal_differences_of_few_images_have_a_width() -> None:
    """They are 2 of 60 images: the share is no surer than 4 of 64 images make it."""
    found = Comparison(tuple(replace(run, images=60) for run in (*runs("a", 80, 70), *runs("b", 80 - 10 / 3, 70 - 10 / 3))), ())
    deviation = 100 * (4 / 64 * 60 / 64 / 64) ** 0.5
    assert found.behind("b") == pytest.approx((10 / 3, 1.96 * deviation))
    assert found.winner is None


def test_of_coarse_accuracies_of_equal_inits_few_have_a_winner() -> None:
    """60 images that each of two tells rightly with the same chance, which a seed shifts; two seeds."""
    torch.manual_seed(0)
    won = 0
    for _ in range(400):
        right = (torch.rand(2, 2, 60) < 0.5 + 0.02 * torch.randn(2, 2, 1)).double().mean(2) * 100
        a, b = right.tolist()
        won += Comparison(tuple(replace(run, images=60) for run in (*runs("a", *a), *runs("b", *b))), ()).winner is not None
    assert won / 400 < 0.05


def test_inits_that_do_not_differ_seldom_have_a_winner() -> None:
    """Of normal accuracies with the same mean, 5 % of the races of two."""
    torch.manual_seed(0)
    drawn = 70 + torch.randn(1000, 2, 3, dtype=torch.float64)
    found = [Comparison((*runs("a", *a), *runs("b", *b)), ()).winner for a, b in drawn.tolist()]
    assert 0.03 < sum(winner is not None for winner in found) / len(found) < 0.07


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inits": ["default"]}, "there is default alone to race; a race needs two inits."),
        ({"inits": {}}, "there is no init alone to race; a race needs two inits."),
        ({"inits": ["default", "orthogonal", "default"]}, "the init 'default' stands in inits twice; name each once"),
        ({"steps": 0}, "steps is 0; expected a whole number, 1 at least"),
        ({"steps": 2.5}, "steps is 2.5; expected a whole number, 1 at least"),
        ({"seeds": "a"}, "seeds is 'a'; expected a whole number, 1 at least"),
        ({"rates": ()}, "rates is empty; a race needs one at least"),
        ({"weight_decays": ()}, "weight_decays is empty; a race needs one at least"),
        ({"checks": 0}, "checks is 0; expected a whole number, 1 at least"),
        ({"rates": ("fast",)}, r"learning rates \['fast'\], weight decays"),
        (
            {"optimizer": 3},
            "the optimizer 3 can't be made of parameters, lr and weight_decay .*; pass a function such as lambda",
        ),
        ({"rates": (0.1, -1.0)}, r"learning rates \[0.1, -1.0\], weight decays \[0.0005\]: expected finite"),
        ({"rates": (math.nan,)}, r"learning rates \[nan\]"),
        ({"weight_decays": (-0.1,)}, r"weight decays \[-0.1\]"),
        ({"train_loader": []}, "train_loader has no batches"),
        ({"val_loader": []}, "val_loader has no batches"),
        ({"train_loader": None}, "train_loader is a NoneType; expected a loader, which yields batches"),
        ({"train_loader": loader(False).dataset}, "train_loader is a TensorDataset; expected a loader, which yields"),
        ({"val_loader": loader(False).dataset}, "val_loader is a TensorDataset; expected a loader, which yields"),
        ({"val_loader": [x for x, _ in loader(False)]}, "val_loader: the loader yields images without labels"),
        ({"val_loader": [(x, y.float()) for x, y in loader(False)]}, "val_loader: the labels are torch.float32"),
        ({"tuning": (loader(True), [])}, r"tuning\[1\] has no batches"),
        ({"train_loader": [(x, y * 0) for x, y in loader(False)]}, "all 32 images of train_loader are of class 0; nothing can"),
        ({"val_loader": [(x, y * 0 + 2) for x, y in loader(False)]}, "all 60 images of val_loader are of class 2; nothing"),
        (
            {"train_loader": [(x.log(), y) for x, y in loader(False)]},
            "train_loader: of 16 images of a batch 16 hold values that",
        ),
        ({"inits": ["default", "mimetic"]}, "the init 'mimetic' can't race: Tiny has no attention"),
        ({"inits": ["default", "impulse"]}, "the init 'impulse' can't race: Tiny has no plain attention"),
        ({"inits": ["default", "zero-gamma"]}, "the init 'zero-gamma' can't race: Tiny has no residual branch"),
        (
            {"inits": None, "train_loader": [(x[:, :1], y) for x, y in loader(False)]},
            "failed on .* from the loader: .* Let the l",
        ),
    ],
)
def test_races_that_cannot_be_run(changes: dict[str, object], words: str) -> None:
    options = {"train_loader": loader(True), "val_loader": loader(False), "inits": ["default", "orthogonal"], "steps": 2}
    seen: list[Run] = []
    with pytest.raises(ComparisonError, match=words):
        ghn_init.compare(tiny, **{**options, "on_run": seen.append, **changes})  # type: ignore[arg-type]
    assert seen == []


def test_a_model_without_classes_does_not_race() -> None:
    model = tiny()
    model.num_classes = 0  # type: ignore[assignment]
    with pytest.raises(ComparisonError, match=r"Tiny has no classes \(num_classes is 0\)"):
        ghn_init.compare(model, loader(True), loader(False), ["default", "orthogonal"])


def test_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(Comparison((*runs("a", 80, 82), *runs("b", 70, 73)), ()), tmp_path / "race.png")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


PARAMETRIZED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
}


def normed(kind: Any) -> nn.Module:
    torch.manual_seed(0)
    layers = [kind(nn.Conv2d(3, 8, 3)), nn.ReLU(), kind(nn.Conv2d(8, 8, 3)), nn.ReLU(), nn.Flatten(), kind(nn.Linear(1152, 3))]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("name", ["orthogonal", "dirac", "whitened", "lsuv"])
@pytest.mark.parametrize("kind", PARAMETRIZED)
def test_classical_inits_write_through_parametrizations(kind: str, name: str) -> None:
    images = colours().normalise(colours().pixels)
    model, before = normed(PARAMETRIZED[kind]), normed(PARAMETRIZED[kind])
    comparison.named(name, images[:2], images)(model, 0)
    for k in (0, 2):
        assert not torch.allclose(model[k].weight, before[k].weight, atol=1e-3)
    if name == "orthogonal":
        rows = model[2].weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(8), atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_a_hook_computes_is_said_to_be_none_that_an_init_writes() -> None:
    model = normed(nn.utils.weight_norm)
    with pytest.raises(ComparisonError, match="weight of a Conv2d is computed from other parameters, by a hook"):
        comparison.named("orthogonal")(model, 0)
    assert "orthogonal" not in comparison.applicable(model, torch.zeros(2, 3, 16, 16))


def test_what_can_be_read_once_is_refused() -> None:
    data = list(loader(shuffle=False))
    for loaders in ((iter(data), data), (data, iter(data))):
        with pytest.raises(ComparisonError, match="_loader is a list_iterator, which is used up"):
            ghn_init.compare(tiny, *loaders, ["default", "orthogonal"], steps=1, seeds=1)
    with pytest.raises(ComparisonError, match="is used up"):
        ghn_init.compare(tiny, data, data, ["default", "orthogonal"], steps=1, seeds=1, tuning=(data, iter(data)))
    with pytest.raises(ComparisonError, match="Iter, which is used up"):
        ghn_init.compare(tiny, iter(loader(shuffle=False)), data, ["default", "orthogonal"], steps=1, seeds=1)


def test_a_race_without_gradients_around_it_and_labels_that_judge() -> None:
    data = list(loader(shuffle=False))
    with torch.no_grad():
        found = ghn_init.compare(tiny, data, data, ["default", "orthogonal"], steps=2, seeds=1, rates=(0.1,))
    assert len(found.runs) == 2
    with pytest.raises(ComparisonError, match="labels go from .* to 7"):
        ghn_init.compare(tiny, data, [(x, y + 5) for x, y in data], ["default", "orthogonal"], steps=2, seeds=1)


class Symmetric(nn.Module):
    """PyTorch's own example of a parametrization, without an inverse."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


def test_a_parametrization_without_an_inverse_is_left_out_of_the_race() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    nn.utils.parametrize.register_parametrization(model[1], "weight", Symmetric())
    assert "orthogonal" not in comparison.applicable(model, torch.zeros(2, 3, 2, 2))
    with pytest.raises(ComparisonError, match="by a parametrization without right_inverse"):
        comparison.named("orthogonal")(model, 0)


def test_spectral_norms_know_what_an_init_has_written() -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(32, 16)).eval()
    comparison.named("orthogonal")(nn.Sequential(layer), 0)
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight), torch.ones(16), rtol=0, atol=1e-2)


def zero_gammas() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=3)


def small() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.randn(6, 3, 32, 32), torch.arange(6) % 3)]


@pytest.mark.parametrize("inits", [None, ["default", "zero-gamma", "orthogonal"]])
def test_zero_gammas_that_are_the_default_are_left_out_aloud(
    inits: list[str] | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comparison.inits, "bundled", dict)
    found = ghn_init.compare(zero_gammas, small(), small(), inits, steps=1, seeds=1, rates=(0.01,))
    assert set(found.inits) == {"default", "orthogonal"}
    assert found.verdict.endswith("; zero-gamma: the model's default already")
    with pytest.raises(
        ComparisonError, match="there is default alone to race; a race needs two inits; zero-gamma: the model's default already"
    ):
        ghn_init.compare(zero_gammas, small(), small(), ["default", "zero-gamma"], steps=1, seeds=1)


def test_a_race_says_nothing_of_running_statistics(caplog: pytest.LogCaptureFixture) -> None:
    api._say_that_statistics_are_of_noise.cache_clear()
    ghn_init.compare(zero_gammas, small(), small(), ["default", "ghn2-small"], steps=1, seeds=1, rates=(0.01,))
    assert "running statistics" not in caplog.text


def test_a_model_is_compared_by_copies() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = [(torch.randn(6, 3, 16, 16), torch.arange(6) % 3)]
    found = ghn_init.compare(model, data, data, ["default", "orthogonal"], steps=1, seeds=2, rates=(0.01,))
    assert len(found.runs) == 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_frozen_model_has_nothing_to_race() -> None:
    frozen = tiny().requires_grad_(False)
    with pytest.raises(ComparisonError, match="all parameters of Tiny are frozen; there is nothing to train"):
        ghn_init.compare(frozen, loader(True), loader(False), ["default", "orthogonal"], steps=1, seeds=1)


@pytest.mark.parametrize("made", [True, False])
def test_a_race_leaves_inference_mode(made: bool) -> None:
    make = tiny if made else tiny()
    expected = ghn_init.compare(make, loader(True), loader(False), ["default", "orthogonal"], steps=2, seeds=1, rates=[0.1])
    with torch.inference_mode():
        found = ghn_init.compare(make, loader(True), loader(False), ["default", "orthogonal"], steps=2, seeds=1, rates=[0.1])
    assert found == expected


@pytest.mark.parametrize(
    "verb",
    [
        lambda: ghn_init.compare(tiny, loader(True), loader(False), ["default", "orthogonal"], device="meta"),
        lambda: ghn_init.load(device="meta"),
        lambda: ghn_init.predict(tiny(), device="meta"),
    ],
    ids=["compare", "load", "predict"],
)
def test_nothing_is_computed_on_the_meta_device(verb: Callable[[], Any]) -> None:
    with pytest.raises(DeviceError, match="device is 'meta', on which nothing is computed"):
        verb()


@pytest.mark.parametrize("name", ["rates", "weight_decays"])
def test_one_number_is_not_several(name: str) -> None:
    with pytest.raises(ComparisonError, match=rf"{name} is 0.1; expected several to choose from: pass \[0.1\]"):
        ghn_init.compare(tiny, [], [], {}, **{name: 0.1})
    if name == "rates":
        with pytest.raises(ComparisonError, match="rates is 0.1; expected several"):
            ghn_init.choose(tiny(), [], rates=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, iter, lambda rates: [np.float32(rate) for rate in rates]])
def test_rates_are_several_in_whatever_holds_them(ghn: GHN, kind: Any) -> None:
    data, two = small(), {"default": lambda model, seed: None, "zeros": worst}
    found = ghn_init.compare(tiny, data, data, two, steps=1, seeds=1, rates=kind([0.125, 0.25]))
    assert {(type(run.lr), run.lr) for run in found.tuning} == {(float, 0.125), (float, 0.25)}
    found = ghn_init.compare(tiny, data, data, two, steps=1, seeds=1, weight_decays=kind([0.0, 0.25]))
    assert {run.weight_decay for run in found.tuning} == {0.0, 0.25}
    choice = ghn_init.choose(tiny(), loader(True), ghn, steps=1, rungs=1, batch_size=8, rates=kind([0.125, 0.25]))
    assert {judged.rate for judged in choice.rungs[0]} == {0.125, 0.25}
    json.dumps(choice.to_dict())


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
@pytest.mark.parametrize(
    "verb",
    [
        lambda device: ghn_init.predict(tiny(), device=device),
        lambda device: ghn_init.rank([tiny(), tiny()], [], [], device=device),
        lambda device: ghn_init.score(tiny(), [], [], device=device),
        lambda device: ghn_init.compare(tiny, [], [], {}, device=device),
        lambda device: ghn_init.load(device=device),
        lambda device: ghn_init.load("no such thing", device=device),  # before anything is read
    ],
    ids=["predict", "rank", "score", "compare", "load", "load what is not there"],
)
def test_devices_that_are_not_there(device: str, verb: Callable[[str], Any]) -> None:
    with pytest.raises(DeviceError, match=rf"device is '{device}', which can't be used \(.*\); there is cpu"):
        verb(device)

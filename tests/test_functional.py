"""Models as functions of predicted parameters: what keeps its value holds the model's own, and the model stays as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN, FineTune, ImageTask, ZeroShot
from ghn_init.errors import TrainingError, UnsupportedModelError
from ghn_init.prediction.functional import functional, told_apart
from ghn_init.training.loop import Job, meta_step
from ghn_init.training.networks import Network
from ghn_init.training.objectives import Objective
from helpers import RECIPE, SMALL, Tiny, colours, tiny_networks
from zoo import Fn, conv, param

TASK = ImageTask(colours())


def vit() -> nn.Module:
    return VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=1, num_heads=2, num_classes=3)


def convnext() -> nn.Module:
    return ConvNeXt(patch_size=1, depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=3)


def swin() -> nn.Module:
    return SwinTransformer(
        img_size=16, patch_size=2, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(2, 2), num_classes=3
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "class token": (vit, {"cls_token"}),
    "layer scales": (convnext, {f"stages.{k}.blocks.0.gamma" for k in range(4)}),
    "bias tables": (swin, {f"layers.{k}.blocks.0.attn.relative_position_bias_table" for k in (0, 1)}),
}


@pytest.fixture(params=list(MODELS))
def model(request: pytest.FixtureRequest) -> tuple[nn.Module, set[str]]:
    """A model some of whose parameters keep their values, which are not what its constructor gives them; their names."""
    build, kept = MODELS[request.param]
    torch.manual_seed(0)
    module = build()
    with torch.no_grad():
        for name in kept:
            module.get_parameter(name).normal_()
    return module, kept


@pytest.fixture(scope="module")
def small() -> GHN:
    torch.manual_seed(0)
    return GHN(SMALL).eval()


def test_kept_parameters_hold_the_models_own_values(model: tuple[nn.Module, set[str]]) -> None:
    module, kept = model
    form, _ = functional(module, TASK.example_inputs())
    assert form.kept.keys() == kept
    assert {slot.name for slot in form.slots} == dict(module.named_parameters()).keys() - kept
    parameters = {**{name: p.detach() for name, p in module.named_parameters() if name not in kept}, **form.kept}
    (pixels,), _ = TASK.batch(0, 8, 0)
    expected = module.eval()(pixels)
    torch.testing.assert_close(form(parameters, pixels), expected)
    with torch.no_grad():
        for name in kept:
            module.get_parameter(name).mul_(-1)  # what comes later changes nothing
    torch.testing.assert_close(form({**parameters, **form.kept}, pixels), expected)
    assert not torch.allclose(module(pixels), expected)


@pytest.mark.parametrize("objective", [ZeroShot(), FineTune(steps=1)], ids=["zero-shot", "fine-tune"])
def test_models_with_kept_parameters_are_trained_on(model: tuple[nn.Module, set[str]], objective: Objective) -> None:
    module, _ = model
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(0)
    ghn, network = GHN(SMALL), Network.of(module, TASK)
    batches = [TASK.batch(number, 16, 0) for number in range(objective.batches)]
    sums = meta_step(ghn, [Job(network, batches, "key")], objective, RECIPE)
    assert sums["images"].networks == 1
    assert torch.isfinite(torch.tensor(sums["images"])).all()
    gradients = torch.cat([p.grad.flatten() for p in ghn.parameters() if p.grad is not None])
    assert torch.isfinite(gradients).all()
    assert gradients.norm() > 0
    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert not any(value.requires_grad for value in network.kept.values())


def test_models_with_kept_parameters_are_trained_on_and_evaluated(
    model: tuple[nn.Module, set[str]], small: GHN, tmp_path: Path
) -> None:
    module, kept = model
    recipe: dict[str, Any] = {"ghn": small, "config": RECIPE, "steps": 2, "meta_batch": 1, "pool": 1}
    losses: list[float] = []
    trained = ghn_init.train(TASK, tmp_path, architectures=[module], on_step=lambda p: losses.append(p.loss), **recipe)
    assert torch.isfinite(torch.tensor(losses)).all()
    assert not torch.equal(trained.decoder.fc[0].weight, small.decoder.fc[0].weight)
    own = {name: module.get_parameter(name).detach().clone() for name in kept}
    (result,) = ghn_init.evaluate(TASK.images, small, networks=[module]).results
    ghn_init.initialize(module, small, TASK.example_inputs(), head="images").eval()
    assert all(torch.equal(module.get_parameter(name), value) for name, value in own.items())
    right = 0
    with torch.no_grad():
        right = int((module(TASK.images.normalise(TASK.images.pixels)).argmax(1) == TASK.images.labels).sum())
    assert result.accuracy == pytest.approx(100 * right / len(TASK.images.labels))


class Counting(Tiny):
    """Counts the calls of its forward in a number, in a buffer and in a list."""

    def __init__(self) -> None:
        super().__init__(1, 8)
        self.calls, self.shapes = 0, []  # type: ignore[var-annotated]
        self.register_buffer("counted", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.counted += 1
        self.shapes.append(tuple(x.shape))
        return super().forward(x)


def test_a_forward_that_counts_its_calls_has_counted_none(small: GHN, tmp_path: Path) -> None:
    module = Counting()
    ghn_init.train(TASK, tmp_path, architectures=[module], ghn=small, config=RECIPE, steps=2, meta_batch=1, pool=1)
    ghn_init.evaluate(TASK.images, small, networks=[module])
    assert (module.calls, module.counted.item(), module.shapes) == (0, 0, [])
    module(torch.zeros(2, 3, 16, 16))
    assert (module.calls, module.counted.item(), module.shapes) == (1, 1, [(2, 3, 16, 16)])


def gated() -> nn.Module:
    return Fn(lambda m, x: m.fc((m.conv(x) * m.gate).mean((2, 3))), conv=conv(), gate=param(1, 8, 1, 1), fc=nn.Linear(8, 3))


def test_a_model_without_values_for_what_it_keeps_is_one_error(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = gated()
    words = (
        r"'gate' of Fn keeps its value \(.*scales a stream.*\), but the model is on the meta device, without values; make it on"
    )
    with pytest.raises(UnsupportedModelError, match=f"^{words} the CPU.$"):
        functional(module, TASK.example_inputs())
    with pytest.raises(TrainingError, match=f"^a network of the task 'images' can't be trained on: {words}"):
        ghn_init.train(TASK, tmp_path, architectures=[module], ghn=SMALL, config=RECIPE, meta_batch=1)


def test_a_model_without_values_will_do_where_all_is_predicted(small: GHN) -> None:
    with torch.device("meta"):
        module = Tiny(2, 8)
    form, _ = functional(module, TASK.example_inputs())
    assert form.kept == {}
    with torch.no_grad():
        (cores,) = small([form.graph], [form.slots], ["images"])
        (pixels,), _ = TASK.batch(0, 8, 0)
        found = form(form.fill(cores), pixels)
    module = Tiny(2, 8)  # memory without values holds whatever was there, infinities for one
    ghn_init.initialize(module, small, TASK.example_inputs(), head="images").train()
    module.body[-1].eval()  # no dropout
    torch.testing.assert_close(found, module(pixels))


def test_parameters_in_the_same_memory_keep_their_values() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 8, bias=False), nn.Linear(8, 768, bias=False), nn.Linear(768, 3))
    module[2].weight = nn.Parameter(module[1].weight.data.T)
    form, _ = functional(module, TASK.example_inputs())
    assert form.kept.keys() == {"2.weight"}
    assert torch.equal(form.kept["2.weight"], module[2].weight)


def test_whole_numbers_are_kept_and_fine_tuned_around(small: GHN) -> None:
    module = Fn(
        lambda m, x: m.fc(m.conv(x).mean((2, 3)) + m.steps), conv=conv(), fc=nn.Linear(8, 3),
        steps=nn.Parameter(torch.tensor(2), requires_grad=False),
    )  # fmt: skip
    network = Network.of(module, TASK)
    assert network.kept == {"steps": torch.tensor(2)}
    batches = [TASK.batch(number, 16, 0) for number in range(2)]
    ghn = copy.deepcopy(small)
    assert meta_step(ghn, [Job(network, batches, "key")], FineTune(steps=1), RECIPE)["images"].networks == 1
    assert ghn.decoder.fc[0].weight.grad.norm() > 0  # type: ignore[union-attr]


def test_a_model_that_cannot_be_copied_is_one_error() -> None:
    class Single(Tiny):
        def __deepcopy__(self, memo: object) -> Single:
            raise TypeError("there is but one")

    with pytest.raises(UnsupportedModelError, match=r"Single can't be copied \(TypeError: there is but one\)"):
        functional(Single(1, 8), TASK.example_inputs())


def test_modules_are_told_apart_by_classes_settings_names_and_shapes() -> None:
    assert told_apart(tiny_networks()) == told_apart(tiny_networks())
    assert told_apart(tiny_networks()).startswith("6 modules ")
    convolutions = [nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(3, 8, 3, padding="same")]
    activations = [nn.Sequential(nn.Linear(3, 3), kind()) for kind in (nn.ReLU, nn.GELU)]
    others = [[Tiny(1, 8)], [Tiny(2, 8)], [Tiny(1, 12)], [Counting()], [Tiny(1, 8), Tiny(2, 8)], [Tiny(2, 8), Tiny(1, 8)]]
    others += [[one] for one in (*convolutions, *activations)]  # type: ignore[list-item]
    assert len({told_apart(modules) for modules in others}) == len(others)
    assert told_apart([Tiny(1, 8).eval()]) == told_apart([Tiny(1, 8).train()])

"""What hypernetworks are trained for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import ImageTask
from ghn_init.errors import TrainingError
from ghn_init.training.networks import Network
from ghn_init.training.objectives import FineTune, Run, ZeroShot
from helpers import RECIPE, SMALL, Tiny, colours, tiny_networks


def setting(smoothing: float = 0.0) -> tuple[Network, dict[str, Tensor], Run]:
    torch.manual_seed(0)
    module = Tiny(2, 8)
    network = Network.of(module, ImageTask(colours(), label_smoothing=smoothing))
    parameters = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
    return network, parameters, lambda p, inputs: network(p, *inputs)


def test_zero_shot_is_the_cross_entropy() -> None:
    pixels, labels = colours().batch(0, 16, 0)
    for smoothing in (0.0, 0.2):
        network, parameters, run = setting(smoothing)
        logits = run(parameters, (pixels,))
        loss, accuracy = ZeroShot()(network, run, parameters, [((pixels,), labels)], 0)
        torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing))
        assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_fine_tune_gives_the_gradient_at_the_fine_tuned_parameters(smoothing: float) -> None:
    """Against PyTorch's own SGD on a module with the same head."""
    network, parameters, run = setting(smoothing)
    objective = FineTune(steps=3, lr=0.1, classes=3)
    batches = [network.task.batch(k, 24, 0) for k in range(4)]
    loss, accuracy = objective(network, run, parameters, batches, seed=5)
    loss.backward()

    generator = torch.Generator().manual_seed(5)
    module = Tiny(2, 8).train()
    module.body[-1].eval()
    module.load_state_dict({name: p.detach() for name, p in parameters.items()}, strict=False)
    with torch.no_grad():
        for name, p in module.named_parameters():  # in the order in which parameters are predicted
            if name == "head.weight":
                p.copy_(torch.randn(3, 8, generator=generator) / 8**0.5)
            elif name == "head.bias":
                torch.randn(3, generator=generator)
                p.zero_()
    chosen = torch.randperm(3, generator=generator)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for k, ((pixels,), labels) in enumerate(batches):
        renumbered = torch.stack([(chosen == label).nonzero()[0, 0] for label in labels])
        optimizer.zero_grad()
        logits = module(pixels)
        expected = nn.functional.cross_entropy(logits, renumbered, label_smoothing=smoothing)
        expected.backward()
        if k < 3:
            optimizer.step()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(1) == renumbered).float().mean().item())
    for name, p in module.named_parameters():
        if name.startswith("head"):
            assert parameters[name].grad is None
        else:
            torch.testing.assert_close(parameters[name].grad, p.grad, rtol=1e-3, atol=1e-5)


def test_fine_tune_sees_the_images_of_some_classes_only() -> None:
    network, parameters, run = setting()
    sizes: list[int] = []

    def counted(p: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        sizes.append(len(inputs[0]))
        return run(p, inputs)

    batches = [network.task.batch(k, 24, 0) for k in range(2)]
    FineTune(steps=1, classes=2)(network, counted, parameters, batches, seed=0)  # type: ignore[arg-type]
    assert len(sizes) == 2
    assert all(0 < size < 24 for size in sizes)


def test_fine_tune_copes_with_many_classes_and_few_images() -> None:
    network, parameters, run = setting()
    seen: list[int] = []

    def counted(p: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        seen.append(len(inputs[0]))
        return run(p, inputs)

    pixels = torch.randn(6, 3, 16, 16)
    batches = [((pixels[k : k + 2],), torch.tensor([40 + k, 41 + k])) for k in (0, 2, 4)]  # no class twice
    for seed in range(5):
        loss, accuracy = FineTune(steps=2, classes=2)(network, counted, parameters, batches, seed)  # type: ignore[arg-type]
        assert torch.isfinite(loss)
        assert accuracy in (0.0, 0.5, 1.0)  # of two images
    assert set(seen) == {2}


def test_a_hypernetwork_is_trained_for_fine_tuning(tmp_path: Path) -> None:
    """Its classification head stays as it was: users bring their own."""
    torch.manual_seed(0)
    given = ghn_init.GHN(SMALL)
    before = copy.deepcopy(given.state_dict())
    options = {"architectures": tiny_networks(), "config": RECIPE, "steps": 3, "weight_decay": 0.0}
    trained = ghn_init.train(colours(), tmp_path, ghn=given, objective=FineTune(steps=2), **options)
    after = trained.state_dict()
    assert {name for name in before if name.startswith("heads.") and not torch.equal(after[name], before[name])} == set()
    assert not torch.equal(after["decoder.fc.0.weight"], before["decoder.fc.0.weight"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": -1}, "steps is -1; FineTune expects 0 at least"),
        ({"steps": 1.5}, "steps is 1.5; expected a whole number"),
        ({"lr": -1}, "lr is -1; FineTune expects a finite number above 0"),
        ({"lr": float("nan")}, "lr is nan; FineTune expects a finite number above 0"),
        ({"lr": "a"}, "lr is 'a'; expected a number"),
        ({"classes": 1}, "classes is 1; FineTune expects 2 at least: of one class the loss is 0"),
        ({"classes": 0}, "classes is 0; FineTune expects 2 at least"),
    ],
)
def test_settings_of_fine_tuning_that_say_nothing(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        FineTune(**changes)


def test_numbers_of_numpy_are_those_of_python() -> None:
    assert repr(FineTune(np.int64(2), np.float64(0.5), np.int32(4))) == "FineTune(steps=2, lr=0.5, classes=4)"


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (torch.full((4, 3), 1 / 3), r"torch.float32 of shape \(4, 3\)"),
        (torch.zeros(4, 7, dtype=torch.long), r"torch.int64 of shape \(4, 7\)"),
        (torch.zeros(4), r"torch.float32 of shape \(4,\)"),
    ],
)
def test_fine_tuning_needs_a_class_of_each_example(targets: Tensor, told: str) -> None:
    network, parameters, run = setting()
    with pytest.raises(TrainingError, match=f"of the task 'images' are {told}; FineTune takes one class number"):
        FineTune(steps=0)(network, run, parameters, [((torch.randn(4, 3, 16, 16),), targets)], 0)


def test_a_network_of_which_the_head_alone_is_predicted_cannot_be_fine_tuned_from(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    with pytest.raises(TrainingError, match="the head alone is predicted, which FineTune draws anew"):
        ghn_init.train(
            colours(), tmp_path, architectures=[head], objective=FineTune(), steps=1, pool=1, meta_batch=1, batch_size=8
        )

"""Inits that race against predictions: what each promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init import comparison
from ghn_init.comparison.rivals import whitening
from ghn_init.errors import ComparisonError
from helpers import colours


def images(count: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, 9, 9, generator=generator)
    return F.avg_pool2d(noise, 2, 1) + torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1) * noise[:, :1, :8, :8]


def network() -> nn.Sequential:
    layers = [
        nn.Conv2d(3, 40, 3),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Conv2d(40, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 3))


class Branch(nn.Module):
    """A residual branch that ends in a norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


def test_dirac_kernels_pass_their_input_on() -> None:
    model = network()
    before = model[3].weight.clone(), model[5].weight.clone()
    comparison.dirac(model, 0)
    x = torch.rand(2, 40, 5, 5)
    torch.testing.assert_close(F.conv2d(x, model[3].weight), x[:, :16, 1:-1, 1:-1])
    assert not torch.equal(model[3].weight, before[0])
    torch.testing.assert_close(F.conv2d(x[:, :16], model[5].weight)[:, :16], x[:, :16])
    assert torch.equal(model[5].weight[16:], before[1][16:])


def test_dirac_kernels_need_a_convolution() -> None:
    model = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(ComparisonError, match="Sequential has no 2-D convolution without groups"):
        comparison.dirac(model, 0)


def test_whitened_patches_are_uncorrelated_and_of_unit_variance() -> None:
    filters = whitening(images(), (2, 2), floor=0.0)
    outputs = F.conv2d(images(), filters).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(outputs), torch.eye(12), atol=1e-3, rtol=0)
    lengths = filters.flatten(1).norm(dim=1)
    assert torch.equal(lengths.argsort(), torch.arange(12))  # the first ones are of the largest variance


def test_patches_of_one_image_at_a_time_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    unfold = F.unfold
    monkeypatch.setattr(F, "unfold", lambda image, kernel: taken.append(len(image)) or unfold(image, kernel))  # type: ignore[func-returns-value]
    whitening(images(), (3, 3))
    assert taken == [1] * len(images())


def test_a_whitened_stem_has_each_filter_and_its_negative() -> None:
    model = network()
    kept = model[0].weight.clone()
    comparison.whitened(model, 0, images())
    filters = whitening(images(), (3, 3))[:20]
    torch.testing.assert_close(model[0].weight, torch.cat([filters, -filters]))
    small = nn.Sequential(nn.Conv2d(3, 64, 2), nn.Flatten(), nn.Linear(64 * 49, 3))
    kept = small[0].weight.clone()
    comparison.whitened(small, 0, images())
    torch.testing.assert_close(small[0].weight[12:24], -small[0].weight[:12])
    assert torch.equal(small[0].weight[24:], kept[24:])
    with pytest.raises(ComparisonError, match="Sequential has no convolution that reads 5 channels"):
        comparison.whitened(model, 0, torch.zeros(2, 5, 8, 8))


def test_layers_have_unit_variance() -> None:
    model = network().eval()
    running = model[1].running_mean.clone()
    comparison.lsuv(model, 0, images())
    assert torch.equal(model[1].running_mean, running)
    assert not model.training
    seen: dict[int, float] = {}
    model.train()
    for index in (0, 3, 5, 9):
        model[index].register_forward_hook(lambda _, __, output, index=index: seen.update({index: output.var().item()}))
    model(images())
    assert seen == pytest.approx(dict.fromkeys(seen, 1.0), abs=0.11)
    assert set(seen) == {0, 3, 5, 9}
    weight = model[5].weight.flatten(1)
    gram = weight.T @ weight
    torch.testing.assert_close(gram, torch.eye(16) * gram[0, 0], atol=1e-4, rtol=1e-3)  # still orthogonal


def test_modes_of_parts_stay_also_where_the_forward_fails() -> None:
    model = network()
    model[1].eval()
    comparison.lsuv(model, 0, images())
    assert [model.training, model[0].training, model[1].training] == [True, True, False]
    model.eval()
    with pytest.raises(RuntimeError):
        comparison.lsuv(model, 0, torch.zeros(2, 5, 8, 8))
    assert not any(module.training for module in model.modules())


def test_images_go_where_the_model_is() -> None:
    class Elsewhere(Tensor):
        """Can't be given to a model before it is sent to its device."""

        def to(self, *args: Any, **kwargs: Any) -> Tensor:
            return self.as_subclass(Tensor).to(*args, **kwargs)

    class Network(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            assert type(x) is Tensor
            return super().forward(x)

    expected, model = network(), Network(*network())
    model.load_state_dict(expected.state_dict())
    torch.manual_seed(0)
    comparison.lsuv(expected, 0, images())
    torch.manual_seed(0)
    comparison.lsuv(model, 0, images().as_subclass(Elsewhere))
    assert torch.equal(model[9].weight, expected[9].weight)


def test_inits_of_images_get_those_of_the_race() -> None:
    data = colours()
    loader = [(data.normalise(data.pixels), data.labels)]

    def small() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    torch.manual_seed(0)
    expected, found = small(), small()
    found.load_state_dict(expected.state_dict())
    comparison.whitened(expected, 0, loader[0][0])
    comparison.named("whitened", images=loader[0][0])(found, 0)
    torch.testing.assert_close(found[0].weight, expected[0].weight)
    raced = comparison.compare(small, loader, loader, ["default", "dirac", "whitened", "lsuv"], steps=1, seeds=1, rates=[0.1])
    assert {run.init for run in raced.runs} == {"default", "dirac", "whitened", "lsuv"}
    with pytest.raises(ComparisonError, match="the init 'lsuv' looks at images; pass images="):
        comparison.named("lsuv")


@pytest.mark.parametrize("name", ["orthogonal", "dirac", "whitened", "lsuv", "zero-gamma"])
def test_frozen_parameters_stay(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 40, 3), Branch(40), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 3))
    model[:2].requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    comparison.named(name, images(), images())(model, 0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if not key.startswith("4."))
    model.requires_grad_(False)  # of a model that is frozen as a whole nothing is
    comparison.named(name, images(), images())(model, 0)
    assert not all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if not key.startswith("4."))

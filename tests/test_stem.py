"""Stems for small images: torchvision's and timm's networks, and those that have no such stem."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

import ghn_init
from ghn_init import GHN, adapt_stem_
from ghn_init.errors import UnsupportedModelError
from zoo import Fn, conv


def build(name: str, **kwargs: Any) -> nn.Module:
    library, name = name.split(":")
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNets compute their widths with tensors
        return timm.create_model(name, **kwargs) if library == "timm" else torchvision.models.get_model(name, weights=None)


def test_a_resnet18_becomes_the_one_of_the_published_evaluation(ghn: GHN) -> None:
    model = adapt_stem_(torchvision.models.resnet18(num_classes=10))
    shapes = {name: p.shape for name, p in torchvision.models.resnet18(num_classes=10).named_parameters()}
    assert {name: p.shape for name, p in model.named_parameters()} == {**shapes, "conv1.weight": (64, 3, 3, 3)}
    assert repr(model.conv1) == repr(nn.Conv2d(3, 64, 3, padding=1, bias=False))
    assert isinstance(model.maxpool, nn.Identity)
    assert model.layer4(model.layer3(model.layer2(model.layer1(model.conv1(torch.zeros(1, 3, 32, 32)))))).shape[2:] == (4, 4)
    assert len(ghn_init.predict(model, ghn, torch.zeros(2, 3, 32, 32), head=True, strict=True).tensors) == 62


@pytest.mark.parametrize(
    ("name", "convolution", "pools"),
    [
        ("torchvision:resnet50", "conv1", ["maxpool"]),
        ("torchvision:densenet121", "features.conv0", ["features.pool0"]),
        ("torchvision:mobilenet_v2", "features.0.0", []),
        ("torchvision:alexnet", "features.0", ["features.2"]),
        ("timm:resnet18", "conv1", ["maxpool"]),
        ("timm:resnet18d", "conv1.0", ["maxpool"]),
        ("timm:resnetaa50", "conv1", ["maxpool"]),
        ("timm:resnetblur18", "conv1", ["maxpool.0", "maxpool.1"]),
        ("timm:resnetv2_50", "stem.conv", ["stem.pool"]),
        ("timm:regnety_002", "stem.conv", []),
        ("timm:tf_efficientnet_b0", "conv_stem", []),
    ],
)
def test_the_stem_keeps_the_resolution(name: str, convolution: str, pools: list[str]) -> None:
    model = build(name)
    old = model.get_submodule(convolution)
    kinds = {key: type(module) for key, module in model.named_modules()}
    assert adapt_stem_(model) is model
    new = model.get_submodule(convolution)
    assert (new.kernel_size, new.stride, new.in_channels, new.out_channels) == ((3, 3), (1, 1), 3, old.out_channels)
    assert (type(new), new.bias is None) == (type(old), old.bias is None)
    assert new(torch.zeros(1, 3, 32, 32, device="meta")).shape[2:] == (32, 32)
    changed = {key for key, module in model.named_modules() if type(module) is not kinds[key]}
    assert changed == set(pools)
    assert all(type(model.get_submodule(pool)) is nn.Identity for pool in pools)


def test_twice_is_once_and_small_stems_stay() -> None:
    for model in (adapt_stem_(torchvision.models.resnet18()), build("torchvision:vgg11")):
        before = list(model.modules())
        adapt_stem_(model)
        assert list(map(id, model.modules())) == list(map(id, before))


def test_dtype_and_modes_stay() -> None:
    model = torchvision.models.resnet18().double()
    model.train()
    model.layer1.eval()
    modes = [module.training for module in model.modules()]
    statistics = model.bn1.running_mean.clone()
    adapt_stem_(model, 64)
    assert model.conv1.weight.dtype == torch.float64
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.bn1.running_mean, statistics)
    assert not any(module._forward_hooks for module in model.modules())


def test_the_new_convolution_is_of_the_old_ones_kind_under_all_its_names() -> None:
    stem = nn.Conv2d(4, 8, 7, 2, 3, groups=2, padding_mode="reflect", bias=False).requires_grad_(False)
    model = Fn(lambda m, x: m.alias(x), stem=stem)
    model.alias = model.stem
    adapt_stem_(model)
    assert model.alias is model.stem
    assert (model.stem.stride, model.stem.groups, model.stem.padding_mode) == ((1, 1), 2, "reflect")
    assert not model.stem.weight.requires_grad


def test_pools_of_shortcuts_stay() -> None:
    model = Fn(
        lambda m, x: m.pool(m.stem(x)) + m.halve(m.stem(x)), stem=conv(stride=2), pool=nn.AvgPool2d(2), halve=conv(8, stride=2)
    )
    adapt_stem_(model)
    assert model.stem.stride == (1, 1)
    assert isinstance(model.pool, nn.AvgPool2d)


@pytest.mark.parametrize(("size", "patch"), [(32, 2), (64, 2), (96, 3), (127, 3), (128, 4)])
def test_patches_are_smaller_on_small_images(size: int, patch: int) -> None:
    model = build("timm:convnext_atto")
    stem = model.stem[0]
    adapt_stem_(model, size)
    assert model.stem[0].kernel_size == model.stem[0].stride == (patch, patch)
    assert (model.stem[0] is stem) == (patch == 4)
    assert model(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 1000)
    again = model.stem[0]
    assert adapt_stem_(model, size).stem[0] is again


@pytest.mark.parametrize(
    ("make", "patch"),
    [
        (lambda: build("timm:vit_tiny_patch16_224", img_size=32, patch_size=4), 4),
        (lambda: build("timm:swin_tiny_patch4_window7_224", img_size=32), 4),
        (lambda: build("timm:swinv2_tiny_window8_256", img_size=32), 2),  # takes other numbers of patches
    ],
    ids=["vit", "swin", "swinv2"],
)
def test_models_made_for_small_images_are_taken_as_advised(make: Callable[[], nn.Module], patch: int) -> None:
    model = adapt_stem_(make(), 32)
    assert model.patch_embed.proj.stride == (patch, patch)
    assert model(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("mixer_b16_224", "make it with img_size=32, which MlpMixer takes"),
        ("resmlp_12_224", "make it with img_size=32, which MlpMixer takes"),
        ("crossvit_tiny_240", "it runs on images of 32 px as it is: leave its stem, or pass larger images"),
        ("efficientformer_l1", "pass another image_size, or adapt it by hand"),
        ("deit_tiny_distilled_patch16_224", "make it with img_size=32, patch_size=4, which VisionTransformerDistilled takes"),
        ("levit_128s", "make it with img_size=32, which LevitDistilled takes"),
    ],
)
def test_advice_was_tried(name: str, advice: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"; {advice}.$"):
        adapt_stem_(build(f"timm:{name}"))
    sizes = {key: int(size) for key, size in re.findall(r"(img_size|patch_size)=(\d+)", advice)}
    if sizes:
        build(f"timm:{name}", **sizes).eval()(torch.zeros(2, 3, 32, 32, device="meta"))


class Odd(nn.Conv2d):
    def __init__(self, width: int) -> None:
        super().__init__(3, width, 7, 2)


class Picky(nn.Conv2d):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert self.stride == (2, 2), "no other stride"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: build("timm:vit_tiny_patch16_224"),
            "'patch_embed.proj' of size and stride 16, and does not run with patches of 2; .* img_size=32, patch_size=4",
        ),
        (
            lambda: build("timm:vit_tiny_patch16_224", img_size=32),
            "with patches of 2; it runs on images of 32 px as it is: leave its stem, or pass larger images",
        ),
        (
            lambda: build("timm:swin_tiny_patch4_window7_224"),
            "with patches of 2; make it with img_size=32, which SwinTransformer",
        ),
        (
            lambda: build("timm:maxvit_tiny_rw_224"),
            "on 3-channel images of 32 px .*; make it with img_size=32, which MaxxVit takes",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.Flatten(), nn.Linear(128, 2)),
            "with patches of 2; it runs on images of 32 px as it is",
        ),
        (lambda: build("timm:inception_v3"), "InceptionV3 does not run on 3-channel images of 32 px .*another image_size"),
        (lambda: build("timm:repvgg_a0"), "begins with a Conv2d, 'stem.conv_1x1.conv', not with its first convolution, 'stem"),
        (lambda: nn.Sequential(nn.AvgPool2d(2), conv()), "begins with a AvgPool2d, '0', not with its first convolution, '1'"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), "Sequential has no 2-D convolution inside"),
        (lambda: nn.Sequential(Odd(8)), "the first convolution of Sequential is a Odd, which can't be made anew"),
        (lambda: nn.Sequential(Picky(3, 8, 7, 2)), r"a Picky, which can't be made anew \(no other stride"),
        (lambda: Fn(lambda m, x: x, conv=conv()), "Fn begins with no layer of image maps, not with .* 'conv'"),
    ],
)
def test_stems_of_other_kinds_are_refused_and_left_alone(make: Any, words: str) -> None:
    model = make()
    before = {name: id(module) for name, module in model.named_modules()}
    with pytest.raises(UnsupportedModelError, match=words):
        adapt_stem_(model)
    assert {name: id(module) for name, module in model.named_modules()} == before


def test_a_model_that_is_stopped_in_the_middle_is_as_before() -> None:
    class Stopping(nn.MaxPool2d):
        def forward(self, x: Any) -> Any:
            if model[0].stride == (1, 1):
                raise KeyboardInterrupt
            return super().forward(x)

    model: Any = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), Stopping(2))
    before = list(model)
    with pytest.raises(KeyboardInterrupt):
        ghn_init.adapt_stem_(model)
    assert list(model) == before


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="image_size is 0; expected at least 1 pixel"):
        adapt_stem_(torchvision.models.resnet18(), 0)
    for size in ("32", 32.5, True):
        with pytest.raises(ValueError, match=rf"image_size is {size!r}; expected at least 1 pixel, a whole number"):
            adapt_stem_(torchvision.models.resnet18(), size)  # type: ignore[arg-type]
    assert adapt_stem_(torchvision.models.resnet18(), np.int64(32)).conv1.stride == (1, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrap", "inside"),
    [(nn.DataParallel, "model.module"), (lambda model: torch.compile(model, backend="eager"), "model._orig_mod")],
)
def test_what_is_inside_of_wrappers_is_named(wrap: Callable[[nn.Module], nn.Module], inside: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"a wrapper; adapt the ResNet inside, {inside}, before it is wrapped"):
        adapt_stem_(wrap(torchvision.models.resnet18()))


@pytest.mark.parametrize("part", ["conv1", "maxpool"])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"])
def test_layers_with_hooks_are_not_replaced(part: str, register: str) -> None:
    model = torchvision.models.resnet18()
    before = dict(model.named_modules())
    handle = getattr(model.get_submodule(part), register)(lambda *_: None)
    with pytest.raises(UnsupportedModelError, match=f"'{part}' of ResNet has hooks, which its replacement would not have"):
        adapt_stem_(model)
    assert dict(model.named_modules()) == before
    handle.remove()
    assert adapt_stem_(model).conv1.stride == (1, 1)


def test_patches_with_hooks_are_not_made_smaller() -> None:
    model = build("timm:convnext_atto")
    model.stem[0].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr]
    with pytest.raises(UnsupportedModelError, match="'stem.0' of ConvNeXt has hooks"):
        adapt_stem_(model)

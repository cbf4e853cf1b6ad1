"""Adapts a network's stem to small images: a 3×3 convolution of stride 1 and no max pool, as GHN-2's evaluation does.

Source: Knyazev et al., NeurIPS 2021 (arXiv 2110.13100), ResNet-50 on CIFAR-10.
"""

# Axes: C channels, H/W space

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ghn_init.errors import UnsupportedModelError
from ghn_init.models.sized import FEW_PATCHES, PATCH, sizes_for
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import taken_off

_BATCH = 2
_PATCHES = 32
"""A side, at most."""

_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


class _RunError(UnsupportedModelError):
    """The model fails on images of a size."""


class _HooksError(UnsupportedModelError):
    """What would be replaced has hooks."""


@dataclass(frozen=True)
class _Call:
    """A module without children, and the heights of the maps that went in and came out, in pixels."""

    name: str
    module: nn.Module
    before: int
    after: int


def adapt_stem_(model: nn.Module, image_size: int = 32) -> nn.Module:
    """Adapts a convolutional network to images of a few dozen pixels, in place; before `initialize`.

    The first convolution becomes 3×3 of stride 1, with new random weights, and the pool that halves its maps, before any other
    layer does, becomes the identity. So the stem keeps the resolution. A first convolution that cuts patches, as ConvNeXt's,
    cuts smaller ones: 32 a side, of 2 pixels at least. Stems that do already stay as they are (VGG, a model that was adapted
    before, one of a fixed number of patches, 8 a side at least). Found by running the model on meta tensors, not by names.

    Args:
        model: torchvision's and timm's ResNets, RegNets, DenseNets, EfficientNets, MobileNets, ConvNeXts and the like.
        image_size: Height and width of the images, in pixels.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: The stem is none of this kind, or the adapted model does not run at that size, as where positions
            are learned for a number of patches; or it is in a wrapper, or hooks are on what would be replaced. The model is
            then as before.
        ValueError: `image_size` is no whole number, or below 1.

    Example:
        >>> import ghn_init, torchvision
        >>> model = ghn_init.adapt_stem_(torchvision.models.resnet18(num_classes=10))
        >>> model.conv1.kernel_size, model.conv1.stride, type(model.maxpool).__name__
        ((3, 3), (1, 1), 'Identity')
    """
    if not isinstance(image_size, Integral) or isinstance(image_size, bool) or image_size < 1:
        raise ValueError(f"image_size is {image_size!r}; expected at least 1 pixel, a whole number.")
    image_size = int(image_size)
    inner, prefix = taken_off(model)
    if prefix:
        raise UnsupportedModelError(
            f"{_named(model)} is a wrapper; adapt the {_named(inner)} inside, model.{prefix.rstrip('.')}, before it is wrapped."
        )
    first_name, first = _first_convolution(model)
    try:
        return _adapted(model, first_name, first, image_size)
    except _RunError as error:
        way_out = _way_out(model, 0, first.in_channels, image_size) or "pass another image_size, or adapt it by hand"
        raise UnsupportedModelError(f"{error}; {way_out}.") from error.__cause__


def _adapted(model: nn.Module, first_name: str, first: nn.Conv2d, image_size: int) -> nn.Module:
    """The model, its first convolution smaller where that is of use.

    Raises:
        _RunError: It does not run then, or did not before.
        UnsupportedModelError: Its stem is of another kind.
    """
    calls = _calls(model, first.in_channels, image_size)
    if not calls or calls[0].module is not first:
        got = f"a {type(calls[0].module).__name__}, '{calls[0].name}'" if calls else "no layer of image maps"
        raise UnsupportedModelError(
            f"{_named(model)} begins with {got}, not with its first convolution, '{first_name}'; adapt it by hand."
        )
    if _keeps_resolution(first):
        return model
    if first.kernel_size == first.stride:
        return _with_smaller_patches(model, first_name, first, image_size)
    small: dict[str, nn.Module] = {first_name: _made_anew(first, model, 3, 1, 1)}
    pools = {name: nn.Identity() for name in _stem_pool(calls)}
    try:
        _replace(model, {**small, **pools}, first.in_channels, image_size)
    except _RunError:
        if not pools:
            raise
        _replace(model, small, first.in_channels, image_size)  # the pool was a shortcut's, beside a convolution
    return model


def _with_smaller_patches(model: nn.Module, name: str, first: nn.Conv2d, image_size: int) -> nn.Module:
    """Replaces a convolution that cuts patches, where the model takes any number of them."""
    patch = max(PATCH, image_size // _PATCHES)
    if first.stride[0] <= patch:
        return model
    try:
        _replace(model, {name: _made_anew(first, model, patch, patch, 0)}, first.in_channels, image_size)
    except _HooksError:
        raise
    except UnsupportedModelError as error:
        if image_size >= FEW_PATCHES * first.stride[0] and _runs(model, first.in_channels, image_size):
            return model
        raise UnsupportedModelError(
            f"{_named(model)} begins with a patch embedding, '{name}' of size and stride {first.stride[0]}, and does not run "
            f"with patches of {patch}; "
            f"{_way_out(model, first.stride[0], first.in_channels, image_size) or 'pass larger images'}."
        ) from error
    return model


def _way_out(model: nn.Module, patch: int, channels: int, image_size: int) -> str:
    """What its user can do about images of a size; nothing, mostly, for convolutional networks."""
    if _runs(model, channels, image_size):
        return f"it runs on images of {image_size} px as it is: leave its stem, or pass larger images"
    sizes = sizes_for(model, patch, channels, image_size)
    return f"make it with {sizes}, which {_named(model)} takes" if sizes else ""


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name:
            return name, module
    raise UnsupportedModelError(f"{_named(model)} has no 2-D convolution inside; there is no stem to adapt.")


def _stem_pool(calls: list[_Call]) -> list[str]:
    """Names of the pool that halves the maps next after the first convolution; anti-aliased, it is a max pool and a blur."""
    at = next((k for k, call in enumerate(calls) if k and call.after < call.before), 0)
    if isinstance(calls[at].module, _POOLS):
        return [calls[at].name]
    blurred = at > 1 and isinstance(calls[at - 1].module, nn.MaxPool2d) and not isinstance(calls[at].module, nn.Conv2d)
    return [calls[at - 1].name, calls[at].name] if blurred else []


def _keeps_resolution(convolution: nn.Conv2d) -> bool:
    return convolution.stride == (1, 1) and max(convolution.kernel_size) <= 3


def _made_anew(old: nn.Conv2d, model: nn.Module, size: int, stride: int, padding: int) -> nn.Conv2d:
    """A smaller convolution of the same class; a class of its own gets its default settings."""
    kind = type(old)
    settings: dict[str, Any] = {"groups": old.groups, "padding_mode": old.padding_mode} if kind is nn.Conv2d else {}
    try:
        new = kind(
            old.in_channels, old.out_channels, size, stride=stride, padding=padding, bias=old.bias is not None, **settings
        )
    except Exception as error:  # whatever the class's constructor raises
        raise UnsupportedModelError(
            f"the first convolution of {_named(model)} is a {kind.__name__}, which can't be made anew ({error}); replace it by "
            f"hand."
        ) from error
    return new.to(old.weight.device, old.weight.dtype).train(old.training).requires_grad_(old.weight.requires_grad)


def _replace(model: nn.Module, modules: dict[str, nn.Module], channels: int, image_size: int) -> None:
    """Puts modules into the model, under each name that the old ones have, and these back if it then fails."""
    new = {model.get_submodule(name): module for name, module in modules.items()}
    for name, module in modules.items():
        if _hooks(model.get_submodule(name)) > _hooks(module):
            raise _HooksError(
                f"'{name}' of {_named(model)} has hooks, which its replacement would not have; take them off, and register "
                f"them on the adapted model."
            )
    before = {name: module for name, module in model.named_modules(remove_duplicate=False) if module in new}
    try:
        for name, module in before.items():
            model.set_submodule(name, new[module])
        _run(model, channels, image_size)
    except BaseException as error:  # the user's Ctrl+C as well
        for name, module in before.items():
            model.set_submodule(name, module)
        if isinstance(error, _RunError):
            raise _RunError(f"with {', '.join(map(repr, modules))} adapted, {error}") from error.__cause__
        raise


def _hooks(module: nn.Module) -> int:
    """How many of a call's hooks a module has; a class may have some of its own."""
    kinds = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return sum(map(len, kinds))


def _calls(model: nn.Module, channels: int, image_size: int) -> list[_Call]:
    """Of a run on larger images than asked for, as a stem has to be read off maps that do not vanish before its end.

    A model that takes one size alone is run at that.

    Raises:
        _RunError: It runs at neither.
    """
    try:
        return _run(model, channels, max(image_size, 224))
    except _RunError:
        return _run(model, channels, image_size)


def _runs(model: nn.Module, channels: int, image_size: int) -> bool:
    try:
        return bool(_run(model, channels, image_size))
    except _RunError:
        return False


def _run(model: nn.Module, channels: int, image_size: int) -> list[_Call]:
    """The calls on image maps of one run on meta tensors, in execution order.

    Raises:
        _RunError: The run fails.
    """
    calls: list[_Call] = []
    names = {module: name for name, module in model.named_modules() if next(module.children(), None) is None}

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        before = inputs[0] if inputs else None
        if isinstance(before, Tensor) and isinstance(output, Tensor) and before.dim() == output.dim() == 4:
            calls.append(_Call(names[module], module, before.shape[2], output.shape[2]))

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    on_meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    dtype = next((tensor.dtype for tensor in model.parameters()), torch.float32)
    image = torch.empty(_BATCH, channels, image_size, image_size, dtype=dtype, device="meta")
    try:
        with untouched(model), torch.no_grad():  # which takes the hooks off again
            for module in names:
                module.register_forward_hook(note)
            model.eval()
            functional_call(model, on_meta, (image,))
    except Exception as error:  # whatever the model's forward raises
        raise _RunError(
            f"{_named(model)} does not run on {channels}-channel images of {image_size} px ({type(error).__name__}: {error})"
        ) from error
    return calls


def _named(model: nn.Module) -> str:
    return type(model).__name__

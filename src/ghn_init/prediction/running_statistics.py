"""Running statistics of batch norms where there are no data: from one pass of noise, so that eval mode is sane.

Statistics are not predicted, and zero mean with unit variance, as a new norm has, are far from what predicted weights make: the
error grows with every norm, to logits of 1e11 in a ResNet-50. Noise is no image, but it can have the spectrum, the colours and
the contrasts of normalised ones, and then its statistics serve (`benchmarks/first_steps.py`). Those of white noise do for wide
kernels, but not for depthwise ones.

Source: Baradad et al. 2021 (arXiv 2106.05963), section 3, for noise with the spectrum of images.
"""

# Axes: B images, C channels, H/W space

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ghn_init.models.modes import eval_
from ghn_init.models.norm_calls import averaging, may_hold_statistics
from ghn_init.prediction.meaning import modules_of
from ghn_init.prediction.precision import bfloat16_pays, mixed_precision
from ghn_init.tracing.alone import eagerly
from ghn_init.tracing.holders import mapped, tensors_in
from ghn_init.tracing.inputs import Inputs
from ghn_init.tracing.taken_back import taken_back
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import unwrap

PIXELS = 4 * 224**2
"""Values of one channel that noise has in all: four images of 224 px, more and cheaper ones where they are smaller."""

IMAGES = (4, 16)
"""Fewest and most of them."""

GREY = 1.5
"""How much of the mean over channels is added to each of them: those of images go together."""

CONTRASTS = (0.3, 1.5)
"""Smallest and largest contrast of an image; they are drawn in between."""

_FLOAT32: Any = {"device": "cpu", "dtype": torch.float32}
"""Whatever the defaults of both: the same seed gives the same noise."""

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def from_noise_(model: nn.Module, norms: Sequence[nn.Module], inputs: Inputs, seed: int = 0) -> str:
    """Sets the norms' running statistics to those of noise, in one pass; all else is left as it was.

    Dropout and stochastic depth are off, other norms use their own statistics. Where the forward pass fails, gives values that
    are not finite, or would talk to other processes (`SyncBatchNorm`), PyTorch's norms have zero mean and unit variance, and
    norms that are called as functions what they had.

    Args:
        model: Which holds the norms, in memory.
        norms: Those to set, or what holds their statistics; their next batch counts as the first one.
        inputs: As the model was traced with; floating tensors are replaced, by more examples where there is only one.
        seed: Of the noise.

    Returns:
        Why it could not be done; empty where it was.
    """
    cause = "SyncBatchNorm would talk to other processes"
    if not any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        inner, _ = unwrap(model)
        ways = [(True, True), (False, True)] if _fast(inner) else [(False, True)]
        if is_single(inputs):  # whose number of examples something else may have to agree with
            ways.append((False, False))
        for fast, more in ways:
            cause = _pass(inner, norms, inputs, seed, fast=fast, more=more)
            if not cause:
                break
    for norm in norms:
        if not isinstance(norm, _NormBase):
            continue
        if cause:
            norm.reset_running_stats()
        elif norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()
    return cause


@torch.no_grad()
def same_statistics_(model: nn.Module, copies: Mapping[str, str], called: Collection[str] = ()) -> None:
    """Gives norms of frozen copies the statistics of their originals: the copy may see other inputs, or none.

    Args:
        model: Which holds both.
        copies: Dotted names of parameters → the parameters of which they are copies.
        called: Dotted names of modules that hold statistics of norms which are called as functions.
    """
    norms = {name: module for name, module in model.named_modules() if may_hold_statistics(module)}
    for copy, original in dict.fromkeys(modules_of(*pair) for pair in copies.items()):
        for name, norm in norms.items():
            if not f"{name}.".startswith(f"{copy}." if copy else ""):
                continue
            place = f"{original}.{name[len(copy) :].lstrip('.')}".strip(".")
            alike = all(copies.get(f"{name}.{key}") == f"{place}.{key}" for key, _ in norm.named_parameters())
            if alike and place != name and place in norms and (isinstance(norm, _NormBase) or place in called):
                _copy_buffers_(norms[place], norm)


def _copy_buffers_(norm: nn.Module, other: nn.Module) -> None:
    own, others = dict(norm.named_buffers(recurse=False)), dict(other.named_buffers(recurse=False))
    if own.keys() == others.keys() and all(own[key].shape == others[key].shape for key in own):
        for key, buffer in others.items():
            buffer.copy_(own[key])


def _fast(model: nn.Module) -> bool:
    """Whether it is worth a try to run it in bfloat16."""
    floating = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    return all(p.device.type == "cpu" and p.dtype == torch.float32 for p in floating) and bfloat16_pays()


@torch.no_grad()
def _pass(model: nn.Module, norms: Sequence[nn.Module], inputs: Inputs, seed: int, *, fast: bool, more: bool) -> str:
    """One pass of noise that sets the norms' statistics; what went wrong, if anything did.

    `fast`: in bfloat16 and channels last, which not every forward takes; statistics are the same to a percent. `more`: more
    examples than were given.
    """
    written: set[int] = set()
    for norm in norms:
        if isinstance(norm, _NormBase):
            norm.reset_running_stats()
            written |= {id(buffer) for buffer in norm.buffers(recurse=False)}
    try:
        device = next(model.parameters()).device
        args, kwargs = noise_like(inputs, device, seed, more=more)
        if fast:
            args = mapped(_channels_last, args)
        with eagerly(), untouched(model, inputs.args, inputs.kwargs), taken_back(model):
            eval_(model)
            for norm in norms:
                if isinstance(norm, _BatchNorm):
                    norm.training, norm.momentum = True, None  # the plain mean over batches, of which there is one
            others = (norm for norm in norms if not isinstance(norm, _BatchNorm))
            with averaging(others) as called, mixed_precision(device, bf16=True) if fast else contextlib.nullcontext():
                model(*args, **kwargs)
            found = [(buffer, buffer.clone()) for buffer in model.buffers() if id(buffer) in written | called]
        if not all(bool(values.isfinite().all()) for _, values in found):
            return "they are not finite"
        for buffer, values in found:
            buffer.copy_(values)
        return ""
    except Exception as error:  # whatever the user's forward raises on values that it has not seen
        return f"{type(error).__name__}: {error}".partition("\n")[0]


def _channels_last(value: Tensor) -> Tensor:
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value


def noise_like(inputs: Inputs, device: torch.device, seed: int, *, more: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with noise in the place of every floating tensor, zeros in that of others without values.

    In what holds tensors (a dictionary, a list) numbers keep their values, and tables that are not the same all over: times,
    boxes, positions.

    Args:
        inputs: As the model was traced with.
        device: Where the model is.
        seed: Of the noise.
        more: Of a single tensor there are more examples.
    """
    trees = tuple(inputs.args), dict(inputs.kwargs)
    arguments = {id(value) for value in (*inputs.args, *inputs.kwargs.values())}
    more = more and is_single(inputs)
    generator = torch.Generator().manual_seed(seed)

    def made(value: Tensor) -> Tensor:
        held = id(value) not in arguments
        if not value.is_floating_point() or value.dim() == 0 or (held and _says_something(value)):  # a time, a strength
            return torch.zeros_like(value, device=device) if value.is_meta else value.detach().to(device)
        shape = list(value.shape)
        if held and _is_image(shape):
            return noise([1, *shape], generator)[0].to(device, value.dtype)
        if more and len(shape) > 2:
            shape[0] = min(max(PIXELS // max(prod(shape[2:]), 1), IMAGES[0]), IMAGES[1])
        return noise(shape, generator).to(device, value.dtype)

    args, kwargs = mapped(made, trees)
    return args, kwargs


def is_single(inputs: Inputs) -> bool:
    """Whether there is one tensor, so that its number of examples has to agree with no other's."""
    return len(list(tensors_in((inputs.args, dict(inputs.kwargs))))) == 1


def _is_image(shape: Sequence[int]) -> bool:
    """(C, H, W) of one in grey or in colours, as detectors take lists of."""
    return len(shape) == 3 and shape[0] in (1, 3)


def _says_something(value: Tensor) -> bool:
    """Whether there are few values to each example, and they are given; a table of equal ones is none."""
    if value.dim() > 2 or value.is_meta:
        return False
    return value.dim() < 2 or not value.numel() or bool((value != value[:1, :1]).any())


def noise(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise of mean zero and deviation one, on the CPU; (B, C, …) with one to three axes of space is like images."""
    B, C, *space = shape if len(shape) > 1 else (*shape, 1)
    if len(space) not in _MODES:
        return torch.randn(list(shape), generator=generator, **_FLOAT32)
    total, side = torch.zeros(B, C, *space, **_FLOAT32), 1
    while side <= max(space):  # as much of each octave: power falls with the square of the frequency
        coarse = torch.randn(B, C, *(min(side, size) for size in space), generator=generator, **_FLOAT32)
        total += F.interpolate(coarse, size=space, mode=_MODES[len(space)])
        side *= 2
    total += GREY * total.mean(1, keepdim=True)
    low, high = CONTRASTS
    total *= low + (high - low) * torch.rand(B, *(1 for _ in shape[1:]), generator=generator, **_FLOAT32)
    return (total - total.mean()) / total.std()

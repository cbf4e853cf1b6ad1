"""Strong inits that need no training data, or a batch of it: Dirac kernels, whitened stems, layers of unit variance."""

# Axes: B images, O/I output/input channels, H/W kernel, P pixels of a patch in all channels

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init.comparison.classical import orthogonal
from ghn_init.comparison.weights import write_
from ghn_init.errors import ComparisonError


def dirac(model: nn.Module, seed: int) -> None:
    """The first filters of each 2-D convolution pass their input on, the others keep the model's own values.

    Source: airbench (Jordan 2024, arXiv 2404.00498, section 3.1): `dirac_` on as many filters as there are input channels.

    Raises:
        ComparisonError: There is no such convolution.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.groups == 1]
    if not layers:
        raise ComparisonError(f"{type(model).__name__} has no 2-D convolution without groups.")
    for layer in layers:
        passed = min(layer.weight.shape[:2])
        write_(layer, nn.init.dirac_(torch.empty_like(layer.weight[:passed])), slice(passed))


def whitened(model: nn.Module, seed: int, images: Tensor) -> None:
    """Dirac kernels, and a first convolution whose filters are the images' principal patches, scaled to unit variance, ±.

    Filters that are more than there are such patches keep the model's own values.

    Source: airbench (Jordan 2024, arXiv 2404.00498, section 3.2), after tysam (Page 2019).

    Args:
        model: Which is written to; its first convolution is the first among its modules with as many input channels as images.
        seed: Not used.
        images: (B, C, H, W).

    Raises:
        ComparisonError: There is no such convolution.
    """
    dirac(model, seed)
    stems = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.in_channels == images.shape[1]]
    if not stems:
        raise ComparisonError(f"{type(model).__name__} has no convolution that reads {images.shape[1]} channels.")
    weight = stems[0].weight
    filters = whitening(images, (weight.shape[2], weight.shape[3]))[: (weight.shape[0] + 1) // 2]
    both = torch.cat([filters, -filters])[: weight.shape[0]]
    write_(stems[0], both, slice(len(both)))


def whitening(images: Tensor, kernel: tuple[int, int], floor: float = 5e-4) -> Tensor:
    """(B, C, H, W) images → (P, C, *kernel) filters, by falling variance; on them uncorrelated, of unit variance.

    `floor` is added to the variances, which are those of normalised images.
    """
    variances, directions = torch.linalg.eigh(_covariance(images, kernel))
    filters = (directions / (variances.clamp_min(0) + floor).sqrt()).T.flip(0)
    return filters.view(-1, images.shape[1], *kernel).to(images.dtype)


def _covariance(images: Tensor, kernel: tuple[int, int]) -> Tensor:
    """(P, P) of the patches of (B, C, H, W) images, in float64. Image by image: all patches at once take gigabytes."""
    P = images.shape[1] * kernel[0] * kernel[1]
    count, total, products = 0, torch.zeros(P).double(), torch.zeros(P, P).double()
    for image in images.cpu().double():
        (patches,) = F.unfold(image[None], kernel)
        count += patches.shape[1]
        total += patches.sum(1)
        products += patches @ patches.T
    return (products - total[:, None] * total / count) / (count - 1)


def lsuv(model: nn.Module, seed: int, images: Tensor, tolerance: float = 0.1, tries: int = 10) -> None:
    """Orthogonal weights, then each layer, in the order in which they run, scaled so that its outputs have unit variance.

    Source: LSUV (Mishkin and Matas, ICLR 2016, arXiv 1511.06422, algorithm 1).

    Args:
        model: Which is written to; its running statistics and modes stay.
        seed: Not used.
        images: (B, C, H, W), one batch.
        tolerance: Of the variance.
        tries: At most, of a layer.
    """
    orthogonal(model, seed)
    images = images.to(next(model.parameters()).device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with torch.no_grad():
            for layer in _in_order(model, images):
                for _ in range(tries):
                    variance = _variance(model, layer, images)
                    if abs(variance - 1) < tolerance or not 0 < variance < float("inf"):
                        break
                    write_(layer, layer.weight / variance**0.5)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for module, mode in modes.items():
            module.training = mode


def _in_order(model: nn.Module, images: Tensor) -> list[nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers as the forward pass calls them, each once."""
    order: dict[nn.Conv2d | nn.Linear, None] = {}
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda layer, *_: order.setdefault(layer)) for layer in layers]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


def _variance(model: nn.Module, layer: nn.Module, images: Tensor) -> float:
    """Of a layer's outputs when it is called first."""
    found: list[float] = []
    hook = layer.register_forward_hook(lambda _, __, output: found.append(output.float().var().item()))
    try:
        model(images)
    finally:
        hook.remove()
    return found[0]

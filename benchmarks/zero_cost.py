"""Scores of networks without training, on a batch of images and default init: what `rank` has to beat.

Few lines each, from the papers; they are compared on the same networks by `ranking.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]


def synflow(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Tanaka et al., NeurIPS 2020 (arXiv 2006.05467): Σ |w · ∂R/∂w| of absolute weights on an image of ones; its logarithm.

    Norms are those of eval mode at init, which are identities.
    """
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model(torch.ones_like(batches[0][0][:1], dtype=torch.float64)).sum().backward()
    total = sum((w * w.grad).abs().sum() for w in weights(model) if w.grad is not None)
    return float(torch.as_tensor(total).detach().log())


def naswot(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Mellor et al., ICML 2021 (arXiv 2006.04647): log-determinant of how many ReLUs two images switch alike."""
    kernel = torch.zeros(len(batches[0][0]), len(batches[0][0]), dtype=torch.float64)

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        on = (output > 0).flatten(1).double()
        kernel.add_(on @ on.T + (1 - on) @ (1 - on).T)

    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.ReLU)]
    with torch.no_grad():
        model.train()(batches[0][0])
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel).logabsdet)


def jacov(model: nn.Module, batches: Sequence[Batch]) -> float:
    """The same paper's first version (arXiv 2006.04647v1): how uncorrelated the images' Jacobians are.

    −∞ where the output does not depend on the images.
    """
    images = batches[0][0].clone().requires_grad_()
    model.train()(images).sum().backward()
    if images.grad is None:
        return -math.inf
    correlations = torch.corrcoef(images.grad.flatten(1).double())
    eigenvalues = torch.linalg.eigvalsh(correlations.nan_to_num(0)) + 1e-5
    return float(-(eigenvalues.clamp_min(1e-12).log() + 1 / eigenvalues).sum())


def zico(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Li et al., ICLR 2023 (arXiv 2301.11300), equation 12: Σ over layers of log Σ mean |g| / deviation g, over batches."""
    model.train()
    found: list[list[Tensor]] = []
    for images, labels in batches:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        found.append([w.grad.clone() for w in weights(model) if w.grad is not None])
    total = 0.0
    for layer in zip(*found, strict=True):
        gradients = torch.stack(layer)
        deviation = gradients.std(0, correction=0)
        known = deviation > 0
        ratio = (gradients.abs().mean(0)[known] / deviation[known]).sum()
        total += float(ratio.log()) if ratio > 0 else 0.0
    return total


def weights(model: nn.Module) -> list[Tensor]:
    """Of convolutions and linear layers; those that the output does not depend on have no gradient."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


SCORES: dict[str, Callable[[nn.Module, Sequence[Batch]], float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacov": jacov,
    "zico": zico,
}

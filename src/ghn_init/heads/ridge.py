"""Ridge regression on class targets in closed form, its strength by leave-one-out: features and labels → a linear classifier.

With features standardised to Z, targets T of ±1 and both centred, W = (ZᵀZ + αI)⁻¹ZᵀT. Of all images but the i-th, the same
regression predicts tᵢ − (tᵢ − t̂ᵢ) / (1 − hᵢᵢ), where t̂ = HT are the predictions of the regression on all images: exact, since
the intercept is not penalised (Golub, Heath, Wahba, Technometrics 1979; Rifkin and Lippert, MIT-CSAIL-TR-2007-025). One
eigenvalue decomposition, of ZᵀZ or of ZZᵀ, whichever is smaller, gives all of it for every α.
"""

# Axes: N images, D features, K classes, R = min(N, D), A strengths

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

DECADES = (-6.0, 3.0)
"""Strengths to choose from, as powers of ten; 1 is max(N, D), the mean of the decomposition's non-zero eigenvalues."""
PER_DECADE = 3


@dataclass(frozen=True)
class Ridge:
    """A linear classifier, scores = features @ weight.T + bias, whose targets were 1 for the class and −1 for the others.

    Attributes:
        weight: (K, D) float64, of the features as they were given.
        bias: (K,) float64.
        strength: α, of standardised features.
        left_out: (N, K) float64, each image's scores from the regression on all others.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    left_out: Tensor


def fit_ridge(features: Tensor, labels: Tensor, num_classes: int, *, intercept: bool = True, resolution: float = 1e-7) -> Ridge:
    """Fits a classifier; its strength is the one of least squared leave-one-out error.

    Leaving an image out leaves the features' mean and deviation, by which they are standardised, as they are.

    Args:
        features: (N, D) finite.
        labels: (N,) int64 from 0 to K − 1.
        num_classes: K.
        intercept: Whether there is one; without it features are scaled and not centred.
        resolution: Features that vary by less than this share of their largest value are taken for constant.
    """
    features = features.double()
    mean = features.mean(0) if intercept else features.new_zeros(features.shape[1])
    centred = features - mean
    deviation = centred.square().mean(0).sqrt()
    varies = deviation > resolution * features.abs().amax(0)
    scale = torch.where(varies, 1 / deviation, 0.0)
    targets = 2 * F.one_hot(labels, num_classes).double() - 1
    level = targets.mean(0) if intercept else targets.new_zeros(num_classes)
    standardised = centred.mul_(scale)
    coefficients, strength, left_out = regress(standardised, targets - level, 1 / len(features) if intercept else 0.0)
    weight = (coefficients * scale[:, None]).T
    return Ridge(weight, level - weight @ mean, strength, left_out + level)


def regress(Z: Tensor, T: Tensor, leverage: float) -> tuple[Tensor, float, Tensor]:
    """(D, K) coefficients, their strength, and (N, K) leave-one-out predictions; `leverage` is the intercept's part of hᵢᵢ."""
    N, D = Z.shape
    low, high = DECADES
    exponents = torch.linspace(low, high, round((high - low) * PER_DECADE) + 1, dtype=torch.float64, device="cpu")
    strengths = max(N, D) * 10**exponents
    dual = D > N
    eigenvalues, vectors = torch.linalg.eigh(Z @ Z.T if dual else Z.T @ Z)
    eigenvalues = eigenvalues.clamp_min(0)
    P = vectors * eigenvalues.sqrt() if dual else Z @ vectors  # (N, R); H = P diag(1 / (eigenvalues + α)) Pᵀ
    projected = P.T @ T
    shrinkage = 1 / (eigenvalues[:, None] + strengths)  # (R, A)
    remaining = 1 - leverage - P.square() @ shrinkage  # (N, A), 1 − hᵢᵢ

    def errors(a: int) -> Tensor:
        return (T - P @ (shrinkage[:, a, None] * projected)) / remaining[:, a, None]

    best = int(torch.stack([errors(a).square().mean() for a in range(len(strengths))]).argmin())
    if dual:
        coefficients = Z.T @ (vectors @ (shrinkage[:, best, None] * (vectors.T @ T)))
    else:
        coefficients = vectors @ (shrinkage[:, best, None] * projected)
    return coefficients, float(strengths[best]), T - errors(best)

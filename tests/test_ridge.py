"""Ridge regression in closed form: against scikit-learn, against leaving each image out, against a grid of temperatures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from ghn_init.heads.ridge import DECADES, PER_DECADE, fit_ridge
from ghn_init.heads.temperature import RANGE, fit_temperature

SIZES = {"more images": (40, 7, 3), "more features": (20, 50, 4), "two classes": (30, 5, 2), "as many": (12, 12, 3)}


def data(images: int, features: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of different sizes and levels, correlated, each class further out in its own direction."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    base = torch.randn(images, features, generator=rng, dtype=torch.float64)
    base[torch.arange(images), labels] += 3
    mixed = base @ torch.randn(features, features, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return mixed * torch.linspace(0.1, 20, features, dtype=torch.float64) + 5, labels


def strengths(images: int, features: int) -> np.ndarray:
    low, high = DECADES
    return max(images, features) * np.logspace(low, high, round((high - low) * PER_DECADE) + 1)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_scikit_learns_classifier(size: str) -> None:
    features, labels = data(*SIZES[size])
    own = fit_ridge(features, labels, SIZES[size][2])
    scaler = StandardScaler().fit(features)
    theirs = RidgeClassifierCV(strengths(*SIZES[size][:2]), store_cv_results=True)
    theirs.fit(scaler.transform(features), labels)
    assert own.strength == pytest.approx(theirs.alpha_)
    unseen, _ = data(*SIZES[size], seed=1)
    scores = unseen @ own.weight.T + own.bias
    expected = theirs.decision_function(scaler.transform(unseen))
    if SIZES[size][2] == 2:
        expected = np.stack([-expected, expected], 1)
    np.testing.assert_allclose(scores, expected, rtol=1e-6, atol=1e-8)
    assert scores.argmax(1).tolist() == theirs.predict(scaler.transform(unseen)).tolist()


def solved(Z: Tensor, T: Tensor, strength: float, intercept: bool) -> tuple[Tensor, Tensor]:
    """The same regression by least squares: rows √α I stand for the penalty, a column of ones for the intercept."""
    ones = torch.ones(len(Z), 1, dtype=Z.dtype) * intercept
    D, K = Z.shape[1], T.shape[1]
    penalty = torch.cat([strength**0.5 * torch.eye(D, dtype=Z.dtype), torch.zeros(D, 1, dtype=Z.dtype)], 1)
    left, right = torch.cat([torch.cat([Z, ones], 1), penalty]), torch.cat([T, torch.zeros(D, K, dtype=Z.dtype)])
    whole = torch.from_numpy(np.linalg.lstsq(left.numpy(), right.numpy(), rcond=None)[0])
    return whole[:-1], whole[-1]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_leave_one_out_is_leaving_one_out(size: str, intercept: bool) -> None:
    images, _, classes = SIZES[size]
    features, labels = data(*SIZES[size])
    found = fit_ridge(features, labels, classes, intercept=intercept)
    mean = features.mean(0) * intercept
    Z = (features - mean) / (features - mean).square().mean(0).sqrt()
    T = 2 * F.one_hot(labels, classes).double() - 1
    for i in range(images):
        others = torch.arange(images) != i
        weight, bias = solved(Z[others], T[others], found.strength, intercept)
        torch.testing.assert_close(found.left_out[i], Z[i] @ weight + bias, rtol=1e-6, atol=1e-8)
    weight, bias = solved(Z, T, found.strength, intercept)
    torch.testing.assert_close(features @ found.weight.T + found.bias, Z @ weight + bias, rtol=1e-6, atol=1e-8)
    if not intercept:
        assert not found.bias.any()


@pytest.mark.parametrize("size", ["more images", "more features"])
def test_the_strength_is_the_one_of_least_error(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = data(*SIZES[size])
    classes = SIZES[size][2]
    T = 2 * F.one_hot(labels, classes) - 1
    errors = {}
    for decade in np.linspace(*DECADES, round((DECADES[1] - DECADES[0]) * PER_DECADE) + 1):
        monkeypatch.setattr("ghn_init.heads.ridge.DECADES", (decade, decade))
        one = fit_ridge(features, labels, classes)
        errors[one.strength] = float((T - one.left_out).square().mean())
    monkeypatch.undo()
    best = fit_ridge(features, labels, classes)
    least = min(errors, key=lambda strength: errors[strength])
    assert best.strength == pytest.approx(least)
    assert min(errors) < best.strength < max(errors)  # one in the middle, else the grid would not matter
    torch.testing.assert_close(float((T - best.left_out).square().mean()), errors[least])


def test_constant_features_count_for_nothing() -> None:
    features, labels = data(*SIZES["more images"])
    noise = 1 + 1e-9 * torch.randn(len(features), 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    more = torch.cat([torch.zeros_like(noise), noise, torch.full_like(noise, -1e6), features], 1)
    alone, found = fit_ridge(features, labels, 3), fit_ridge(more, labels, 3)
    assert not found.weight[:, :3].any()
    torch.testing.assert_close(found.weight[:, 3:], alone.weight)
    torch.testing.assert_close(found.bias, alone.bias)
    assert fit_ridge(more, labels, 3, resolution=1e-10).weight[:, 1].any()


def test_the_temperature_is_the_one_of_least_cross_entropy() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (200,), generator=rng)
    scores = F.one_hot(labels, 4).double() + torch.randn(200, 4, generator=rng, dtype=torch.float64)
    found = fit_temperature(scores, labels)
    assert 0.2 < found < 5
    smoothing = 1 / 201
    losses = {t: float(F.cross_entropy(scores / t, labels, label_smoothing=smoothing)) for t in np.logspace(-1, 1, 401)}
    assert found == pytest.approx(min(losses, key=lambda t: losses[t]), rel=0.01)
    assert fit_temperature(10 * scores, labels) == pytest.approx(10 * found, rel=1e-4)


def test_temperatures_are_bounded() -> None:
    labels = torch.arange(20) % 2
    right = 2 * F.one_hot(labels, 2).double() - 1
    logit = 2 / fit_temperature(right, labels)  # the difference of the two; one image's weight of 21 is spread over both
    assert logit == pytest.approx(np.log((1 - 0.5 / 21) / (0.5 / 21)), rel=1e-4)
    assert fit_temperature(-right, labels) == pytest.approx(RANGE[1], rel=1e-4)

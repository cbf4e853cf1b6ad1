"""Conditioning of predicted weights: against plain formulas, and what it promises for fine-tuning."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import GHN, Conditioning
from ghn_init.prediction import conditioning as module
from ghn_init.prediction.conditioning import conditioned, correlation_spread
from zoo import Fn, conv, images, param


def network() -> nn.Module:
    """Wide enough for the test hypernetwork's 16 channels to be tiled: copies."""
    return nn.Sequential(conv(3, 40), nn.BatchNorm2d(40), nn.ReLU(), conv(40, 24), nn.Flatten(), nn.Linear(24 * 64, 10))


def plain(weight: torch.Tensor, kind: str, beta: float, generator: torch.Generator) -> np.ndarray:
    """The published formula, with numpy's correlations and decomposition in double precision."""
    matrix = weight.flatten(1).double().numpy()
    wide = matrix.shape[0] < matrix.shape[1]
    if "noise" in kind:
        spread = np.std(np.corrcoef(matrix.T if wide else matrix), ddof=1)
        matrix = matrix + beta * spread * torch.randn(matrix.shape, generator=generator).double().numpy()
    if "orthogonal" in kind:
        q, r = np.linalg.qr(matrix.T if wide else matrix)
        q = q * np.sign(np.diag(r))
        matrix = q.T if wide else q
    return matrix.reshape(weight.shape)


@pytest.mark.parametrize("kind", ["orthogonal", "noise", "orthogonal+noise"])
@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (40, 5, 1, 1), (6, 6), (12, 1, 3, 3)])
def test_conditioning_is_the_published_formula(kind: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(shape[1], shape[0], shape[2:]) if len(shape) == 4 else nn.Linear(*shape)
    weight = torch.randn_like(layer.weight)
    prediction = ghn_init.predict(layer, ghn_init.load(), images(shape[1]) if len(shape) == 4 else torch.zeros(2, 6), head=True)
    slot = prediction.slots["weight"]
    found = conditioned(weight, slot, Conditioning(kind, beta=0.1), torch.Generator().manual_seed(1))
    expected = plain(weight, kind, 0.1, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (40, 9), (7, 7)])
def test_the_spread_of_correlations_is_corrcoefs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) + 3
    assert correlation_spread(matrix) == pytest.approx(float(torch.corrcoef(matrix).std()), rel=1e-4)
    constant = torch.cat([matrix, torch.full((2, shape[1]), 0.5)])
    assert torch.corrcoef(constant).isnan().any()
    assert correlation_spread(constant) == pytest.approx(correlation_spread(matrix), rel=1e-4)


@pytest.mark.parametrize("matrix", [torch.randn(1, 5), torch.randn(8, 1), torch.randn(1, 5).repeat(6, 1), torch.zeros(4, 3)])
def test_without_correlations_the_noise_has_standard_deviation_beta(matrix: torch.Tensor) -> None:
    assert correlation_spread(matrix) == 1.0


def test_copies_differ_after_noise_and_barely_move(ghn: GHN) -> None:
    before = ghn_init.predict(network(), ghn, images(), head=True).tensors["3.weight"]
    assert torch.equal(before[0], before[16])
    for kind in ("noise", "orthogonal+noise"):
        after = ghn_init.predict(network(), ghn, images(), head=True, condition=kind).tensors["3.weight"]
        assert not torch.equal(after[0], after[16])
    noisy = ghn_init.predict(network(), ghn, images(), head=True, condition="noise").tensors["3.weight"]
    assert 0 < (noisy - before).abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["orthogonal", "orthogonal+noise"])
def test_matrices_become_orthogonal_also_where_channels_are_copies(ghn: GHN, kind: Any) -> None:
    tensors = ghn_init.predict(network(), ghn, images(), head=True, condition=kind).tensors
    for name in ("0.weight", "3.weight"):
        singular = torch.linalg.svdvals(tensors[name].flatten(1))
        torch.testing.assert_close(singular, torch.ones_like(singular), rtol=0, atol=1e-4)


def test_orthogonal_directions_follow_the_noise_where_channels_are_copies() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(2, 12, generator=generator).repeat(2, 1)  # two rows, each twice
    layer = nn.Linear(12, 4)
    slot = ghn_init.predict(layer, ghn_init.load(), torch.zeros(2, 12), head=True).slots["weight"]
    first, second = (
        conditioned(matrix, slot, Conditioning("orthogonal+noise"), torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    torch.testing.assert_close(first[:2], second[:2], atol=1e-3, rtol=0)
    assert (first[2:] - second[2:]).norm() > 0.1


def test_exact_copies_make_no_dead_channels() -> None:
    q = module.orthogonal(torch.eye(4)[:, [0, 0, 1]])
    assert torch.equal(q.norm(dim=0), torch.ones(3))


def test_the_scale_is_kept_on_request(ghn: GHN) -> None:
    plain_weight = ghn_init.predict(network(), ghn, images(), head=True).tensors["3.weight"]
    scaled = ghn_init.predict(network(), ghn, images(), head=True, condition=Conditioning("orthogonal", keep_scale=True))
    weight = scaled.tensors["3.weight"]
    assert float(weight.norm()) == pytest.approx(float(plain_weight.norm()), rel=1e-4)
    singular = torch.linalg.svdvals(weight.flatten(1))
    torch.testing.assert_close(singular, singular.mean().expand_as(singular), rtol=1e-3, atol=0)


def test_only_weights_but_the_heads_are_conditioned(ghn: GHN) -> None:
    model = network()
    none = ghn_init.predict(model, ghn, images(), head=True)
    some = ghn_init.predict(model, ghn, images(), head=True, condition="orthogonal+noise")
    changed = {name for name in none.tensors if not torch.equal(none.tensors[name], some.tensors[name])}
    assert changed == some.conditioned == {"0.weight", "3.weight"}
    kept = ghn_init.predict(model, ghn, images(), head=True, condition="orthogonal", exclude="0.weight")
    assert kept.conditioned == {"3.weight"}


def test_the_first_layer_counts_weights_in_the_models_order_whether_kept_or_not(ghn: GHN) -> None:
    def names(first: int, **kwargs: Any) -> frozenset[str]:
        condition = Conditioning("orthogonal", first_layer=first)
        return ghn_init.predict(network(), ghn, images(), head=True, condition=condition, **kwargs).conditioned

    assert names(2) == {"3.weight"}
    assert names(2, exclude="0.weight") == {"3.weight"}
    assert names(3) == frozenset()
    with pytest.raises(ValueError, match="first_layer is 4, but the model has 3 weights"):
        names(4)


def test_twice_is_once_and_the_seed_decides(ghn: GHN) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        torch.rand(2)
        model = ghn_init.initialize(network(), ghn, images(), head=True, condition="orthogonal+noise", seed=seed)
        return [p.detach().clone() for p in model.parameters()]

    prediction = ghn_init.predict(network(), ghn, images(), head=True, condition="orthogonal+noise")
    once = [p.clone() for p in prediction.apply_().parameters()]
    assert all(map(torch.equal, prediction.apply_().parameters(), once))
    assert all(map(torch.equal, weights(0), once))
    assert all(torch.equal(prediction.tensors[name], p) for name, p in prediction.model.named_parameters())
    assert not torch.equal(weights(1)[0], once[0])


def test_orthogonal_weights_stay_what_they_are_when_conditioned_again() -> None:
    torch.manual_seed(0)
    once = module.orthogonal(torch.randn(12, 5))
    torch.testing.assert_close(module.orthogonal(once), once)


def test_transposed_weights_get_what_their_untransposed_form_gets(ghn: GHN) -> None:
    head = nn.Linear(40, 10)
    forms = {
        "linear": Fn(lambda m, x: m.head(x @ m.w.T), w=param(40, 24), head=head),
        "x @ w": Fn(lambda m, x: m.head(x @ m.w), w=param(24, 40), head=head),
        "flat": Fn(lambda m, x: m.head(x @ m.w.view(24, 40)), w=param(960), head=head),
    }
    weights = {
        name: ghn_init.predict(m, ghn, torch.zeros(2, 24), condition="orthogonal+noise").tensors["w"]
        for name, m in forms.items()
    }
    torch.testing.assert_close(weights["x @ w"].T, weights["linear"], check_stride=False)
    torch.testing.assert_close(weights["flat"].view(24, 40).T, weights["linear"], check_stride=False)


def test_half_precision_is_conditioned_in_single(ghn: GHN) -> None:
    single = ghn_init.predict(network(), ghn, images(), head=True, condition="orthogonal+noise").tensors["3.weight"]
    with torch.autocast("cpu", torch.bfloat16):
        half = ghn_init.initialize(network().bfloat16(), ghn, images().bfloat16(), condition="orthogonal+noise")
    assert torch.equal(half[3].weight, single.bfloat16())


def test_a_failure_leaves_the_model_as_it_was(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decompositions take time and memory: they may be interrupted, or find none."""
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    calls = iter(range(9))

    def interrupted(*args: Any, **kwargs: Any) -> torch.Tensor:
        if next(calls):
            raise KeyboardInterrupt
        return conditioned(*args, **kwargs)

    monkeypatch.setattr("ghn_init.prediction.prediction.conditioned", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ghn_init.initialize(model, ghn, images(), head=True, condition="orthogonal")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nothing_is_done_where_nothing_is_asked_for(ghn: GHN, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ghn_init.initialize(network(), ghn, images(), head=True)
    monkeypatch.setattr("ghn_init.prediction.prediction.conditioned", None)  # calling it would fail
    found = ghn_init.initialize(network(), ghn, images(), head=True, condition="none")
    for name, p in expected.named_parameters():
        assert torch.equal(found.get_parameter(name), p)


def test_biases_and_norms_keep_the_models_own_values_on_request(ghn: GHN) -> None:
    condition, model = Conditioning("orthogonal+noise", vectors=False), network()
    both = ghn_init.initialize(copy.deepcopy(model), ghn, images(), head=True, condition="orthogonal+noise")
    alone = ghn_init.initialize(copy.deepcopy(model), ghn, images(), head=True, condition=condition, strict=True)
    for name, p in alone.named_parameters():
        assert torch.equal(p, (both if p.dim() > 1 else model).get_parameter(name)), name
    kept = ghn_init.predict(model, ghn, images(), head=True, condition=condition).kept
    assert kept == dict.fromkeys(["0.bias", "1.weight", "1.bias", "3.bias", "5.bias"], "left out by vectors=False")


def test_the_report_notes_it_and_strict_does_not_mind(ghn: GHN) -> None:
    report = ghn_init.predict(network(), ghn, images(), head=True, condition="orthogonal+noise", strict=True).report
    assert [row.name for row in report.rows if row.conditioning] == ["0.weight", "3.weight"]
    line = next(line for line in report.table().splitlines() if line.startswith("3.weight"))
    assert line.endswith("noise added, made orthogonal")
    assert [text for text in report.warnings if "batch norms" not in text] == []


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            lambda: "orthonormal",
            "condition is 'orthonormal'; expected 'auto', 'balanced', 'none', 'orthogonal', 'noise', 'orthogonal",
        ),
        (lambda: None, "condition is None; expected 'auto'"),
        (lambda: Conditioning("noise", beta=-1.0), r"beta is -1.0; expected a finite number"),
        (lambda: Conditioning("noise", beta=float("nan")), "beta is nan; expected a finite number"),
        (lambda: Conditioning("noise", first_layer=0), "first_layer is 0; expected an integer of at least 1"),
    ],
)
def test_wrong_settings_are_refused(ghn: GHN, condition: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ghn_init.initialize(network(), ghn, images(), head=True, condition=condition())

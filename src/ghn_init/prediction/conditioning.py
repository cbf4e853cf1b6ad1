"""Conditioning of predicted weights for fine-tuning: noise tells tiled copies apart, then matrices become orthogonal.

Source: Knyazev, "Pretraining a neural network before knowing its architecture", 2022 (arXiv 2207.10049).
"""

# Axes: O output channels, K all other axes of a weight (input channels × kernel), R ≥ C the longer and the shorter of both

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from ghn_init.devices import in_float64
from ghn_init.graph import WEIGHT_PRIMITIVES, Graph
from ghn_init.hypernetwork.slots import Slot, stacked, unstacked

Kind = Literal["orthogonal", "noise", "orthogonal+noise"]
Condition = Literal["auto", "balanced", "none"] | Kind

_NOTES = {"orthogonal": "made orthogonal", "noise": "noise added", "orthogonal+noise": "noise added, made orthogonal"}


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What is done to predicted weights of two and more axes; the classification head is left out.

    `orthogonal` is the published post-processing: a weight, as a matrix, becomes the Q of its QR decomposition, so that all its
    singular values are one and the predicted scale is gone. Tiled channels are copies, of which QR makes orthonormal but
    arbitrary directions that rounding decides (the same on the same machine, not on another one); depthwise kernels become
    small, of norm √(9 / channels) for 3×3. `noise` is small (1e-5), but enough for copies to learn apart.
    `orthogonal+noise` adds it first, as published: then the seed decides those directions. QR costs what
    `torch.nn.init.orthogonal_` does, far more than prediction. Of predicted features `orthogonal` leaves little: a head
    fitted to them in closed form is about as accurate as on orthogonal weights, in some networks half-way (`docs/recipes.md`).

    The published settings are β = 3e-5 from layer 37 on for ResNet-50 on CIFAR-10, and from layer 94 on for ConvNeXt-Base.
    Published code adds noise to earlier layers (but ConvNeXt's) and to norms as well, of weights to channels above 64 alone,
    and makes orthogonal what has more than 64; this follows the paper's description.

    Attributes:
        kind: `orthogonal`, `noise` or `orthogonal+noise`.
        beta: Standard deviation of the noise, as a multiple of that of the correlations between a weight's rows.
        first_layer: Number of the first weight to condition, in the model's order, counted from 1.
        keep_scale: Orthogonal matrices get the Frobenius norm that was predicted; not published.
        vectors: Biases and norms are predicted too, as published; without, they keep the model's own values. Predicted ones go
            with the scale of predicted weights, which `orthogonal` takes away (`docs/few_shot.md` of the repository has both).
    """

    kind: Kind
    beta: float = 3e-5
    first_layer: int = 1
    keep_scale: bool = False
    vectors: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"condition is {self.kind!r}; expected 'auto', 'balanced', 'none', {', '.join(map(repr, get_args(Kind)))}."
            )
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta is {self.beta!r}; expected a finite number of at least 0.")
        if not isinstance(self.first_layer, int) or self.first_layer < 1:
            raise ValueError(f"first_layer is {self.first_layer!r}; expected an integer of at least 1.")

    @classmethod
    def of(cls, condition: Condition | Conditioning) -> Conditioning | None:
        """What the user asked for; None where nothing is to be done.

        Raises:
            ValueError: No such kind.
        """
        if isinstance(condition, Conditioning):
            return condition
        return None if condition in ("auto", "balanced", "none") else cls(cast(Kind, condition))

    @property
    def note(self) -> str:
        """What the report says."""
        return _NOTES[self.kind]


def chosen(
    conditioning: Conditioning | None, graph: Graph, parameters: Iterable[str], predicted: Collection[str]
) -> frozenset[str]:
    """Dotted names of the weights to condition.

    Args:
        conditioning: The user's wish.
        graph: The model's graph.
        parameters: Dotted names in the model's order; kept ones count as layers too.
        predicted: Those that are predicted.

    Raises:
        ValueError: The first layer is beyond the last one.
    """
    if conditioning is None:
        return frozenset()
    weights = {
        node.weight: node.head or node.side_head
        for node in graph.nodes
        if node.primitive in WEIGHT_PRIMITIVES and len(node.shape or ()) > 1
    }
    layers = [name for name in parameters if name in weights]
    if conditioning.first_layer > max(len(layers), 1):
        raise ValueError(
            f"first_layer is {conditioning.first_layer}, but the model has {len(layers)} weights of two axes or more."
        )
    return frozenset(name for name in layers[conditioning.first_layer - 1 :] if name in predicted and not weights[name])


@torch.no_grad()
def conditioned(weight: Tensor, slot: Slot, conditioning: Conditioning, generator: torch.Generator) -> Tensor:
    """A new weight in the place of a predicted one; needs about four times its memory meanwhile.

    Args:
        weight: float32, of the parameter's shape.
        slot: The parameter.
        conditioning: What is to be done.
        generator: Draws the noise, on the CPU.
    """
    if slot.stack is not None:
        maps = stacked(slot.stack, weight)
        with torch.autocast(weight.device.type, enabled=False):
            maps = torch.stack([_conditioned(each.flatten(1), conditioning, generator).view(each.shape) for each in maps])
        return unstacked(slot.stack, maps).reshape(weight.shape)
    stored = slot.layout if not slot.transposed else (slot.layout[1], slot.layout[0], *slot.layout[2:])
    axes = weight.view(stored).transpose(0, 1) if slot.transposed else weight.view(stored)
    with torch.autocast(weight.device.type, enabled=False):
        matrix = _conditioned(axes.flatten(1), conditioning, generator).view(axes.shape)
    return (matrix.transpose(0, 1) if slot.transposed else matrix).reshape(weight.shape)


def _conditioned(matrix: Tensor, conditioning: Conditioning, generator: torch.Generator) -> Tensor:
    """(O, K) → (O, K)."""
    wide = matrix.shape[0] < matrix.shape[1]
    if "noise" in conditioning.kind:
        noise = torch.randn(matrix.shape, generator=generator, dtype=torch.float32, device="cpu").to(matrix.device)
        matrix = noise.mul_(conditioning.beta * correlation_spread(matrix.T if wide else matrix)).add_(matrix)
    if "orthogonal" in conditioning.kind:
        norm = matrix.norm()
        matrix = orthogonal(matrix.T).T if wide else orthogonal(matrix)
        if conditioning.keep_scale:
            matrix = matrix * (norm / matrix.norm())
    return matrix.contiguous()


def orthogonal(matrix: Tensor) -> Tensor:
    """Q·sign(diag R) of the QR decomposition of (R, C), R ≥ C; a zero on R's diagonal counts as positive.

    With the published sign(0) = 0 a column that repeats another one exactly would become zero, and its channel would be dead.
    """
    q, r = torch.linalg.qr(matrix)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)


def correlation_spread(matrix: Tensor) -> float:
    """Standard deviation of the entries of `torch.corrcoef(matrix)`, matrix (R, C), without making its R² entries.

    Rows Z of norm one give ΣC = |ΣZ|² and ΣC² = |ZᵀZ|². Constant rows have no correlation (`corrcoef` gives NaN) and don't
    count. Where no two others are left, or all are copies of each other, 1 takes the place of a spread that would be no noise.
    """
    rows = matrix - matrix.mean(1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    varies = (norms > 1e-6 * matrix.norm(dim=1, keepdim=True)).squeeze(1)
    rows = rows[varies] / norms[varies]
    count = len(rows) ** 2
    if count < 2:
        return 1.0
    total = float(in_float64(rows.sum(0)).square().sum())
    squares = float(in_float64(rows.T @ rows).square().sum())
    variance = (squares - total**2 / count) / (count - 1)
    return math.sqrt(variance) if variance > 1e-6 else 1.0

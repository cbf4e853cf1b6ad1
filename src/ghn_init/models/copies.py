"""Images that come again: what draws with replacement yields some twice, and none of them tells anything of its copies."""

# Axes: B images of a batch

from __future__ import annotations

import torch
from torch import Tensor

from ghn_init.models.batches import Inputs


class Seen:
    """Knows images, with their labels, by a hash of their values; the same ones augmented otherwise are others."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def new(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """(B,) bool, on the CPU: which images of a batch were not among these before, nor earlier in it."""
        values = (labels, *inputs.args, *inputs.kwargs.values())
        rows = [_bytes(value) for value in values if isinstance(value, Tensor) and value.dim() and len(value) == len(labels)]
        return torch.tensor([self._is_new(row) for row in zip(*rows, strict=True)], dtype=torch.bool, device="cpu")

    def _is_new(self, row: tuple[Tensor, ...]) -> bool:
        known = len(self._hashes)
        self._hashes.add(hash(tuple(value.numpy().tobytes() for value in row)))
        return len(self._hashes) > known


def _bytes(value: Tensor) -> Tensor:
    """(B, …) → (B, bytes) uint8."""
    rows = value.detach().cpu().flatten(1) if value.dim() > 1 else value.detach().cpu()[:, None]
    return rows.contiguous().view(torch.uint8)

"""In which order labelled images come: where it is that of the classes, batches have few of them, and norms take these out."""

# Axes: n images

from __future__ import annotations

import torch
from torch import Tensor


def in_runs(labels: Tensor) -> bool:
    """Whether (n,) labels change far less often than by chance."""
    changes = int(labels.diff().count_nonzero())
    shares = labels.bincount() / len(labels)
    by_chance = len(labels) * (1 - float(shares.square().sum()))
    return changes + 1 == len(labels.unique()) or changes < by_chance / 2


def shuffled(count: int, seed: int = 0) -> Tensor:
    """(count,) numbers from 0 in an order that the seed alone tells."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed), device="cpu")

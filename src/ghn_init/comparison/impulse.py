"""Attention that begins as a convolution with random impulses: each head looks at one neighbour of each patch.

Source: Zheng, Li, Saratchandran, Lucey, "Structured Initialization for Vision Transformers", 2025 (arXiv 2505.19985), with the
constants of its authors' code.
"""

# Axes: D width of a transformer, H heads, d width of a head, n patches

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ghn_init.comparison.classical import plain_attention, value_projection_
from ghn_init.comparison.weights import write_
from ghn_init.errors import ComparisonError

SHIFTS = ((0, 0), (-1, 0), (0, 1), (0, -1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Rows and columns to the patch that a head looks at, in the order in which heads take them."""
IMPULSE, NOISE = 1000.0, 3.0
"""Logit of that patch, and the deviation from 0 of all others, before both are scaled."""
EMBEDDING_SCALE, NORM = 18.0, 7.0
"""Of positional embeddings, and the Frobenius norm of each head's queries and keys."""


def impulse(model: nn.Module, seed: int) -> None:
    """Queries and keys whose products make each head of each patch look at one patch of its 3 × 3 neighbourhood.

    Positional embeddings become 18 times as large, so that they outweigh content at first. Values and projections become those
    of `mimetic`. For plain vision transformers of timm on a square grid of patches; the source's tasks had no class token.

    Args:
        model: Which is written to.
        seed: Not used.

    Raises:
        ComparisonError: The model has no such attention, or no positional embedding of a square grid.
    """
    embedding = grid_embedding(model)
    if embedding is None:
        raise ComparisonError(f"{type(model).__name__} has no plain attention with a positional embedding of a square grid.")
    with torch.no_grad():
        embedding.mul_(EMBEDDING_SCALE)
        for block in plain_attention(model):
            _look_(block, F.layer_norm(embedding, embedding.shape[-1:]))
            value_projection_(block, 0.4)


def grid_embedding(model: nn.Module) -> Tensor | None:
    """(n, D) rows of a model's positional embedding that stand for patches of a square grid; None where there are none."""
    embedding = getattr(model, "pos_embed", None)
    if not plain_attention(model) or not isinstance(embedding, nn.Parameter) or embedding.dim() != 3:
        return None
    prefix = 0 if getattr(model, "no_embed_class", False) else getattr(model, "num_prefix_tokens", 0)
    rows = embedding.detach()[0, prefix:]
    return rows if len(rows) and math.isqrt(len(rows)) ** 2 == len(rows) else None


def _look_(block: Any, positions: Tensor) -> None:
    """Writes a block's queries and keys, for normed positional embeddings as inputs."""
    qkv, heads = block.qkv, int(block.num_heads)
    D = qkv.in_features
    d = D // heads
    U, s, Vh = torch.linalg.svd(positions.cpu().double(), full_matrices=False)
    rank = min(d, len(s))
    inverse = (Vh[:rank].T / s[:rank]) @ U[:, :rank].T  # (D, n)
    whole = qkv.weight.detach().clone()
    for head in range(heads):
        wanted = inverse @ _logits(math.isqrt(len(positions)), SHIFTS[head % len(SHIFTS)]) @ inverse.T
        left, strengths, right = torch.linalg.svd(wanted)
        for first, factor in ((0, left[:, :d]), (D, right[:d].T)):
            factor = factor * strengths[:d].sqrt()
            rows = slice(first + head * d, first + (head + 1) * d)
            whole[rows] = (NORM * factor / factor.norm()).T.to(whole)
    write_(qkv, whole)


def _logits(side: int, shift: tuple[int, int]) -> Tensor:
    """(n, n) float64: high where the column's patch is the row's, shifted; noise elsewhere."""
    rows, columns = (torch.diag(torch.ones(side - abs(k), dtype=torch.float64, device="cpu"), k) for k in shift)
    hit = torch.kron(rows, columns)
    noise = nn.init.trunc_normal_(torch.empty_like(hit), std=0.6)
    return IMPULSE * hit + NOISE * noise * (hit == 0)

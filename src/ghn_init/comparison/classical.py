"""Classical initialisations: the model's own, orthogonal, zero gammas, mimetic attention."""

# Axes: D width of a transformer, H heads, d width of a head

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.comparison.weights import writable, write_
from ghn_init.errors import ComparisonError
from ghn_init.tracing.trace import trace

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def default(model: nn.Module, seed: int) -> None:
    """The model's own."""


def orthogonal(model: nn.Module, seed: int) -> None:
    """Orthogonal weights for all convolutions and linear layers (Saxe et al., ICLR 2014, arXiv 1312.6120).

    Raises:
        ComparisonError: A hook computes one of them.
    """
    for module in model.modules():
        if isinstance(module, LAYERS):
            write_(module, nn.init.orthogonal_(torch.empty(module.weight.shape, device=module.weight.device)))


def zero_gamma(model: nn.Module, seed: int, example_inputs: Any = None) -> None:
    """Zero weights for the last norm of each residual branch (Goyal et al. 2017, arXiv 1706.02677, section 5.1).

    Args:
        model: Which is written to.
        seed: Not used.
        example_inputs: As `ghn_init.trace` takes them.

    Raises:
        ComparisonError: There are no such norms.
    """
    names = residual_norms(model, example_inputs)
    if not names:
        raise ComparisonError(f"{type(model).__name__} has no residual branch that ends in a norm.")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].zero_()


def residual_norms(model: nn.Module, example_inputs: Any = None) -> list[str]:
    """Dotted names of the norm weights that end the longest way into a sum, as the architecture graph shows them."""
    graph = trace(model, example_inputs)
    ends: dict[int, list[int]] = {}
    for i, j in graph.edges:
        if graph.nodes[j].primitive == "sum":
            ends.setdefault(j, []).append(i)
    names = []
    for sources in ends.values():
        node = graph.nodes[max(sources, key=lambda i: graph.depths[i])]
        if node.primitive == "bn" and node.weight is not None:
            names.append(node.weight)
    return names


def mimetic(model: nn.Module, seed: int, query_key: float = 0.7, value_projection: float = 0.4) -> None:
    """Attention weights whose products resemble those of trained vision transformers: W_q W_kᵀ ≈ I and W_v W_proj ≈ −I.

    Each product is drawn as α·Z ± β·I with Z from N(0, 1/D), α = β, and factorised by its SVD. Positional embeddings become
    sinusoidal. For plain vision transformers of timm (`attn.qkv` and `attn.proj`).

    Source: Trockman and Kolter, ICML 2023 (arXiv 2305.09828).

    Raises:
        ComparisonError: The model has no such attention.
    """
    blocks = plain_attention(model)
    if not blocks:
        raise ComparisonError(f"{type(model).__name__} has no attention with square `qkv` and `proj`, and `num_heads`.")
    with torch.no_grad():
        for block in blocks:
            _mimetic_block(block, query_key, value_projection)
        embedding = getattr(model, "pos_embed", None)
        if isinstance(embedding, nn.Parameter):
            prefix = 0 if getattr(model, "no_embed_class", False) else getattr(model, "num_prefix_tokens", 0)
            _sinusoidal_(embedding, prefix)


def plain_attention(model: nn.Module) -> list[nn.Module]:
    """Modules whose `qkv` stacks queries, keys and values of the width of their inputs, heads side by side."""
    return [module for module in model.modules() if _is_plain_attention(module)]


def _is_plain_attention(module: Any) -> bool:
    qkv, proj, heads = (getattr(module, name, None) for name in ("qkv", "proj", "num_heads"))
    if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and isinstance(heads, int)):
        return False
    D = qkv.in_features
    fits = qkv.out_features == 3 * D and (proj.in_features, proj.out_features) == (D, D) and D % heads == 0
    fits = fits and writable(qkv) and writable(proj)
    return fits and not getattr(module, "head_first", False)  # timm's MaxViT stacks q, k and v head by head


def _mimetic_block(block: Any, query_key: float, value_projection: float) -> None:
    value_projection_(block, value_projection)
    qkv, heads = block.qkv, int(block.num_heads)
    D = qkv.in_features
    d = D // heads
    eye, spread, whole = torch.eye(D, device="cpu"), 1 / math.sqrt(D), qkv.weight.detach().clone()
    for head in range(heads):
        u, s, vh = torch.linalg.svd(query_key * eye + query_key * spread * torch.randn(D, D, device="cpu"))
        root = s[:d].sqrt()
        whole[head * d : (head + 1) * d] = (u[:, :d] * root).T
        whole[D + head * d : D + (head + 1) * d] = root[:, None] * vh[:d]
    write_(qkv, whole)


def value_projection_(block: Any, size: float) -> None:
    """Values and projections whose product is −β·I and noise as large, β = `size`."""
    qkv, proj = block.qkv, block.proj
    D = qkv.in_features
    noise, eye = torch.randn(D, D, device="cpu"), torch.eye(D, device="cpu")
    u, s, vh = torch.linalg.svd(size * (noise / math.sqrt(D) - eye))
    root = s.sqrt()
    write_(qkv, (u * root).T, slice(2 * D, None))  # values: x W_v
    write_(proj, (root[:, None] * vh).T)


def _sinusoidal_(embedding: Tensor, prefix: int) -> None:
    """Sines and cosines of rows and columns of a square grid, in (1, prefix + n, D)."""
    n, D = embedding.shape[-2] - prefix, embedding.shape[-1]
    side = math.isqrt(n)
    if side**2 != n or D % 4:
        return
    rates = 10_000 ** (-torch.arange(D // 4, device="cpu") / (D // 4))
    places = torch.arange(side, device="cpu")
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    angles = [axis.reshape(-1, 1) * rates for axis in (rows, columns)]
    embedding[..., prefix:, :] = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)

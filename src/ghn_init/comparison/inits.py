"""The initialisations that race: the model's own, classical ones, predicted parameters. Each writes into a fresh model."""

# Axes: D width of a transformer, H heads, d width of a head

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from ghn_init.api import initialize
from ghn_init.checkpoints.pretrained import bundled, load
from ghn_init.errors import ComparisonError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction.conditioning import Condition, Conditioning, Kind
from ghn_init.prediction.selection import Head
from ghn_init.tracing.trace import trace

Init = Callable[[nn.Module, int], None]
"""Writes into a model that its own initialisation has been through; the second argument is a seed."""


def default(model: nn.Module, seed: int) -> None:
    """The model's own."""


def orthogonal(model: nn.Module, seed: int) -> None:
    """Orthogonal weights for all convolutions and linear layers (Saxe et al., ICLR 2014, arXiv 1312.6120)."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            drawn = nn.init.orthogonal_(torch.empty(module.weight.shape, device=module.weight.device))
            with torch.no_grad():
                module.weight.copy_(drawn)  # which has its own dtype and memory format


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
    depth = [0] * graph.num_nodes
    for i, j in sorted(graph.edges, key=lambda edge: edge[1]):
        depth[j] = max(depth[j], depth[i] + 1)
    ends: dict[int, list[int]] = {}
    for i, j in graph.edges:
        if graph.nodes[j].primitive == "sum":
            ends.setdefault(j, []).append(i)
    names = []
    for sources in ends.values():
        node = graph.nodes[max(sources, key=lambda i: depth[i])]
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
    blocks = _plain_attention(model)
    if not blocks:
        raise ComparisonError(f"{type(model).__name__} has no attention with square `qkv` and `proj`, and `num_heads`.")
    with torch.no_grad():
        for block in blocks:
            _mimetic_block(block, query_key, value_projection)
        embedding = getattr(model, "pos_embed", None)
        if isinstance(embedding, nn.Parameter):
            prefix = 0 if getattr(model, "no_embed_class", False) else getattr(model, "num_prefix_tokens", 0)
            _sinusoidal_(embedding, prefix)


def _plain_attention(model: nn.Module) -> list[nn.Module]:
    """Modules whose `qkv` stacks queries, keys and values of the width of their inputs, heads side by side."""
    return [module for module in model.modules() if _is_plain_attention(module)]


def _is_plain_attention(module: Any) -> bool:
    qkv, proj, heads = (getattr(module, name, None) for name in ("qkv", "proj", "num_heads"))
    if not (isinstance(qkv, nn.Linear) and isinstance(proj, nn.Linear) and isinstance(heads, int)):
        return False
    D = qkv.in_features
    fits = qkv.out_features == 3 * D and (proj.in_features, proj.out_features) == (D, D) and D % heads == 0
    return fits and not getattr(module, "head_first", False)  # timm's MaxViT stacks q, k and v head by head


def _mimetic_block(block: Any, query_key: float, value_projection: float) -> None:
    qkv, proj, heads = block.qkv, block.proj, int(block.num_heads)
    D = qkv.in_features
    d = D // heads
    eye, spread = torch.eye(D), 1 / math.sqrt(D)
    u, s, vh = torch.linalg.svd(-value_projection * eye + value_projection * spread * torch.randn(D, D))
    root = s.sqrt()
    qkv.weight[2 * D :] = (u * root).T  # values: x W_v
    proj.weight.copy_((root[:, None] * vh).T)
    for head in range(heads):
        u, s, vh = torch.linalg.svd(query_key * eye + query_key * spread * torch.randn(D, D))
        root = s[:d].sqrt()
        qkv.weight[head * d : (head + 1) * d] = (u[:, :d] * root).T
        qkv.weight[D + head * d : D + (head + 1) * d] = root[:, None] * vh[:d]


def _sinusoidal_(embedding: Tensor, prefix: int) -> None:
    """Sines and cosines of rows and columns of a square grid, in (1, prefix + n, D)."""
    n, D = embedding.shape[-2] - prefix, embedding.shape[-1]
    side = math.isqrt(n)
    if side**2 != n or D % 4:
        return
    rates = 10_000 ** (-torch.arange(D // 4) / (D // 4))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [axis.reshape(-1, 1) * rates for axis in (rows, columns)]
    embedding[..., prefix:, :] = torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)


def predicted(
    ghn: GraphHyperNetwork, condition: Condition | Conditioning = "auto", head: Head = "auto", example_inputs: Any = None
) -> Init:
    """Predicted parameters, as `initialize` writes them."""

    def write(model: nn.Module, seed: int) -> None:
        initialize(model, ghn, example_inputs, head=head, seed=seed, condition=condition)

    return write


_WEIGHTS = "+weights"

CLASSICAL: Mapping[str, Init] = {"default": default, "zero-gamma": zero_gamma, "orthogonal": orthogonal, "mimetic": mimetic}
NAMES = (*CLASSICAL, "GHN", "GHN+CONDITION", f"GHN+CONDITION{_WEIGHTS}")
"""What `named` takes."""


def named(name: str, example_inputs: Any = None) -> Init:
    """An init by name: a classical one, or a hypernetwork as `ghn_init.load` takes it.

    Args:
        name: Of the init; of a hypernetwork `NAME`, `NAME+CONDITION`, or `NAME+CONDITION+weights`, where biases and norms keep
            the model's own values.
        example_inputs: As `ghn_init.trace` takes them, for inits that trace.

    Raises:
        CheckpointError: Neither.
        ComparisonError: No such condition.
    """
    if name == "zero-gamma":
        return partial(zero_gamma, example_inputs=example_inputs)
    if name in CLASSICAL:
        return CLASSICAL[name]
    checkpoint, plus, condition = name.partition("+")
    if not plus:
        return predicted(load(checkpoint), example_inputs=example_inputs)
    kind = condition.removesuffix(_WEIGHTS)
    if kind not in get_args(Kind):
        raise ComparisonError(
            f"{name!r} has the condition {condition!r}; expected {', '.join(get_args(Kind))}, or one with {_WEIGHTS}."
        )
    conditioning = Conditioning(cast(Kind, kind), vectors=kind == condition)
    return predicted(load(checkpoint), conditioning, example_inputs=example_inputs)


def applicable(model: nn.Module, example_inputs: Any = None) -> list[str]:
    """Names of the inits that suit a model: classical ones, and each bundled hypernetwork without and with conditioning.

    For plain attention its weights alone as well. Zero gammas are left out where they are the default, as in timm's ResNets.
    """
    names = ["default"]
    gammas = [model.get_parameter(name) for name in residual_norms(model, example_inputs)]
    if any(gamma.is_meta or bool(gamma.any()) for gamma in gammas):
        names.append("zero-gamma")
    names.append("orthogonal")
    attention = bool(_plain_attention(model))
    if attention:
        names.append("mimetic")
    for checkpoint in bundled():
        names += [checkpoint, f"{checkpoint}+noise", f"{checkpoint}+orthogonal+noise"]
        if attention:
            names.append(f"{checkpoint}+orthogonal+noise{_WEIGHTS}")
    return names

"""One sweep of the gated graph network over the nodes in order, forward and backward, in NumPy.

The sweep is sequential: a node's message needs its predecessors' new states. Its steps are tiny, so PyTorch's cost per call
would be nearly all of the time; NumPy's is several times smaller. Each node's two MLPs run once, not once per edge, and
in the backward pass the gradients of the parameters are left to one matrix product at the end.

    m_t = Σ_j real[t, j] · MLP(h_j) + Σ_j virtual[t, j] · MLP_ve(h_j),   h_t ← GRUCell(m_t, h_t)        (GHN-2, section 4.1)
"""

# Axes: B graphs, N nodes (padded), D hidden, K hidden units of the MLPs (both MLPs side by side)

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]


class Sweep(torch.autograd.Function):
    """(B, N, D) states → (B, N, D) states after one sweep in index order.

    `edges` is (P, B, N, N): for each of the P message functions (1 for GHN-1, 2 for GHN-2) the weight with which row t
    takes the message of column j; only j < t may be non-zero. The MLPs of all P functions come side by side: `w1` (K, D),
    `w2` block diagonal (P·D, K).
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        edges: Array,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
    ) -> Tensor:
        """Runs the sweep and keeps what the backward pass needs."""
        weights = tuple(w.detach().cpu().numpy() for w in (w1, b1, w2, b2, w_ih, w_hh, b_ih, b_hh))
        ctx.device = h.device
        ctx.saved = (edges, weights, *_forward(h.detach().cpu().numpy(), edges, *weights))
        return torch.from_numpy(ctx.saved[2]).to(h.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Gradients of the states and of the eight weights; `edges` has none."""
        grads = _backward(grad.cpu().numpy(), *ctx.saved)
        on_device = [torch.from_numpy(g).to(ctx.device) for g in grads]
        return (on_device[0], None, *on_device[1:])


def _forward(
    h: Array,
    edges: Array,
    w1: Array,
    b1: Array,
    w2: Array,
    b2: Array,
    w_ih: Array,
    w_hh: Array,
    b_ih: Array,
    b_hh: Array,
) -> tuple[Array, ...]:
    B, N, D = h.shape
    P = edges.shape[0]
    w1_t, w2_t, w_ih_t = w1.T.copy(), w2.T.copy(), w_ih.T.copy()
    gates_h = h @ w_hh.T + b_hh
    messages = np.zeros((P, B, N, D), np.float32)
    out, m = np.empty_like(h), np.empty_like(h)
    gates, new = np.empty((B, N, 2 * D), np.float32), np.empty_like(h)
    hidden = np.empty((B, N, w1.shape[0]), np.float32)
    for t in range(N):
        m_t = np.matmul(edges[:, :, t, None, :t], messages[:, :, :t]).sum(0)[:, 0]
        gates_m = m_t @ w_ih_t + b_ih
        rz = 0.5 * np.tanh(0.5 * (gates_m[:, : 2 * D] + gates_h[:, t, : 2 * D])) + 0.5
        n = np.tanh(gates_m[:, 2 * D :] + rz[:, :D] * gates_h[:, t, 2 * D :])
        h_t = n + rz[:, D:] * (h[:, t] - n)
        a = np.maximum(h_t @ w1_t + b1, 0)
        u = np.maximum(a @ w2_t + b2, 0)
        messages[:, :, t] = u.reshape(B, P, D).swapaxes(0, 1)
        out[:, t], m[:, t], gates[:, t], new[:, t], hidden[:, t] = h_t, m_t, rz, n, a
    return out, h, gates_h, messages, m, gates, new, hidden


def _backward(
    grad: Array,
    edges: Array,
    weights: tuple[Array, ...],
    out: Array,
    h: Array,
    gates_h: Array,
    messages: Array,
    m: Array,
    gates: Array,
    new: Array,
    hidden: Array,
) -> tuple[Any, ...]:
    w1, _, w2, _, w_ih, w_hh, _, _ = weights
    B, N, D = grad.shape
    P = edges.shape[0]
    backwards = edges.swapaxes(2, 3).copy()
    d_m, d_direct = np.zeros_like(grad), np.empty_like(grad)
    d_gates_m, d_gates_h = np.empty((B, N, 3 * D), np.float32), np.empty((B, N, 3 * D), np.float32)
    d_hidden, d_u = np.empty_like(hidden), np.empty((B, N, P * D), np.float32)
    for t in reversed(range(N)):
        d_messages = np.matmul(backwards[:, :, t, None, t + 1 :], d_m[None, :, t + 1 :])[:, :, 0]
        u = messages[:, :, t]
        d_u_t = (d_messages * (u > 0)).swapaxes(0, 1).reshape(B, P * D)
        d_a = (d_u_t @ w2) * (hidden[:, t] > 0)
        d_h = grad[:, t] + d_a @ w1
        r, z, n = gates[:, t, :D], gates[:, t, D:], new[:, t]
        d_n = d_h * (1 - z) * (1 - n * n)
        d_z = d_h * (h[:, t] - n) * z * (1 - z)
        d_r = d_n * gates_h[:, t, 2 * D :] * r * (1 - r)
        d_gates_m[:, t, :D] = d_gates_h[:, t, :D] = d_r
        d_gates_m[:, t, D : 2 * D] = d_gates_h[:, t, D : 2 * D] = d_z
        d_gates_m[:, t, 2 * D :], d_gates_h[:, t, 2 * D :] = d_n, d_n * r
        d_m[:, t] = d_gates_m[:, t] @ w_ih
        d_direct[:, t], d_hidden[:, t], d_u[:, t] = d_h * z, d_a, d_u_t

    def outer(g: Array, x: Array) -> Any:
        return g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])

    d_states = d_direct + d_gates_h @ w_hh
    return (
        d_states,
        outer(d_hidden, out),
        d_hidden.sum((0, 1)),
        outer(d_u, hidden),
        d_u.sum((0, 1)),
        outer(d_gates_m, m),
        outer(d_gates_h, h),
        d_gates_m.sum((0, 1)),
        d_gates_h.sum((0, 1)),
    )

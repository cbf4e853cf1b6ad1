"""The hypernetwork's optimiser: AdamW, or Muon for the matrices and AdamW for the rest; one update; the weight average."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from ghn_init.errors import TrainingError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork

OPTIMIZERS = ("adamw", "muon")


class Optimizers:
    """Steps several optimisers as one, keyed by parameter name on disk."""

    def __init__(self, model: GraphHyperNetwork, name: str, lr: float, weight_decay: float) -> None:
        if name not in OPTIMIZERS:
            raise TrainingError(f"optimizer is {name!r}; expected one of {', '.join(OPTIMIZERS)}.")
        named = {n: p for n, p in model.named_parameters() if p.requires_grad}
        matrices = {n: p for n, p in named.items() if name == "muon" and p.dim() == 2 and not _is_table(n)}
        rest = {n: p for n, p in named.items() if n not in matrices}
        self._names = [names for names in (list(matrices), list(rest)) if names]
        self._parts: list[Optimizer] = [AdamW(list(rest.values()), lr=lr, weight_decay=weight_decay)]
        if matrices:
            self._parts.insert(0, _muon(list(matrices.values()), lr, weight_decay))

    def step(self, lr: float) -> None:
        """One update at a learning rate."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()

    def state(self) -> dict[str, dict[str, Any]]:
        """Parameter name → the optimiser's tensors for it."""
        return {
            names[index]: slots
            for names, part in zip(self._names, self._parts, strict=True)
            for index, slots in part.state_dict()["state"].items()
        }

    def restore(self, state: dict[str, dict[str, Any]]) -> None:
        """Takes back what `state` gave.

        Raises:
            TrainingError: Another optimiser gave it.
        """
        for names, part in zip(self._names, self._parts, strict=True):
            slots = {index: state[name] for index, name in enumerate(names) if name in state}
            needed = "exp_avg_sq" if isinstance(part, AdamW) else "momentum_buffer"
            if any(needed not in own for own in slots.values()):
                raise TrainingError("the run was begun with another optimizer; go on with that one, or pass another folder.")
            part.load_state_dict({"state": slots, "param_groups": part.state_dict()["param_groups"]})


def _is_table(name: str) -> bool:
    """Embeddings and the maps to classes are no hidden matrices: Muon is not for them."""
    return name.startswith(("embed.", "shape_enc.", "heads."))


def _muon(matrices: list[nn.Parameter], lr: float, weight_decay: float) -> Optimizer:
    """Muon with updates as large as AdamW's (Liu et al. 2025, arXiv 2502.16982), so that one learning rate does for both."""
    if not hasattr(torch.optim, "Muon"):
        raise TrainingError(f"optimizer is 'muon', which PyTorch {torch.__version__} lacks; update it to 2.9 or take 'adamw'.")
    return torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")


def update(
    model: GraphHyperNetwork, average: GraphHyperNetwork, optimizers: Optimizers, lr: float, clip: float, decay: float
) -> bool:
    """One step with the gradient clipped to the norm `clip`, and the weight average; nothing where it is not finite.

    Returns:
        Whether it is.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    finite = bool(torch.isfinite(norm))
    if finite:
        optimizers.step(lr)
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    return finite

"""A training run on disk: tensors in safetensors, everything else in its metadata; written atomically, read without pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ghn_init.errors import TrainingError


def save_state(
    path: Path,
    step: int,
    config: dict[str, object],
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Writes `path` so that a reader sees the old file or the new one, never half of it."""
    names = [name for name, _ in model.named_parameters()]
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{names[index]}.{k}": v for k, v in slots.items()}
    metadata = {"step": str(step), "config": json.dumps(config)}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


def load_state(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores what `save_state` wrote and returns the step.

    Raises:
        TrainingError: The file is damaged or belongs to another hypernetwork.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step = int(file.metadata()["step"])
        model.load_state_dict(_below(tensors, "model."))
        average.load_state_dict(_below(tensors, "average."))
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{path} does not fit this run ({error}); pass another folder or remove the file.") from error
    state: dict[int, dict[str, Tensor]] = {}
    for index, (name, _) in enumerate(model.named_parameters()):
        slots = _below(tensors, f"optimizer.{name}.")
        if slots:
            state[index] = slots
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

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
from ghn_init.training.optimizer import Optimizers


def save_state(
    path: Path,
    step: int,
    config: dict[str, object],
    model: nn.Module,
    average: nn.Module,
    optimizers: Optimizers,
) -> None:
    """Writes `path` so that a reader sees the old file or the new one, never half of it."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for name, slots in optimizers.state().items():
        tensors |= {f"optimizer.{name}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    metadata = {"step": str(step), "config": json.dumps(config)}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


def load_state(path: Path, model: nn.Module, average: nn.Module, optimizers: Optimizers) -> int:
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
    own = {name: _below(tensors, f"optimizer.{name}.") for name, _ in model.named_parameters()}
    optimizers.restore({name: slots for name, slots in own.items() if slots})
    return step


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

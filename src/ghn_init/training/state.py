"""A training run on disk: tensors in safetensors, the step in its metadata; written atomically, read without pickle."""

from __future__ import annotations

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
    model: nn.Module,
    average: nn.Module,
    optimizers: Optimizers,
) -> None:
    """Writes `path` so that a reader sees the old file or the new one, never half of it."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for name, slots in optimizers.state().items():
        tensors |= {f"optimizer.{name}.{k}": torch.as_tensor(v) for k, v in slots.items()}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, temporary, {"step": str(step)})
    os.replace(temporary, path)


def steps_taken(path: Path) -> int:
    """How many steps a run has taken.

    Raises:
        TrainingError: The file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return int(file.metadata()["step"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _unfit(path, error) from error


def load_state(path: Path, model: nn.Module, average: nn.Module, optimizers: Optimizers) -> None:
    """Restores what `save_state` wrote.

    Raises:
        TrainingError: The file is damaged or belongs to another hypernetwork.
    """
    try:
        with safe_open(path, "pt") as file:
            # Cloned: the optimiser keeps these tensors, which are views of the file, and the file is replaced while it runs.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        model.load_state_dict(_below(tensors, "model."))
        average.load_state_dict(_below(tensors, "average."))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _unfit(path, error) from error
    own = {name: _below(tensors, f"optimizer.{name}.") for name, _ in model.named_parameters()}
    optimizers.restore({name: slots for name, slots in own.items() if slots})


def _unfit(path: Path, error: Exception) -> TrainingError:
    told = " ".join(str(error).split())  # PyTorch's has several lines
    return TrainingError(f"{path} does not fit this run ({told}); pass another folder or remove the file.")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

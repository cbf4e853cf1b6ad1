"""What tells images and networks apart, in a few letters that are the same tomorrow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ghn_init.models.made_of import made_of
from ghn_init.ranking.candidates import Make
from ghn_init.tasks.task import described
from ghn_init.trials.pool import Pool, seeded


def of_images(pool: Pool) -> str:
    """Of all arguments and labels."""
    args = {str(k): value for k, value in enumerate(pool.inputs.args)}
    return _digest({**args, **pool.inputs.kwargs, "labels": pool.labels})


def of_network(make: Make, seed: int) -> str:
    """Of what it is made of and of all its values, as it is made after seeding."""
    seeded(seed)
    model = make()
    return _digest({"": made_of(model), **model.state_dict()})


def _digest(values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in values.items():
        if isinstance(value, Tensor) and not (value.is_meta or is_lazy(value)):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name} {described(value)}".encode())
    return digest.hexdigest()[:12]

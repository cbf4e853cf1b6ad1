"""Random generators that loaders have for themselves: seeding PyTorch's own changes nothing there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def own_generators(*loaders: Any) -> list[torch.Generator]:
    """Those that loaders, loaders inside of them, and their samplers hold."""
    found = []
    for loader in (each for outer in loaders for each in (outer, getattr(outer, "loader", None))):
        batch_sampler = getattr(loader, "batch_sampler", None)
        holders = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
        found += [getattr(holder, "generator", None) for holder in holders]
    return list(dict.fromkeys(each for each in found if isinstance(each, torch.Generator)))


@contextmanager
def generators_kept(*loaders: Any) -> Iterator[None]:
    """Puts loaders' own generators back as they were, and those of Python and NumPy, from which augmentations draw."""
    states = [(generator, generator.get_state()) for generator in own_generators(*loaders)]
    everyones = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(everyones[0])
        np.random.set_state(everyones[1])  # noqa: NPY002
        for generator, state in states:
            generator.set_state(state)


def seed_loaders(seed: int, *loaders: Any) -> None:
    """Seeds loaders' own generators; the caller sees to it that they are put back."""
    for generator in own_generators(*loaders):
        generator.manual_seed(seed)

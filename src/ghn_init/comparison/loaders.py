"""The loaders of a race, which are looked at before it: what fails later takes all runs before it along."""

# Axes: B images

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import ComparisonError, HeadError, RecalibrationError
from ghn_init.heads.features import class_numbers
from ghn_init.models.batches import Inputs, check_loader, inputs_of, labels_of
from ghn_init.models.generators import generators_kept

Loader = Iterable[Any]

USED_UP = ("builtins", "itertools", "torch.utils.data")
"""Modules whose iterators can be read once."""
EMPTY = "has no batches; pass one that can be iterated again and again."


def check_again(name: str, loader: Any) -> None:
    """Refuses what yields no batches, or can't be read again and again.

    Raises:
        ComparisonError: It does not, or can't.
    """
    if not isinstance(loader, Iterable):
        raise ComparisonError(f"{name} is a {type(loader).__name__}; expected a loader, which yields batches.")
    try:
        check_loader(loader)
    except RecalibrationError as error:
        raise ComparisonError(f"{name}: {error}") from error
    if isinstance(loader, Iterator) and type(loader).__module__.startswith(USED_UP):  # others may begin anew
        raise ComparisonError(
            f"{name} is a {type(loader).__name__}, which is used up once it is read, and each init is to see the same images; "
            f"pass a list of its batches, or a DataLoader."
        )


def look(name: str, loader: Loader, model: nn.Module, most: int | None) -> None:
    """Reads a loader until two classes were seen, in most cases one batch.

    Args:
        name: The loader's, in errors.
        loader: As a race takes them.
        model: Whose inputs it yields.
        most: Batches; None for all.

    Raises:
        ComparisonError: There are none, of one class, or as `taken`.
    """
    seen: set[int] = set()
    count = 0
    with torch.random.fork_rng(range(torch.cuda.device_count())), generators_kept(loader):  # loaders draw their order
        for content in islice(loader, most):
            try:
                _, labels = taken(model, content, torch.device("cpu"))
            except ComparisonError as error:
                raise ComparisonError(f"{name}: {error}") from error
            count += len(labels)
            seen |= set(labels.tolist())
            if len(seen) > 1:
                return
    if not seen:
        raise ComparisonError(f"{name} {EMPTY}")
    raise ComparisonError(
        f"all {count} images of {name} are of class {seen.pop()}; nothing can be told apart: pass images of two classes at "
        f"least, shuffled."
    )


def taken(model: nn.Module, content: Any, device: torch.device) -> tuple[Inputs, Tensor]:
    """What the forward takes of a batch, and its (B,) labels.

    Raises:
        ComparisonError: It can't be taken, has no labels or such as are no class numbers, or values that are not finite.
    """
    try:
        inputs = inputs_of(model, content, device)
        labels = class_numbers(labels_of(content), len(inputs)).to(device)
    except (RecalibrationError, HeadError) as error:
        raise ComparisonError(str(error)) from error
    if strange := inputs.not_finite():
        raise ComparisonError(f"of {len(inputs)} images of a batch {strange} hold values that are not finite; leave them out.")
    return inputs, labels

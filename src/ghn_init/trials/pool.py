"""Labelled images in memory, of which rows are taken for training and for judging: the same for all contestants."""

# Axes: N images, B images of a batch

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.errors import ComparisonError
from ghn_init.heads.features import class_numbers, without_images
from ghn_init.models.batches import Batches, Inputs, accepted, labels_of
from ghn_init.models.copies import Seen
from ghn_init.models.generators import seed_loaders
from ghn_init.models.order import in_runs, shuffled
from ghn_init.tracing.untouched import seed_torch

JUDGED_AT_ONCE = 64


def seeded(seed: int, *loaders: Any) -> None:
    """Seeds all generators that constructors and these loaders draw from; the caller has made sure that they are restored."""
    seed_torch(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    seed_loaders(seed, *loaders)


@dataclass(frozen=True)
class Pool:
    """A labelled data set.

    Attributes:
        inputs: The forward's arguments for all N images; what has no batch axis is the same for all of them.
        labels: (N,) int64, on the CPU.
    """

    inputs: Inputs
    labels: Tensor

    @classmethod
    def of(cls, batches: Batches) -> Pool:
        """Reads a loader once; its images have to be of one size.

        Raises:
            ComparisonError: They are not, or batches have other keys than the first.
            HeadError: There are no labels, or they are no class numbers.
        """
        parts, labels = [], []
        for content, inputs in batches:
            parts.append(inputs)
            labels.append(class_numbers(labels_of(content), len(inputs)))
            if inputs.kwargs.keys() != parts[0].kwargs.keys():
                kinds = [sorted(part.kwargs) for part in (parts[0], inputs)]
                raise ComparisonError(f"the loader yields mappings with {kinds[0]} and with {kinds[1]}; yield the same keys.")
        sizes = [len(part) for part in parts]
        args = tuple(_joined(values, sizes) for values in zip(*(part.args for part in parts), strict=True))
        kwargs = {name: _joined([part.kwargs[name] for part in parts], sizes) for name in parts[0].kwargs}
        return cls(Inputs(args, kwargs), torch.cat(labels)).first(batches.max_images)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Pool:
        """The same images elsewhere."""
        moved = [value.to(device) if isinstance(value, Tensor) else value for value in self.inputs.args]
        named = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.inputs.kwargs.items()}
        return replace(self, inputs=Inputs(tuple(moved), named))

    def suited(self, model: nn.Module) -> Pool:
        """Without the named arguments that the model's forward doesn't take."""
        return replace(self, inputs=replace(self.inputs, kwargs=accepted(model, self.inputs.kwargs)))

    def image_sizes(self) -> list[tuple[int, ...]]:
        """(C, H, W) of all that are images."""
        values = (*self.inputs.args, *self.inputs.kwargs.values())
        return [tuple(value.shape[1:]) for value in values if isinstance(value, Tensor) and value.dim() == 4]

    def rows(self, rows: Tensor) -> Pool:
        """Some of the images, by their numbers."""
        count = len(self)

        def taken(value: Any) -> Any:
            batched = isinstance(value, Tensor) and value.dim() and len(value) == count
            return value[rows.to(value.device)] if batched else value

        args, kwargs = self.inputs.args, self.inputs.kwargs
        return Pool(Inputs(tuple(map(taken, args)), {k: taken(v) for k, v in kwargs.items()}), self.labels[rows])

    def first(self, count: int) -> Pool:
        """So many of the images at most."""
        return self if len(self) <= count else self.rows(torch.arange(count, device="cpu"))

    @property
    def in_runs(self) -> bool:
        """Whether they come in the order of the classes."""
        return in_runs(self.labels)

    def mixed(self, seed: int) -> Pool:
        """The same in an order that the seed alone tells: batches that judge have all classes, which norms need."""
        return self.rows(shuffled(len(self), seed))

    def unique(self) -> Pool:
        """Each image once: copies on both sides of a split would tell what they know of each other."""
        new = Seen().new(self.inputs, self.labels)
        return self if new.all() else self.rows(new.nonzero().flatten())

    def split(self, share: float, seed: int) -> tuple[Pool, Pool]:
        """Images to train on, and images held out: `share` of each class, rounded down; drawn by nothing but the seed."""
        order = shuffled(len(self), seed)
        held_out = torch.zeros(len(self), dtype=torch.bool, device="cpu")
        for number in self.labels.unique():
            own = order[self.labels[order] == number]
            held_out[own[: int(share * len(own))]] = True
        return self.rows(order[~held_out[order]]), self.rows(order[held_out[order]])

    def batch(self, number: int, size: int, seed: int) -> Pool:
        """The `number`-th training batch: shuffled anew for each epoch, in which no image comes twice; no smaller last one."""
        per_epoch = max(len(self) // size, 1)
        epoch, place = divmod(number, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(self))
        return self.rows(torch.from_numpy(order[place * size :][:size]))

    def parts(self, size: int = JUDGED_AT_ONCE) -> Iterator[Pool]:
        """All images in batches that differ by one image at most, so that batch statistics are of as many."""
        for rows in torch.arange(len(self), device="cpu").tensor_split(-(-len(self) // size)):
            yield self.rows(rows)

    def contents(self, size: int = JUDGED_AT_ONCE) -> list[Any]:
        """The same as a loader yields them."""
        found: list[Any] = []
        for part in self.parts(size):
            args, kwargs = part.inputs.args, part.inputs.kwargs
            found.append((args[0], part.labels) if args else {**kwargs, "labels": part.labels})
        return found


def _joined(values: Sequence[Any] | tuple[Any, ...], sizes: Sequence[int]) -> Any:
    """One argument of all batches, of so many images each, as one; what is no tensor with a batch axis is the first's."""
    pairs = zip(values, sizes, strict=True)
    if not all(isinstance(value, Tensor) and value.dim() and len(value) == size for value, size in pairs):
        return values[0]
    shapes = sorted({tuple(value.shape[1:]) for value in values})
    if len(shapes) > 1:
        raise ComparisonError(f"the loader yields images of shapes {shapes[0]} and {shapes[1]}; resize them to one size.")
    return torch.cat(list(values))


def check_outputs(pool: Pool, classes: int, full: bool) -> None:
    """Refuses images of some of a head's classes alone, as the first of a loader in the order of its classes are.

    Args:
        pool: They.
        classes: How many the head has.
        full: The loader may have more of them.

    Raises:
        ComparisonError: They are.
    """
    missing = without_images(pool.labels, classes)
    if missing:
        others = ", shuffle them, or let more than the first of them count: pass max_images=…" if full else ""
        raise ComparisonError(
            f"the model has {classes} outputs, but none of {len(pool)} images is of class {missing}; make the "
            f"model with an output for each class of the data{others}."
        )


def check_finite(pool: Pool, what: str) -> None:
    """Refuses images with values that are not finite.

    Raises:
        ComparisonError: They have some.
    """
    if strange := pool.inputs.not_finite():
        raise ComparisonError(f"of {len(pool)} images {what} {strange} hold values that are not finite; leave them out.")


def check_classes(pool: Pool, what: str) -> None:
    """Refuses images of one class.

    Raises:
        ComparisonError: They are.
    """
    seen = pool.labels.unique()
    if len(seen) < 2:
        raise ComparisonError(
            f"all {len(pool)} images {what} are of class {int(seen[0])}; nothing can be told apart: pass images of two classes "
            f"at least, shuffled."
        )

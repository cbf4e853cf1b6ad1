"""Images as one uint8 tensor, and deterministic augmented batches of them."""

# Axes: B images, H/W space

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ghn_init.errors import TrainingError
from ghn_init.models.order import in_runs, shuffled

Transform = Callable[[Tensor], Tensor]
"""Augments (B, 3, H, W) uint8 pixels."""

NORMALISED_BY = 10_000
"""Images of which mean and deviation are taken, of data sets that have so many."""

PIECE = 256
"""Images whose values are counted at once."""


@dataclass(frozen=True)
class Images:
    """A labelled data set in memory.

    Attributes:
        pixels: (n, 3, H, W) uint8.
        labels: (n,) int64.
        num_classes: Labels are below it.
        mean: (3,) of the pixels scaled to [0, 1].
        std: (3,) likewise.
        classes: Their names, where the data set has them.
    """

    pixels: Tensor
    labels: Tensor
    num_classes: int
    mean: Tensor
    std: Tensor
    classes: tuple[str, ...] = ()

    @classmethod
    def from_tensors(cls, pixels: Tensor, labels: Tensor, like: Images | None = None, classes: tuple[str, ...] = ()) -> Images:
        """Takes (n, 3, H, W) uint8 pixels and (n,) labels; normalised like another data set where one is given.

        Raises:
            TrainingError: Shapes or types are others, or labels don't number the classes from 0.
        """
        for name, given in (("pixels", pixels), ("labels", labels)):
            if not isinstance(given, Tensor):
                raise TrainingError(f"{name} are {type(given).__name__}; expected a tensor: pass torch.as_tensor({name}).")
        if pixels.dim() != 4 or pixels.shape[1] != 3 or pixels.dtype != torch.uint8:
            raise TrainingError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}; expected (n, 3, H, W) uint8.")
        if labels.shape != pixels.shape[:1] or len(labels) == 0:
            raise TrainingError(
                f"labels are {tuple(labels.shape)} for {len(pixels)} images; expected one per image, at least one."
            )
        if labels.is_floating_point() or labels.is_complex():
            raise TrainingError(f"labels are {labels.dtype}; expected whole numbers.")
        labels = labels.long()
        known = like.num_classes if like is not None else len(classes) or int(labels.max()) + 1
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= known:
            raise TrainingError(f"labels go from {low} to {high}; expected 0 to {known - 1}, one for each of {known} classes.")
        if like is not None:
            return replace(like, pixels=pixels, labels=labels)
        return cls(pixels, labels, known, *_mean_and_deviation(pixels[:: stride(len(pixels))]), classes)

    def numbered_as(self, classes: Sequence[str]) -> Images:
        """The same images, their classes in another order."""
        numbers = torch.tensor([classes.index(name) for name in self.classes])
        return replace(self, labels=numbers[self.labels], classes=tuple(classes))

    def mixed(self) -> Images:
        """The same images, shuffled where classes come in runs; always in the same order."""
        if not in_runs(self.labels):
            return self
        order = shuffled(len(self.labels)).to(self.pixels.device)
        return replace(self, pixels=self.pixels[order], labels=self.labels[order])

    def batch(
        self, number: int, size: int, seed: int, transform: Transform | None = None, shift: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The `number`-th training batch, augmented. Depends on nothing but the arguments, but for a transform's own chance.

        Args:
            number: 0, 1, …; batches of an epoch share no image.
            size: Images of a batch.
            seed: Of order and augmentation.
            transform: (B, 3, H, W) uint8 → the same, in the place of random flips and shifts.
            shift: Pixels by which images are shifted at most; by default a sixteenth of their height.

        Returns:
            (size, 3, H, W) float32 normalised pixels in channels-last format, (size,) labels.

        Raises:
            TrainingError: The transform makes something else of the images.
        """
        index, mirrored = self.drawn(number, size, seed)
        pixels = self.pixels[index]
        if transform is not None:
            return self.normalise(_transformed(pixels, transform)), self.labels[index]
        rng = np.random.default_rng([seed, 1, number])
        rng.random(size)  # those that `drawn` has used
        height, width = pixels.shape[2:]
        pad = height // 16 if shift is None else shift
        padded = torch.nn.functional.pad(pixels, (pad, pad, pad, pad))
        out = torch.empty_like(pixels)
        shifts = rng.integers(0, 2 * pad + 1, (size, 2))[: len(index)]
        for k, (flip, (y, x)) in enumerate(zip(mirrored, shifts, strict=True)):
            crop = padded[k, :, y : y + height, x : x + width]
            out[k] = crop.flip(2) if flip else crop
        return self.normalise(out), self.labels[index]

    def drawn(self, number: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Which images make the `number`-th training batch, (size,), and which of them are mirrored without a transform."""
        per_epoch = max(len(self.labels) // size, 1)
        index = _order(len(self.labels), seed, number // per_epoch)[(number % per_epoch) * size :][:size]
        flips = np.random.default_rng([seed, 1, number]).random(size) < 0.5
        return torch.from_numpy(index), torch.from_numpy(flips[: len(index)])

    @cached_property
    def fingerprint(self) -> str:
        """Tells data apart: a digest of pixels and labels, and of what normalises them to three digits."""
        normalised = [f"{value:.3f}" for value in (*self.mean.tolist(), *self.std.tolist())]
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.num_classes, normalised)).encode())
        for tensor in (self.pixels, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → float32, zero mean and unit variance per channel, channels-last."""
        x = pixels.float().div(255).sub(self.mean.view(1, 3, 1, 1)).div(self.std.view(1, 3, 1, 1))
        return x.contiguous(memory_format=torch.channels_last)


def _mean_and_deviation(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """(3,) each, of (n, 3, H, W) uint8 pixels scaled to [0, 1]. Values are counted in pieces: floats take much memory."""
    counts = torch.zeros(3, 256, dtype=torch.int64, device=pixels.device)
    for piece in pixels.split(PIECE):
        counts += torch.stack([channel.flatten().bincount(minlength=256) for channel in piece.unbind(1)])
    weights = counts.cpu().double()
    weights /= weights.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64, device="cpu") / 255
    mean = (weights * values).sum(1)
    numel = pixels[:, 0].numel()
    variance = (weights * (values - mean[:, None]).square()).sum(1) * numel / max(numel - 1, 1)
    return mean.float().to(pixels.device), variance.sqrt().float().clamp_min(1e-3).to(pixels.device)


def _transformed(pixels: Tensor, transform: Transform) -> Tensor:
    """What a transform makes of (B, 3, H, W) uint8 pixels, if that is the same kind."""
    found = transform(pixels)
    wanted = f"{tuple(pixels.shape)} torch.uint8"
    made = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
    if made != wanted:
        raise TrainingError(
            f"the transform makes {made} of images {wanted}; expected the same: they are scaled and normalised after it, and "
            f"resized when they are read, by image_size."
        )
    return found


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of the images in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def stride(count: int) -> int:
    """Every how many images are looked at for mean and deviation."""
    return max(count // NORMALISED_BY, 1)

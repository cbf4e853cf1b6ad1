"""Images as one uint8 tensor, and deterministic augmented batches of them."""

# Axes: B images, H/W space

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ghn_init.errors import TrainingError


@dataclass(frozen=True)
class Images:
    """A labelled data set in memory.

    Attributes:
        pixels: (n, 3, H, W) uint8.
        labels: (n,) int64.
        num_classes: Labels are below it.
        mean: (3,) of the pixels scaled to [0, 1].
        std: (3,) likewise.
    """

    pixels: Tensor
    labels: Tensor
    num_classes: int
    mean: Tensor
    std: Tensor

    @classmethod
    def from_tensors(cls, pixels: Tensor, labels: Tensor, like: Images | None = None) -> Images:
        """Takes (n, 3, H, W) uint8 pixels and (n,) labels; normalised like another data set where one is given.

        Raises:
            TrainingError: Shapes or types are others.
        """
        if pixels.dim() != 4 or pixels.shape[1] != 3 or pixels.dtype != torch.uint8:
            raise TrainingError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}; expected (n, 3, H, W) uint8.")
        if labels.shape != pixels.shape[:1] or len(labels) == 0:
            raise TrainingError(
                f"labels are {tuple(labels.shape)} for {len(pixels)} images; expected one per image, at least one."
            )
        if like is not None:
            return cls(pixels, labels, like.num_classes, like.mean, like.std)
        sample = pixels[:: max(len(pixels) // 10_000, 1)].float().div(255)
        mean, std = sample.mean((0, 2, 3)), sample.std((0, 2, 3)).clamp_min(1e-3)
        return cls(pixels, labels.long(), int(labels.max()) + 1, mean, std)

    def batch(self, step: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """The augmented training batch of a step: random flips, shifts by up to a sixteenth. Depends on nothing else.

        Returns:
            (size, 3, H, W) float32 normalised pixels in channels-last format, (size,) labels.
        """
        per_epoch = max(len(self.labels) // size, 1)
        order = np.random.default_rng([seed, step // per_epoch]).permutation(len(self.labels))
        index = torch.from_numpy(order[(step % per_epoch) * size :][:size])
        rng = np.random.default_rng([seed, 1, step])
        pixels = self.pixels[index]
        height, width = pixels.shape[2:]
        pad = height // 16
        padded = torch.nn.functional.pad(pixels, (pad, pad, pad, pad))
        out = torch.empty_like(pixels)
        flips = rng.random(len(index)) < 0.5
        shifts = rng.integers(0, 2 * pad + 1, (len(index), 2))
        for k, (flip, (y, x)) in enumerate(zip(flips, shifts, strict=True)):
            crop = padded[k, :, y : y + height, x : x + width]
            out[k] = crop.flip(2) if flip else crop
        return self.normalise(out), self.labels[index]

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → float32, zero mean and unit variance per channel, channels-last."""
        x = pixels.float().div(255).sub(self.mean.view(1, 3, 1, 1)).div(self.std.view(1, 3, 1, 1))
        return x.contiguous(memory_format=torch.channels_last)


def load_images(source: str | Path, split: str, like: Images | None = None) -> Images:
    """Reads a split of an image classification data set with `datasets`.

    Args:
        source: A hub data set (`uoft-cs/cifar10`), or a local folder with `train.parquet` and `test.parquet` of its schema:
            an image column and an integer label column.
        split: `train` or `test`.
        like: Takes classes and normalisation from this data set.

    Raises:
        TrainingError: No such folder, file or data set, or the columns aren't an image and a label.
    """
    try:
        import datasets
    except ImportError as error:
        raise TrainingError(f"reading images needs the training extra ({error}): pip install 'ghn_init[train]'.") from error

    folder = Path(source)
    if folder.is_dir():
        file = folder / f"{split}.parquet"
        if not file.is_file():
            raise TrainingError(f"{folder} has no {file.name}; it has {sorted(p.name for p in folder.iterdir())[:8]}.")
        data = datasets.load_dataset("parquet", data_files={split: str(file)}, split=split)
    else:
        try:
            data = datasets.load_dataset(str(source), split=split)
        except (OSError, ValueError) as error:  # no connection, no such data set, no such split
            raise TrainingError(
                f"{str(source)!r} is no folder here, and its split {split!r} could not be had from the hub "
                f"({type(error).__name__}: {error}); pass a folder with {split}.parquet, or check name and connection."
            ) from error
    images = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in data.features.items() if isinstance(kind, datasets.ClassLabel)]
    if len(images) != 1 or not labels:
        raise TrainingError(f"{source} has columns {dict(data.features)}; expected one image and a class label.")
    pixels = torch.stack([_pixels(image) for image in data[images[0]]])
    return Images.from_tensors(pixels, torch.tensor(data[labels[0]]), like)


def _pixels(image: object) -> Tensor:
    array = np.asarray(image.convert("RGB"))  # type: ignore[attr-defined]
    return torch.from_numpy(array.copy()).permute(2, 0, 1)

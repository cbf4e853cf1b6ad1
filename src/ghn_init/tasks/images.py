"""Classification of images as a task."""

# Axes: B images, H/W space

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from ghn_init.errors import TrainingError
from ghn_init.tasks.image_data import Images, Transform
from ghn_init.tasks.image_reading import load_images
from ghn_init.tasks.task import Batch, Task, described

Data = str | Path | Images | Task
"""A hub data set, a folder of images, images in memory, or any task."""


@dataclass(frozen=True)
class ImageTask:
    """(B, 3, H, W) normalised pixels → (B, classes) logits, cross-entropy.

    Attributes:
        images: The training data.
        name: Of the task.
        transform: Augments (B, 3, H, W) uint8 pixels in the place of flips and shifts; torchvision's v2 transforms do.
        label_smoothing: Share of the target that is spread over all classes.
        shift: Pixels by which images are shifted at most, without a transform; by default a sixteenth of their height.
    """

    images: Images
    name: str = "images"
    transform: Transform | None = None
    label_smoothing: float = 0.0
    shift: int | None = None

    def __post_init__(self) -> None:
        """Refuses settings that no task has.

        Raises:
            TrainingError: A value is of another kind, or out of its range.
        """
        if not isinstance(self.label_smoothing, Real) or not 0 <= self.label_smoothing < 1:
            raise TrainingError(
                f"label_smoothing is {self.label_smoothing!r}; expected a share of the target, at least 0 and below 1."
            )
        if self.shift is not None and (not isinstance(self.shift, Integral) or self.shift < 0):
            raise TrainingError(f"shift is {self.shift!r}; expected a whole number of pixels, at least 0, or None.")

    @property
    def outputs(self) -> int:
        """The number of classes."""
        return self.images.num_classes

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, where the images have them."""
        return self.images.classes

    @property
    def fingerprint(self) -> str:
        """Of the images, and of how they and their labels are changed."""
        changes = [] if self.transform is None else [described(self.transform)]
        changes += [f"label smoothing {self.label_smoothing}"] if self.label_smoothing else []
        changes += [] if self.shift is None else [f"shifts of {self.shift}"]
        return ", ".join([self.images.fingerprint, *changes])

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Two images on the meta device."""
        return (torch.empty(2, *self.images.pixels.shape[1:], device="meta"),)

    def batch(self, number: int, size: int, seed: int) -> Batch:
        """The `number`-th batch, augmented; batches of an epoch share no image."""
        pixels, labels = self.images.batch(number, size, seed, self.transform, self.shift)
        return (pixels,), labels

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of (B, classes) logits with (B,) labels."""
        return F.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def accuracy(self, outputs: Tensor, targets: Tensor) -> float:
        """Top-1."""
        return (outputs.argmax(1) == targets).float().mean().item()


def tasks_of(
    data: Data | Mapping[str, Data] | Sequence[Data],
    *,
    transform: Transform | None = None,
    label_smoothing: float = 0.0,
    image_size: int | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> list[Task]:
    """What `train` takes as its data, as tasks.

    Args:
        data: One data set or several, named by a mapping's keys, else as their folder or hub data set is called.
        transform: Of all image tasks that are made here.
        label_smoothing: Likewise.
        image_size: Side in pixels to which images that are read here are resized.
        on_image: As of `load_images`.

    Raises:
        TrainingError: The data can't be read, there are none, or two have one name.
    """
    named: list[tuple[str | None, Data]]
    if isinstance(data, Mapping):
        named = list(data.items())
    elif isinstance(data, list | tuple):
        named = [(None, one) for one in data]
    else:
        named = [(None, cast(Data, data))]
    tasks: list[Task] = []
    for name, one in named:
        if isinstance(one, str | Path):
            name, one = name or task_name(one), load_images(one, "train", image_size=image_size, on_image=on_image)
        if isinstance(one, Images):
            one = ImageTask(one, name or ImageTask.name, transform, label_smoothing)
        elif not isinstance(one, Task):
            raise TrainingError(f"{type(one).__name__} is no data; expected a folder, a hub data set, `Images` or a `Task`.")
        elif name not in (None, one.name):
            raise TrainingError(f"the task {one.name!r} is given under the name {name!r}; give it one name.")
        tasks.append(one)
    names = [task.name for task in tasks]
    if not tasks or len(set(names)) < len(names):
        raise TrainingError(f"the tasks are {names}; expected one at least, each with a name of its own: pass a mapping.")
    return tasks


def task_name(source: str | Path) -> str:
    """A task's name from that of a folder or hub data set: `uoft-cs/cifar10` → `cifar10`."""
    name = re.sub(r"[^a-z0-9_-]+", "-", Path(source).absolute().name.lower()).strip("-_")[:64]
    return name or ImageTask.name

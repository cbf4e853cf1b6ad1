"""Classification of images with a teacher: its answers are part of the targets.

Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
"""

# Axes: n images, C classes, B images of a batch, H/W space

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ghn_init.errors import TrainingError
from ghn_init.tasks.image_data import Images
from ghn_init.tasks.images import ImageTask
from ghn_init.tasks.task import Batch


def answers_of(teacher: Callable[[Tensor], Tensor], images: Images, temperature: float = 4.0, batch_size: int = 256) -> Tensor:
    """A teacher's softened answers to images and their mirror images, worked out once.

    Args:
        teacher: (B, 3, H, W) pixels, normalised as `images` normalises them → (B, C) logits; a module in eval mode.
        images: What it is asked about.
        temperature: Its logits are divided by it.
        batch_size: Images that it sees at once.

    Returns:
        (n, 2, C) float16 probabilities: of each image, and of its mirror image.

    Raises:
        TrainingError: It does not give a logit per class.
    """
    parts = []
    for pixels in images.pixels.split(batch_size):
        views = torch.stack([pixels, pixels.flip(3)], 1).flatten(0, 1)
        with torch.no_grad():
            logits = teacher(images.normalise(views)).float()
        if logits.shape != (len(views), images.num_classes):
            raise TrainingError(
                f"the teacher gives {tuple(logits.shape)} for {len(views)} images of {images.num_classes} classes; expected a "
                f"logit for each class of each image."
            )
        parts.append((logits / temperature).softmax(1).view(-1, 2, images.num_classes).half())
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class DistilledImageTask(ImageTask):
    """An `ImageTask` whose targets are in part a teacher's answers to the image, or to its mirror image where it is mirrored.

    Attributes:
        answers: (n, 2, C), as `answers_of` makes them.
        share: Their part of the targets, at most one half: a target's largest entry is then the label's.
    """

    answers: Tensor | None = None
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = (len(self.images.labels), 2, self.images.num_classes)
        if self.answers is None or tuple(self.answers.shape) != expected:
            shape = None if self.answers is None else tuple(self.answers.shape)
            raise TrainingError(f"answers are {shape}; expected {expected}, as `answers_of` makes them of these images.")
        if not 0 < self.share <= 0.5:
            raise TrainingError(f"share is {self.share}; expected above 0 and at most 0.5.")
        if self.transform is not None:
            raise TrainingError("a transform is given; the answers are to images that are shifted and mirrored at most.")

    @property
    def fingerprint(self) -> str:
        """Of images and answers."""
        assert self.answers is not None
        digest = hashlib.sha256(self.answers.cpu().contiguous().numpy().data).hexdigest()[:12]
        return f"{super().fingerprint}, {self.share} of the targets a teacher's {digest}"

    def batch(self, number: int, size: int, seed: int) -> Batch:
        """Targets are (B, C) probabilities."""
        assert self.answers is not None
        index, mirrored = self.images.drawn(number, size, seed)
        pixels, labels = self.images.batch(number, size, seed, shift=self.shift)
        soft = self.answers[index, mirrored.long()].float()
        hard = F.one_hot(labels, self.outputs) * (1 - self.label_smoothing) + self.label_smoothing / self.outputs
        return (pixels,), (1 - self.share) * hard + self.share * soft

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of (B, C) logits with (B, C) probabilities."""
        return F.cross_entropy(outputs, targets)

    def accuracy(self, outputs: Tensor, targets: Tensor) -> float:
        """Top-1, of the labels."""
        return super().accuracy(outputs, targets.argmax(1))

"""Accuracy of predicted parameters, without any training of the network.

As published, batch norms use the statistics of the batch (64 images) at hand, since running statistics are not predicted.
Source: GHN-2 (arXiv 2110.13100), section 5.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from ghn_init.hypernetwork.ghn import GHN
from ghn_init.training.architectures import RandomNet, blueprint
from ghn_init.training.data import Images
from ghn_init.training.networks import Network


@dataclass(frozen=True)
class Accuracies:
    """Top-1 accuracies, in percent, of several networks."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the networks."""
        return statistics.fmean(self.values)

    @property
    def standard_error(self) -> float:
        """Standard error of the mean; 0 for one network."""
        return statistics.stdev(self.values) / math.sqrt(len(self.values)) if len(self.values) > 1 else 0.0

    @property
    def best(self) -> float:
        """The best network's."""
        return max(self.values)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.standard_error:.1f} (best {self.best:.1f}, {len(self.values)} networks)"


@torch.inference_mode()
def accuracy(ghn: GHN, module: nn.Module, images: Images, batch_size: int = 64) -> float:
    """Top-1 accuracy in percent of `module` on parameters that `ghn` predicts; the module may be on the meta device.

    Raises:
        TrainingError: The module has parameters that can't be predicted.
    """
    network = Network.of(module, ghn.config.num_classes, images.pixels.shape[2])
    (cores,) = ghn([network.graph], [network.slots])
    correct = 0
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        correct += int((network(cores, images.normalise(pixels)).argmax(1) == labels).sum())
    return 100 * correct / len(images.labels)


def evaluate(ghn: GHN, images: Images, split: str, networks: Iterable[int] = range(50), seed: int = 0) -> Accuracies:
    """Accuracies of the networks of a split of `ghn_init.training.architectures`, on all of `images`."""

    def of(index: int) -> float:
        with torch.device("meta"):
            module = RandomNet(blueprint(split, index, seed), ghn.config.num_classes, images.pixels.shape[2])
        return accuracy(ghn, module, images)

    return Accuracies(tuple(of(index) for index in networks))


def resnet18_for_small_images(num_classes: int) -> nn.Module:
    """torchvision's ResNet-18 as it is used at 32 px: 3×3 stem of stride 1, no max pool, batch statistics always."""
    import torchvision

    model = torchvision.models.resnet18(
        num_classes=num_classes, norm_layer=lambda width: nn.BatchNorm2d(width, track_running_stats=False)
    )
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model

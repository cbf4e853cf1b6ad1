"""Accuracy of predicted parameters, without any training of the network.

As published, batch norms use the statistics of the batch (64 images) at hand, since running statistics are not predicted.
Source: GHN-2 (arXiv 2110.13100), section 5.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from ghn_init import deepnets
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks.images import Images
from ghn_init.training.networks import Network

BATCH = 64
"""Images whose statistics a batch norm uses."""


@dataclass(frozen=True)
class Result:
    """Of one network.

    Attributes:
        split: Its split.
        index: In the split.
        accuracy: Top-1, in percent.
        params: Number of its parameters' elements.
        nodes: Of its graph.
    """

    split: str
    index: int
    accuracy: float
    params: int
    nodes: int


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
def accuracy(ghn: GHN, module: nn.Module, images: Images, batch_size: int = BATCH, bf16: bool = False) -> float:
    """Top-1 accuracy in percent of `module` on parameters that `ghn` predicts; the module may be on the meta device.

    Args:
        ghn: The hypernetwork.
        module: (B, 3, H, W) → (B, classes); it is left as it is.
        images: What it is tested on.
        batch_size: Images whose statistics a batch norm uses.
        bf16: Run the network in bfloat16 where it is faster.

    Raises:
        TrainingError: The module has parameters that can't be predicted.
    """
    return _accuracy(ghn, Network.of(module, ghn.config.num_classes, images.pixels.shape[2]), images, batch_size, bf16)


def _accuracy(ghn: GHN, network: Network, images: Images, batch_size: int, bf16: bool) -> float:
    (cores,) = ghn([network.graph], [network.slots])
    return top1(network, network.fill(cores), images, batch_size, bf16)


def top1(network: Network, parameters: dict[str, Tensor], images: Images, batch_size: int = BATCH, bf16: bool = False) -> float:
    """Top-1 accuracy in percent of a network on given parameters; an answer that is no number is wrong."""
    correct = 0
    for pixels, labels in zip(images.pixels.split(batch_size), images.labels.split(batch_size), strict=True):
        with mixed_precision(pixels.device, bf16):
            logits = network(parameters, images.normalise(pixels))
        correct += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
    return 100 * correct / len(images.labels)


def evaluate(
    ghn: GHN,
    images: Images,
    split: str,
    indices: Iterable[int] = range(50),
    *,
    bf16: bool = False,
    workers: int = 1,
    seed: int = 0,
) -> Iterator[Result]:
    """Results of networks of a split of DeepNets-1M, in order, on all of `images`.

    Args:
        ghn: The hypernetwork.
        images: What the networks are tested on.
        split: One of `ghn_init.deepnets.SPLITS`.
        indices: Which networks.
        bf16: Run the networks in bfloat16 where it is faster.
        workers: Processes of one thread each; with 1, this process does it all.
        seed: Of the split.

    Raises:
        ArchitectureError: No such split or network.
    """
    if workers <= 1:
        for index in indices:
            yield _result(ghn, images, split, index, bf16, seed)
        return
    shared = (ghn, images, split, bf16, seed)
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_share, initargs=shared) as pool:
        yield from pool.map(_shared_result, indices)


@torch.inference_mode()
def _result(ghn: GHN, images: Images, split: str, index: int, bf16: bool, seed: int) -> Result:
    with torch.device("meta"):
        module = deepnets.network(split, index, ghn.config.num_classes, images.pixels.shape[2], seed)
    network = Network.of(module, ghn.config.num_classes, images.pixels.shape[2])
    found = _accuracy(ghn, network, images, BATCH, bf16)
    return Result(split, index, found, sum(p.numel() for p in module.parameters()), network.graph.num_nodes)


_shared: tuple[GHN, Images, str, bool, int]


def _share(*shared: object) -> None:
    """Keeps in a worker process what all its tasks need."""
    global _shared
    torch.set_num_threads(1)
    _shared = shared  # type: ignore[assignment]


def _shared_result(index: int) -> Result:
    ghn, images, split, bf16, seed = _shared
    return _result(ghn, images, split, index, bf16, seed)

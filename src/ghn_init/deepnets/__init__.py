"""DeepNets-1M: the published distribution of architectures, generated, not downloaded.

Source: Knyazev et al., NeurIPS 2021 (arXiv 2110.13100).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.genotype import Genotype
from ghn_init.deepnets.network import DeepNet
from ghn_init.deepnets.predefined import PREDEFINED, predefined
from ghn_init.deepnets.release import SUFFIXES, Release
from ghn_init.deepnets.splits import SPLITS, Split, arguments, suited
from ghn_init.deepnets.statistics import PUBLISHED_STATISTICS, GraphStatistics, Summary
from ghn_init.deepnets.store import Entry, Stored, is_stored, write

__all__ = [
    "PREDEFINED",
    "PUBLISHED_STATISTICS",
    "SPLITS",
    "Arguments",
    "DeepNet",
    "Entry",
    "Genotype",
    "GraphStatistics",
    "Split",
    "Summary",
    "arguments",
    "network",
    "predefined",
    "read",
    "write",
]


def network(split: str, index: int, num_classes: int = 10, image_size: int = 32, seed: int = 0) -> nn.Module:
    """The `index`-th network of a split as an ordinary module, (B, 3, H, W) → (B, classes).

    Args:
        split: `train`, `val`, `test`, `wide`, `deep`, `dense`, `bn-free`, `predefined` or `search`.
        index: 0, 1, …
        num_classes: Outputs.
        image_size: H = W in pixels; above 32 the stem strides as published for ImageNet.
        seed: Another seed gives another set of networks.

    Raises:
        ArchitectureError: No such split or index.

    Example:
        >>> import torch
        >>> from ghn_init import deepnets
        >>> deepnets.network("test", 0)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    if split == "predefined":
        return predefined(index, num_classes, image_size)
    return DeepNet(suited(arguments(split, index, seed), split, image_size), num_classes, image_size)


def read(path: str | Path, split: str | None = None) -> Sequence[Entry]:
    """The networks of a file that `write` or `ghn-init deepnets write` made, or of the original release.

    Args:
        path: Our file, or `deepnets1m_….hdf5` with its JSON file beside it (needs the extra `deepnets`).
        split: The networks of this split alone; a release file of several splits needs it.

    Returns:
        A sequence that reads a network when it is asked for.

    Raises:
        ArchitectureError: No such file or split, or the file is something else.
    """
    return (Release if Path(path).suffix in SUFFIXES and not is_stored(path) else Stored)(path, split)

"""Sequences of networks that are built when they are asked for, for training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import overload

import torch
from torch import nn

from ghn_init import deepnets
from ghn_init.errors import ArchitectureError
from ghn_init.families.splits import member, network


class Networks(Sequence[nn.Module]):
    """Networks by position, each built anew when it is asked for. `described` tells one sequence from another in words."""

    def __init__(self, build: Callable[[int], nn.Module], count: int, described: str) -> None:
        self._build, self._count, self.described = build, count, described

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> nn.Module: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[nn.Module]: ...

    def __getitem__(self, position: int | slice) -> nn.Module | Sequence[nn.Module]:
        found = range(self._count)[position]
        return self._build(found) if isinstance(found, int) else [self._build(k) for k in found]


def networks(split: str, count: int, num_classes: int = 10, image_size: int = 32, seed: int = 0) -> Networks:
    """The first members of a split, for `train(…, architectures=…)`.

    Args:
        split: `train`, `val`, `test` or `held-out`.
        count: How many.
        num_classes: Outputs.
        image_size: H = W in pixels: 24, 32, 48 or 64.
        seed: As of `network`.

    Raises:
        ArchitectureError: No such split, or a negative count.

    Example:
        >>> from ghn_init import families
        >>> len(families.networks("train", 1000))
        1000
    """
    _check(split, count, seed)
    described = f"families {split}, {count} networks of seed {seed}, {num_classes} classes, {image_size} px"
    return Networks(lambda k: network(split, k, num_classes, image_size, seed), count, described)


def mixed(
    count: int,
    deepnets_share: float = 0.5,
    split: str = "train",
    num_classes: int = 10,
    image_size: int = 32,
    seed: int = 0,
) -> Networks:
    """Members of families and networks of DeepNets-1M in one sequence, so that each has its share of any stretch of it.

    Args:
        count: How many in all.
        deepnets_share: Part of the networks that are DeepNets-1M's, 0 to 1.
        split: Of both: `train`, `val` or `test`.
        num_classes: Outputs.
        image_size: H = W in pixels: 24, 32, 48 or 64.
        seed: Of both.

    Raises:
        ArchitectureError: DeepNets-1M or the families have no such split, or a number is out of range.

    Example:
        >>> from ghn_init import families
        >>> [type(net).__name__ == "DeepNet" for net in families.mixed(4, deepnets_share=0.5)]
        [False, True, False, True]
    """
    _check(split, count, seed)
    if split not in deepnets.SPLITS:
        raise ArchitectureError(f"DeepNets-1M has no split {split!r} to mix with; train, val and test are in both.")
    if not 0 <= deepnets_share <= 1:
        raise ArchitectureError(f"deepnets_share is {deepnets_share}; expected 0 to 1.")

    def build(k: int) -> nn.Module:
        before, after = math.floor(k * deepnets_share), math.floor((k + 1) * deepnets_share)
        if after == before:
            return network(split, k - before, num_classes, image_size, seed)
        with torch.device("meta"):  # all their parameters are predicted
            return deepnets.network(split, before, num_classes, image_size, seed)

    described = f"families and DeepNets-1M {split}, {count} networks of seed {seed}, {deepnets_share:.6g} of them DeepNets-1M's"
    return Networks(build, count, f"{described}, {num_classes} classes, {image_size} px")


def _check(split: str, count: int, seed: int) -> None:
    """Raises for what can't be drawn, before anything is built."""
    member(split, 0, seed)
    if count < 0:
        raise ArchitectureError(f"count is {count}; expected 0 or above.")

"""The splits: (split, index, seed) → a member, the same on every machine. Nothing is imported or built for it."""

from __future__ import annotations

import hashlib
from itertools import count

import torch
from torch import nn

from ghn_init.deepnets.draw import Draw
from ghn_init.errors import ArchitectureError
from ghn_init.families.member import Member
from ghn_init.families.registry import FAMILIES

SPLITS = ("train", "val", "test", "held-out")
"""`train`, `val` and `test` share families but no member; `held-out` has families that the others never have."""

TENTHS = {"train": range(8), "val": range(8, 9), "test": range(9, 10), "held-out": range(10)}
"""Which members a split may have, by a digit of their digest: so splits are disjoint at every index and seed."""


def member(split: str, index: int, seed: int = 0) -> Member:
    """The `index`-th member of a split. Families take turns, so that each has its share of any stretch.

    Args:
        split: One of `SPLITS`.
        index: 0, 1, …, without an end.
        seed: Another seed gives other members; those of two splits differ still.

    Raises:
        ArchitectureError: No such split or index.

    Example:
        >>> from ghn_init import families
        >>> families.member("train", 0).family
        'resnet'
    """
    if split not in SPLITS:
        raise ArchitectureError(f"there is no split {split!r} of families; there are {', '.join(SPLITS)}.")
    if index < 0:
        raise ArchitectureError(f"index is {index}; expected 0 or above.")
    names = [name for name, family in FAMILIES.items() if family.held_out == (split == "held-out")]
    name = names[index % len(names)]
    for attempt in count():
        found = Member.of(name, FAMILIES[name].draw(Draw(f"{seed}/{split}/{index}/{attempt}")))
        if int(found.digest, 16) % 10 in TENTHS[split]:
            return found
    raise AssertionError


def network(split: str, index: int, num_classes: int = 10, image_size: int = 32, seed: int = 0) -> nn.Module:
    """The `index`-th member of a split as an ordinary module, (B, 3, H, W) → (B, classes), in training mode, on the CPU.

    Its start values are those of its own constructor, and depend on (split, index, seed) too; torch's global random state is
    as before afterwards.

    Args:
        split: `train`, `val`, `test` or `held-out`.
        index: 0, 1, …
        num_classes: Outputs.
        image_size: H = W in pixels: 24, 32, 48 or 64.
        seed: Another seed gives another set of networks.

    Raises:
        ArchitectureError: No such split or index, the family's library is missing, or it can't build the member.

    Example:
        >>> import torch
        >>> from ghn_init import families
        >>> families.network("test", 0)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    drawn = member(split, index, seed)
    key = hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(int.from_bytes(key[:8], "big") >> 1)
        return drawn.module(num_classes, image_size)

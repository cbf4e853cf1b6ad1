"""The splits: (split, index) → arguments, drawn and rejected as published. No files are needed.

Source: arXiv 2110.13100, section 3 and appendix. `train`, `val` and `test` are one distribution; `wide`, `deep`, `dense` and
`bn-free` shift one property each; `search` is for ranking architectures. Two predefined networks are in `predefined.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

import torch

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.draw import Draw
from ghn_init.deepnets.genotype import Genotype, draw_genotype
from ghn_init.deepnets.network import DeepNet
from ghn_init.errors import ArchitectureError


@dataclass(frozen=True)
class Split:
    """What a split draws from.

    Attributes:
        size: How many networks the published split has; indices beyond are drawn just the same.
        cells: Fewest and most cells.
        steps: Fewest sum nodes of a cell, most of a deep network's, most of any other's.
        deep: A network with more cells than one of these, drawn for each network, is deep.
        max_params: Networks with more parameters are rejected, at 32 and at 224 px with 32 channels.
    """

    size: int
    cells: tuple[int, int] = (4, 18)
    steps: tuple[int, int, int] = (1, 2, 4)
    deep: tuple[int, ...] = (7, 8, 9, 10)
    max_params: int = 10**7


SPLITS = {
    "train": Split(1_000_000),
    "val": Split(500),
    "test": Split(500),
    "wide": Split(100),
    "deep": Split(100, cells=(10, 36), deep=(18,), max_params=10**8),
    "dense": Split(100, steps=(2, 6, 10), max_params=10**8),
    "bn-free": Split(100),
    "predefined": Split(2),
    "search": Split(100_000, cells=(6, 20), steps=(1, 3, 6), deep=(10,)),
}
"""All splits with their published sizes."""

WIDER = 4
"""How much wider networks of `wide` are than those of `test`, at 32 px; half of that for larger images."""

WIDTHS = tuple(range(32, 129, 16))
FC_DIMS = tuple(range(64, 513, 64))


def arguments(split: str, index: int, seed: int = 0) -> Arguments:
    """The `index`-th network of a split, the same on every machine.

    Args:
        split: One of `SPLITS`, but not `predefined`, whose networks aren't cells.
        index: 0, 1, …; the published sizes are no limit.
        seed: Another seed gives another set of networks.

    Raises:
        ArchitectureError: No such split or index.
    """
    if split not in SPLITS or split == "predefined":
        known = ", ".join(name for name in SPLITS if name != "predefined")
        raise ArchitectureError(f"there is no split {split!r} to draw from; there are {known}.")
    if index < 0:
        raise ArchitectureError(f"index is {index}; expected 0 or above.")
    if split == "wide":
        drawn = arguments("test", index, seed)
        return replace(drawn, C=WIDER * drawn.C)
    for attempt in count():
        draw = Draw(f"{seed}/{split}/{index}/{attempt}")
        candidate = _draw(draw, split)
        sizes = _acceptable(candidate, SPLITS[split].max_params)
        if sizes is not None:
            return _widened(draw, candidate, sizes)
    raise AssertionError


def _draw(draw: Draw, split: str) -> Arguments:
    """Arguments of a network of 32 channels, before any rejection."""
    settings = SPLITS[split]
    n_cells = draw.integer(*settings.cells)
    deep = n_cells > draw.pick(settings.deep)
    steps = draw.integer(settings.steps[0], settings.steps[1] if deep else settings.steps[2])
    genotype = draw_genotype(draw, steps)
    C_mult = draw.pick((1, 2))
    stem_type = draw.pick((0, 1))
    shallow = n_cells <= settings.cells[0] + 1 and steps <= settings.steps[1]
    return Arguments(
        genotype=genotype,
        n_cells=n_cells,
        C_mult=C_mult,
        ks=draw.pick((3, 5, 7)),
        stem_type=stem_type,
        stem_pool=draw.chance(0.5) and stem_type == 0,
        norm=split == "search" or (split != "bn-free" and not (shallow and draw.chance(0.5))),
        preproc=steps > 1 or C_mult > 1 or draw.chance(_preprocessed(genotype, split)),
        glob_avg=genotype.attention or deep or draw.chance(0.9),
        fc_layers=draw.pick((1, 2)),
    )


def _preprocessed(genotype: Genotype, split: str) -> float:
    """Probability of 1×1 convolutions at the inputs of cells that could do without."""
    if split == "search":
        return 0.2 if genotype.attention else 0.8
    return 0.2 if genotype.attention else 1.0


def _acceptable(candidate: Arguments, max_params: int) -> int | None:
    """Parameters at 32 px with 32 channels, or None where the candidate is rejected."""
    genotype = candidate.genotype
    names = genotype.operations
    convolves = any("conv" in name for name in names)
    if not (convolves or "msa" in names) or (not convolves and "cse" in names):
        return None
    for edges in (genotype.normal, genotype.reduce):
        own = [name for name, _ in edges]
        if own.count("cse") > 1 or sum(name in ("conv_5x5", "conv_7x7") for name in own) > 1:
            return None
    try:
        sizes = [_count(candidate, image_size) for image_size in (32, 224)]
    except ArchitectureError:  # disconnected
        return None
    return sizes[0] if max(sizes) <= max_params else None


def _count(candidate: Arguments, image_size: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in DeepNet(candidate, 10, image_size).parameters())


def _widened(draw: Draw, drawn: Arguments, params: int) -> Arguments:
    """With the channels and the head's width as they are drawn for training: the larger the network, the narrower."""
    millions = params / 1e6
    dense = any(name in ("conv_5x5", "conv_7x7") for name in drawn.genotype.operations)
    C, fc_dim = WIDTHS[0], draw.pick(FC_DIMS[:4])
    if millions > 0.8 or not drawn.glob_avg or dense or drawn.n_cells > 12:
        pass
    elif millions > 0.4 or drawn.n_cells > 10:
        C = draw.pick(WIDTHS[:2])
    elif millions > 0.2 or drawn.n_cells > 8:
        C = draw.pick(WIDTHS[:3])
    else:
        C = draw.pick(WIDTHS)
        if C <= 64:
            fc_dim = draw.pick(FC_DIMS)
    return replace(drawn, C=C, fc_dim=fc_dim)


def suited(arguments: Arguments, split: str, image_size: int) -> Arguments:
    """What a split's network has for images of a size: `wide` is half as wide above 32 px."""
    return replace(arguments, C=arguments.C // 2) if split == "wide" and image_size > 32 else arguments

"""Statistics of members, and of families over their members."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ghn_init.families.splits import member, network
from ghn_init.prediction import cost
from ghn_init.tracing.trace import read


@dataclass(frozen=True)
class MemberStatistics:
    """Of one network.

    Attributes:
        family: Its family's name.
        library: Its library's.
        params: Number of parameters' elements.
        predicted: Those that a hypernetwork predicts.
        nodes: Of its graph.
        kept: Reason → parameters (tensors) that keep their values for it.
        seconds: Estimated cost of a training step with 64 images on a CPU core.
    """

    family: str
    library: str
    params: int
    predicted: int
    nodes: int
    kept: dict[str, int]
    seconds: float

    @classmethod
    def of(cls, split: str, index: int, image_size: int = 32, seed: int = 0) -> MemberStatistics:
        """Builds and traces a member."""
        drawn, built = member(split, index, seed), network(split, index, 10, image_size, seed)
        found = read(built, torch.empty(2, 3, image_size, image_size, device="meta"))
        sizes = {name: parameter.numel() for name, parameter in built.named_parameters()}
        kept, total = found.graph.kept, sum(sizes.values())
        predicted = total - sum(sizes[name] for name in kept)
        reasons = dict(Counter(kept.values()))
        return cls(drawn.family, drawn.library, total, predicted, found.graph.num_nodes, reasons, cost.seconds(found.record))


@dataclass(frozen=True)
class FamilySummary:
    """Of one family's members: fewest, median and most of a quantity, or all.

    Attributes:
        members: How many were measured.
        libraries: Names and how many are of them.
        millions: Parameters.
        nodes: Of the graphs.
        predicted: Parts of the elements that are predicted, least and median, 0 to 1.
        kept: Reason → how many members keep a parameter for it.
        seconds: Median and largest estimated cost of a step with 64 images on a CPU core.
    """

    members: int
    libraries: dict[str, int]
    millions: tuple[float, float, float]
    nodes: tuple[int, float, int]
    predicted: tuple[float, float]
    kept: dict[str, int]
    seconds: tuple[float, float]

    @classmethod
    def of(cls, rows: Iterable[MemberStatistics]) -> FamilySummary:
        """Summarises at least one member."""
        rows = list(rows)
        millions = [row.params / 1e6 for row in rows]
        nodes = [row.nodes for row in rows]
        shares = [row.predicted / row.params for row in rows]
        seconds = [row.seconds for row in rows]
        return cls(
            members=len(rows),
            libraries=dict(Counter(row.library for row in rows)),
            millions=(min(millions), statistics.median(millions), max(millions)),
            nodes=(min(nodes), statistics.median(nodes), max(nodes)),
            predicted=(min(shares), statistics.median(shares)),
            kept=dict(Counter(reason for row in rows for reason in row.kept)),
            seconds=(statistics.median(seconds), max(seconds)),
        )

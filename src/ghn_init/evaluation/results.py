"""Figures of an evaluation: a JSON file that a run writes and goes on with, a picture, and published figures beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ghn_init.errors import TrainingError
from ghn_init.evaluation.accuracy import Accuracies, Result

PUBLISHED = {
    "GHN-1": {"test": 51.4, "resnet50": 19.2},
    "GHN-2": {"test": 66.9, "resnet50": 58.6},
    "SGD, 2,500 steps": {"test": 69.2},
}
"""Mean accuracies in percent on CIFAR-10 (arXiv 2110.13100, section 5; the release's README)."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The classes of the data set that the published figures are of."""


@dataclass(frozen=True)
class SGDResult:
    """Of a network trained by SGD from PyTorch's initialisation; `accuracy` is top-1 in percent after `steps`."""

    split: str
    index: int
    steps: int
    accuracy: float


@dataclass
class Evaluation:
    """All results of a hypernetwork.

    Attributes:
        setting: What they depend on: hypernetwork, data, images, precision.
        results: With predicted parameters.
        sgd: With trained ones.
    """

    setting: dict[str, object]
    results: list[Result] = field(default_factory=list)
    sgd: list[SGDResult] = field(default_factory=list)

    @classmethod
    def resume(cls, path: Path | None, setting: dict[str, object]) -> Evaluation:
        """What an earlier run of the same setting left in `path`, or nothing yet.

        Raises:
            TrainingError: The file is damaged or of another setting.
        """
        if path is None or not path.exists():
            return cls(setting)
        try:
            found = json.loads(path.read_text())
            earlier = cls(found["setting"], [Result(**r) for r in found["results"]], [SGDResult(**r) for r in found["sgd"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} holds no evaluation ({error!r}); name another file.") from error
        if earlier.setting != setting:
            raise TrainingError(f"{path} holds an evaluation of {earlier.setting}, not of {setting}; name another file.")
        return earlier

    def save(self, path: Path | None) -> None:
        """Writes all of it at once."""
        if path is None:
            return
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        os.replace(temporary, path)

    def done(self, split: str) -> set[int]:
        """Indices of a split that have a result."""
        return {r.index for r in self.results if r.split == split}

    def accuracies(self, split: str, indices: Sequence[int] | None = None) -> Accuracies:
        """Of a split's networks, all or some of them."""
        rows = [r for r in self.results if r.split == split and (indices is None or r.index in indices)]
        return Accuracies(tuple(r.accuracy for r in rows))

    @property
    def splits(self) -> list[str]:
        """Those with results, in the order in which they came."""
        return list(dict.fromkeys(r.split for r in self.results))


def picture(evaluation: Evaluation, path: Path) -> None:
    """Accuracy against network size, a panel for networks in and one for those out of distribution. Needs the extra `viz`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    inside = [split for split in evaluation.splits if split in ("train", "val", "test")]
    outside = [split for split in evaluation.splits if split not in inside]
    colours = ("#1f6f8b", "#d95f02", "#7570b3", "#66a61e", "#a6761d", "#666666")
    for axes, splits, title in zip(panels, (inside, outside), ("in distribution", "out of distribution"), strict=True):
        for split, colour in zip(splits, colours, strict=False):
            rows = [r for r in evaluation.results if r.split == split]
            points = ([r.params / 1e6 for r in rows], [r.accuracy for r in rows])
            axes.scatter(*points, s=14, alpha=0.75, color=colour, linewidths=0, label=f"{split} ({len(rows)})")
        axes.set(xscale="log", xlabel="parameters, millions", title=title)
        axes.axhline(10, color="#999999", linewidth=0.8, linestyle=":")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
        if splits:
            axes.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("accuracy without training, %")
    figure.savefig(path, dpi=150)

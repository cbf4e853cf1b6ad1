"""Figures of an evaluation: a JSON file that a run writes and goes on with, tables, and published figures beside them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ghn_init.deepnets.predefined import PREDEFINED
from ghn_init.errors import EvaluationError
from ghn_init.saving import differing, save_json

PUBLISHED_ACCURACIES = {
    "GHN-1": {"test": 51.4, "resnet50": 19.2},
    "GHN-2": {"test": 66.9, "resnet50": 58.6},
    "SGD, 2,500 steps": {"test": 69.2},
}
"""Mean accuracies in percent on CIFAR-10 (arXiv 2110.13100, section 5; the release's README)."""

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The classes of the data set that the published figures are of."""

OWN = "own"
"""The split of modules that the caller passed."""

TRAINED_ON = "training data"
"""Of a setting, where there are networks trained by SGD: the fingerprint of their images."""


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
class SGDResult:
    """Of a network trained by SGD from PyTorch's initialisation; `accuracy` is top-1 in percent after `steps`."""

    split: str
    index: int
    steps: int
    accuracy: float


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


@dataclass
class Evaluation:
    """All results of a hypernetwork. Printed, it is a table.

    Attributes:
        setting: What they depend on: hypernetwork, task, data, images, precision.
        results: With predicted parameters.
        sgd: With trained ones.
        path: The file that they are saved in, or None.
        class_names: Of the data, where they are known.
    """

    setting: dict[str, object]
    results: list[Result] = field(default_factory=list)
    sgd: list[SGDResult] = field(default_factory=list)
    path: Path | None = None
    class_names: tuple[str, ...] = ()

    @classmethod
    def resume(cls, path: Path | None, setting: dict[str, object]) -> Evaluation:
        """What an earlier run of the same setting left in `path`, or nothing yet; the hypernetwork's name may be another.

        Raises:
            EvaluationError: The file is damaged or of another setting.
        """
        if path is None or not path.exists():
            return cls(setting, path=path)
        earlier = cls.read(path)
        free = {"ghn": None, TRAINED_ON: None}  # the weights' fingerprint says whose
        if other := differing({**earlier.setting, **free}, {**setting, **free}):
            raise EvaluationError(
                f"{path} holds an evaluation that differs in {'; '.join(other)}: call as then to go on, or name another file."
            )
        return earlier

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """What is in a file.

        Raises:
            EvaluationError: It is damaged.
        """
        try:
            found = json.loads(path.read_text())
            rows = [Result(**r) for r in found["results"]], [SGDResult(**r) for r in found["sgd"]]
            return cls(found["setting"], *rows, path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path} holds no evaluation ({error!r}); name another file.") from error

    def trained_on(self, data: str) -> None:
        """Notes the training images of SGD, by their fingerprint.

        Raises:
            EvaluationError: There are results of others.
        """
        if self.sgd and self.setting.get(TRAINED_ON, data) != data:
            raise EvaluationError(f"{self.path} holds networks trained on other images than these; name another file.")
        self.setting[TRAINED_ON] = data

    def add(self, row: Result | SGDResult) -> None:
        """Takes a result in, and saves all."""
        if isinstance(row, Result):
            self.results.append(row)
        else:
            self.sgd.append(row)
        self.save()

    def save(self) -> None:
        """Writes the file at once, where there is to be one.

        Raises:
            EvaluationError: It can't be written.
        """
        if self.path is None:
            return
        contents = {"setting": self.setting, "results": [*map(asdict, self.results)], "sgd": [*map(asdict, self.sgd)]}
        try:
            save_json(self.path, contents)
        except OSError as error:
            raise EvaluationError(f"{self.path} can't be written ({error}); name another file.") from error

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

    @property
    def groups(self) -> dict[str, Accuracies]:
        """Accuracies by split; predefined networks each by its own name."""
        found: dict[str, Accuracies] = {}
        for split in self.splits:
            if split == "predefined":
                found |= {PREDEFINED[index]: self.accuracies(split, [index]) for index in sorted(self.done(split))}
            else:
                found[split] = self.accuracies(split)
        return found

    @property
    def trained(self) -> dict[tuple[str, int], tuple[Accuracies, Accuracies]]:
        """Split and steps of SGD → accuracies of the networks trained so, and of the same with predicted parameters."""
        found = {}
        for split, steps in dict.fromkeys((r.split, r.steps) for r in self.sgd):
            rows = [r for r in self.sgd if (r.split, r.steps) == (split, steps)]
            same = self.accuracies(split, [r.index for r in rows])
            found[split, steps] = (Accuracies(tuple(r.accuracy for r in rows)), same)
        return found

    @property
    def classes(self) -> int:
        """How many the data have; 10 where a file does not say."""
        return int(str(self.setting.get("classes", 10)))

    @property
    def published(self) -> Mapping[str, Mapping[str, float]]:
        """Published means by hypernetwork and group; none for data that they are not of."""
        return PUBLISHED_ACCURACIES if self.class_names == CIFAR10 else {}

    def __str__(self) -> str:
        lines = [f"{name}: {values}" for name, values in self.groups.items()]
        for (split, steps), (values, same) in self.trained.items():
            lines.append(
                f"{split}, trained by SGD for {steps:,} steps: {values}; the same networks, predicted: {same.mean:.1f}"
            )
        return "\n".join(lines)

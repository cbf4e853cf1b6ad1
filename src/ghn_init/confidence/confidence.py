"""What goes with a checkpoint: where the graphs of its meta-training lie, and a regression for each measure."""

# Axes: M networks of meta-training, D features of a node

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import log, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghn_init.confidence.regression import BLOCK, Expectation, Regression, numbers
from ghn_init.errors import CheckpointError

FILE = "confidence.json"
FAINT = 1e-3
"""Shares of variance far below this one are all alike."""


@dataclass(frozen=True)
class Known:
    """Graphs of meta-training: mean and whitening of their embeddings."""

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, embeddings: Tensor) -> Known:
        """From (M, D), each the mean of a graph's nodes; directions in which they hardly differ count for little."""
        mean = embeddings.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(embeddings.T))
        whitening = vectors / (values + 0.01 * values.mean()).sqrt()
        return cls(tuple(mean.tolist()), tuple(map(tuple, whitening.T.tolist())))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Known:
        """What `dataclasses.asdict` gave, also by way of JSON.

        Raises:
            ValueError: Sizes differ.
            TypeError: Values are no numbers.
        """
        mean, whitening = numbers(values["mean"]), tuple(map(numbers, values["whitening"]))
        if not mean or {len(row) for row in whitening} != {len(mean)}:
            raise ValueError(f"known has a mean of {len(mean)} and rows of {sorted({len(row) for row in whitening})}")
        return cls(mean, whitening)

    def distance(self, clues: Mapping[str, float]) -> float:
        """How far a graph lies from their mean, in their deviations: about 1 for one of them."""
        shift = [clues[f"{BLOCK}{k}"] - centre for k, centre in enumerate(self.mean)]
        projected = (sum(w * s for w, s in zip(row, shift, strict=True)) for row in self.whitening)
        return sqrt(sum(value**2 for value in projected) / len(self.mean))


@dataclass(frozen=True)
class Measure:
    """One thing that is expected.

    Attributes:
        told: What it is, in words that go behind the number.
        task: Whose head has to be predicted for it; None: none.
        regression: From clues of the network alone.
        seen: From these and what one batch adds; None where that was not measured.
    """

    told: str
    task: str | None
    regression: Regression
    seen: Regression | None = None


@dataclass(frozen=True)
class Confidence:
    """What a hypernetwork's predictions may be expected to be worth.

    Attributes:
        known: Graphs of its meta-training.
        measures: By name. `gain`: how far predicted parameters are ahead of the model's own init after few steps of
            fine-tuning; `accuracy`: without any.
    """

    known: Known
    measures: Mapping[str, Measure]

    def expect(self, clues: Mapping[str, float], task: str | None = None, level: float = 0.9) -> dict[str, Expectation]:
        """What is expected, by the names of the measures.

        Args:
            clues: As `prediction/clues.py` gives them, with or without those of a batch.
            task: Whose head is predicted.
            level: Share of networks that each interval is to hold.

        Raises:
            CheckpointError: It was made with other clues.
        """
        _check_known({f"{BLOCK}{k}" for k in range(len(self.known.mean))}, clues)
        told = {**clues, "distance": self.known.distance(clues)}
        found = {}
        for name, measure in self.measures.items():
            if measure.task not in (None, task):
                continue
            regression, seen = measure.regression, measure.seen
            if seen is not None and set(seen.names) <= told.keys():
                regression = seen
            _check_known(regression.names, told)
            found[name] = regression.expect(told, measure.told, level)
        return found

    def write(self, folder: Path) -> None:
        """Beside the checkpoint's other files."""
        values = {"known": asdict(self.known), "measures": {name: asdict(one) for name, one in self.measures.items()}}
        (folder / FILE).write_text(json.dumps(_rounded(values)) + "\n")

    @classmethod
    def read(cls, path: Path) -> Confidence:
        """What `write` wrote.

        Raises:
            CheckpointError: The file is damaged.
        """
        try:
            values = json.loads(path.read_text())
            known = Known.from_dict(values["known"])
            return cls(known, {name: _measure(one) for name, one in values["measures"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({error!r:.200}); remove it, or fetch the checkpoint again.") from error


@dataclass(frozen=True)
class Expecting:
    """What is known of one prediction."""

    confidence: Confidence
    clues: Mapping[str, float]
    task: str | None

    def without_a_batch(self, level: float = 0.9) -> dict[str, Expectation]:
        """What is expected, by the names of the measures."""
        return self.confidence.expect(self.clues, self.task, level)

    def with_a_batch(self, own: float, predicted: float, level: float = 0.9) -> dict[str, Expectation]:
        """The same, with the shares of variance between images (`heads/expect.py`)."""
        return self.confidence.expect({**self.clues, **seen_clues(own, predicted)}, self.task, level)


def seen_clues(own: float, predicted: float) -> dict[str, float]:
    """What one batch adds: shares of variance between images (`heads/expect.py`), on a logarithmic scale.

    Args:
        own: With the model's own init.
        predicted: With predicted parameters.
    """
    return {"spread": log(predicted + FAINT), "spread against its own": log((predicted + FAINT) / (own + FAINT))}


def _check_known(names: Iterable[str], clues: Mapping[str, float]) -> None:
    if unknown := set(names) - clues.keys():
        raise CheckpointError(
            f"the checkpoint's {FILE} asks for {min(unknown)!r}, which this version does not know; update ghn_init, or remove "
            f"the file."
        )


def _measure(values: dict[str, Any]) -> Measure:
    told, task, seen = values["told"], values["task"], values.get("seen")
    if not isinstance(told, str) or not isinstance(task, str | None):
        raise TypeError(f"told is {told!r} and task {task!r}")
    return Measure(told, task, Regression.from_dict(values["regression"]), seen and Regression.from_dict(seen))


def _rounded(values: Any) -> Any:
    if isinstance(values, float):
        return float(f"{values:.6g}")
    if isinstance(values, Mapping):
        return {key: _rounded(value) for key, value in values.items()}
    return [_rounded(value) for value in values] if isinstance(values, list | tuple) else values

"""The learning curve of a run, a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ghn_init.saving import save_text

COLUMNS = ("step", "loss", "accuracy", "lr", "networks_per_second", "seconds")


@dataclass(frozen=True)
class Progress:
    """What a step gave.

    Attributes:
        step: Its number, from 1.
        steps: Of the whole run.
        loss: Mean over its networks, in nats.
        accuracy: Mean over its networks, from 0 to 1.
        lr: The learning rate.
        networks_per_second: Since the process began.
        accuracies: Mean accuracy of each task that took part.
    """

    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    networks_per_second: float
    accuracies: Mapping[str, float] = field(default_factory=dict)

    @property
    def scalars(self) -> dict[str, float]:
        """By the names that trackers show."""
        own = {"loss": self.loss, "accuracy": self.accuracy, "lr": self.lr, "networks_per_second": self.networks_per_second}
        return own | {f"accuracy/{task}": value for task, value in self.accuracies.items()}


class CurveLog:
    """Writes a row per step; rows past the step that a run resumes from are dropped.

    Args:
        path: The CSV file.
        first: Steps that have been taken.
        write: Whether this process writes.
        tasks: Names; where there are several, each has a column for its accuracy, empty where it took no part.
    """

    def __init__(self, path: Path, first: int, write: bool, tasks: Sequence[str] = ()) -> None:
        self._tasks = list(tasks) if len(tasks) > 1 else []
        columns = [*COLUMNS[:-1], *(f"accuracy_{task}" for task in self._tasks), COLUMNS[-1]]
        rows = _kept(path, first, len(columns)) if write else []
        self._before = float(rows[-1][-1]) if rows else 0.0
        if write:
            save_text(path, _text([columns, *rows]))
        self._file: Any = path.open("a", newline="") if write else io.StringIO()
        self._writer = csv.writer(self._file)

    def __enter__(self) -> CurveLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, progress: Progress, seconds: float) -> None:
        """Adds a step; `seconds` since this process began."""
        own = (progress.loss, progress.accuracy, progress.lr, progress.networks_per_second)
        found = (progress.accuracies.get(task) for task in self._tasks)
        by_task = ("" if value is None else f"{value:.5g}" for value in found)
        self._writer.writerow([progress.step, *(f"{value:.5g}" for value in own), *by_task, f"{self._before + seconds:.1f}"])
        if progress.step % 20 == 0:
            self.flush()

    def flush(self) -> None:
        """What was written is on disk; done before a state is saved, so that a resumed curve has no gap."""
        self._file.flush()


def _kept(path: Path, first: int, columns: int) -> list[list[str]]:
    """The whole rows of steps up to `first`."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) == columns and row[0].isdigit()]
    return [row for row in rows if int(row[0]) <= first]


def _text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()

"""The learning curve of a run: a CSV file, a picture of it, and TensorBoard if asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

COLUMNS = ("step", "loss", "accuracy", "lr", "networks_per_second", "seconds")


@dataclass(frozen=True)
class Progress:
    """What a step gave: mean loss in nats and accuracy over its networks, and networks per second since the start."""

    step: int
    steps: int
    loss: float
    accuracy: float
    lr: float
    networks_per_second: float


class CurveLog:
    """Writes a row per step; rows past the step that a run resumes from are dropped.

    Args:
        path: The CSV file.
        first: Steps that have been taken.
        write: Whether this process writes.
        tensorboard: Folder of TensorBoard's event files, or None.
    """

    def __init__(self, path: Path, first: int, write: bool, tensorboard: Path | None = None) -> None:
        rows = path.read_text().splitlines()[1 : first + 1] if path.exists() else []
        self._file: Any = path.open("w", newline="") if write else io.StringIO()
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._before = float(rows[-1].rsplit(",", 1)[1]) if rows else 0.0
        self._file.writelines(row + "\n" for row in rows)
        self._board = _board(tensorboard) if write and tensorboard is not None else None

    def __enter__(self) -> CurveLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def write(self, progress: Progress, seconds: float) -> None:
        """Adds a step; `seconds` since this process began."""
        own = (progress.loss, progress.accuracy, progress.lr, progress.networks_per_second)
        self._writer.writerow([progress.step, *(f"{value:.5g}" for value in own), f"{self._before + seconds:.1f}"])
        if progress.step % 20 == 0:
            self.flush()
        if self._board is not None:
            for name, value in zip(COLUMNS[1:5], own, strict=True):
                self._board.add_scalar(name, value, progress.step)

    def flush(self) -> None:
        """What was written is on disk; done before a state is saved, so that a resumed curve has no gap."""
        self._file.flush()


def _board(folder: Path) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def draw(path: Path, picture: Path, window: int = 200) -> None:
    """Draws accuracy and loss of a curve against the step, as medians over `window` steps. Needs the extra `viz`.

    A mean would show the loss of the one network in a hundred that has a loss of hundreds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with path.open() as file:
        rows = list(csv.DictReader(file))
    window = max(min(window, len(rows) // 4), 1)
    steps = [int(row["step"]) for row in rows][window - 1 :: window]
    figure = Figure(figsize=(7, 3), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, column, label in zip(figure.subplots(1, 2), ("accuracy", "loss"), ("accuracy, %", "loss, nats"), strict=True):
        factor = 100 if column == "accuracy" else 1
        axes.plot(steps, medians([factor * float(row[column]) for row in rows], window), color="#1f6f8b")
        axes.set(xlabel=f"step (medians over {window})", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(picture, dpi=150)


def medians(values: Sequence[float], window: int) -> list[float]:
    """Of each `window` values; what is left over at the end is left out."""
    return [median(values[k : k + window]) for k in range(0, len(values) - window + 1, window)]

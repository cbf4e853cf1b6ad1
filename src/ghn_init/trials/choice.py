"""What a choice between starts found, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ghn_init.prediction.report import Report


@dataclass(frozen=True)
class Judged:
    """A start at a learning rate, after a rung.

    Attributes:
        start: `default`, `orthogonal`, `predicted` or `predicted+weights`, each also `+fitted`.
        rate: Peak learning rate.
        steps: Of training, in all.
        accuracy: On held-out images, in percent.
        error: Its standard error, in percentage points.
        ahead: Points ahead of the model's own init on the same images, after as many steps and at its best rate.
        ahead_error: Standard error of these.
    """

    start: str
    rate: float
    steps: int
    accuracy: float
    error: float
    ahead: float
    ahead_error: float


@dataclass(frozen=True, eq=False)
class Choice:
    """The start that was chosen for a model, why, and what that cost. `print` it: a table, then the verdict.

    Attributes:
        chosen: Its name, as `Judged.start`.
        rungs: What was judged after each rung, best first.
        unsuited: Names of starts that could not be tried → the reason.
        train_images: How many the contestants were trained on.
        held_out: How many they were judged on.
        classes: Of both.
        steps: Of training, of all contestants together.
        images: That these steps saw, one by one.
        seconds: What all of it took.
        model: The model, which begins as chosen; nothing is trained.
        written: What of it was predicted, and what the data did.
        copies: Of images, that were left out of the race: they would be on both sides.
        seen: Classes that raced, where it is not known whether the model has others; else empty.
    """

    chosen: str
    rungs: tuple[tuple[Judged, ...], ...]
    unsuited: Mapping[str, str]
    train_images: int
    held_out: int
    classes: int
    steps: int
    images: int
    seconds: float
    model: nn.Module = field(repr=False)
    written: Report = field(repr=False)
    copies: int = 0
    seen: tuple[int, ...] = ()

    @property
    def report(self) -> Report:
        """What was written, and the verdict, as `ghn_init.initialize` reports it."""
        return self.written.with_choice(self.verdict)

    @property
    def winner(self) -> Judged:
        """The chosen start, as it was judged last."""
        return next(judged for judged in self.rungs[-1] if judged.start == self.chosen)

    @property
    def default(self) -> Judged:
        """The model's own init, likewise."""
        return next(judged for judged in self.rungs[-1] if judged.start == "default")

    @property
    def why(self) -> str:
        """The reason, in words."""
        best, won = self.rungs[-1][0], self.winner
        if self.chosen != "default":
            tied = f"; {best.start} is not surely ahead of it" if best.start != self.chosen else ""
            return f"surely ahead of default, by {won.ahead:.1f} ± {won.ahead_error:.1f} points{tied}"
        if best.start == "default":
            return "no other start is ahead of it"
        return f"{best.start} is not surely ahead of it ({best.ahead:+.1f} ± {best.ahead_error:.1f} points)"

    @property
    def verdict(self) -> str:
        """One line: what was chosen, why, and what it cost."""
        won = self.winner
        copies = f"; copies of images that were left out: {self.copies:,}" if self.copies else ""
        seen = f"; classes of these images: {_some(self.seen)}" if self.seen else ""
        return (
            f"chosen: {self.chosen}, {won.accuracy:.1f} ± {won.error:.1f} % on {self.held_out:,} held-out images after "
            f"{won.steps} steps at {won.rate:g}: {self.why}; {self.steps} steps on {self.images:,} images, {self.seconds:.1f} s"
            f"{copies}{seen}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All figures, as `json` takes them."""
        plain = ("chosen", "why", "train_images", "held_out", "classes", "copies", "seen", "steps", "images", "seconds")
        rungs = [[vars(judged) for judged in rung] for rung in self.rungs]
        return {**{name: getattr(self, name) for name in plain}, "rungs": rungs, "unsuited": dict(self.unsuited)}

    def __str__(self) -> str:
        rows = [f"{'start':28}{'rate':>8}{'steps':>8}{'held out, %':>16}{'ahead of default':>20}"]
        for judged in (judged for rung in self.rungs for judged in rung):
            accuracy, ahead = f"{judged.accuracy:.1f} ± {judged.error:.1f}", f"{judged.ahead:+.1f} ± {judged.ahead_error:.1f}"
            ahead = "" if judged.start == "default" else ahead
            rows.append(f"{judged.start:28}{judged.rate:>8g}{judged.steps:>8}{accuracy:>16}{ahead:>20}".rstrip())
        rows += [f"not tried: {name} ({reason})" for name, reason in self.unsuited.items()]
        return "\n".join([*rows, self.verdict])


def _some(numbers: Sequence[int]) -> str:
    """`0, 1, 2`; of many the first and how many more."""
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return ", ".join(map(str, numbers[:10])) + more

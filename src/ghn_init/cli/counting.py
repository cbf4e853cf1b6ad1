"""How far a command is: a bar where there is a terminal, plain lines now and then where there is none."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.markup import escape

from ghn_init.cli.console import progress_bar

EVERY = 30.0
"""Seconds between two plain lines."""


class Tell(Protocol):
    """What tells of progress."""

    def __call__(self, done: int, text: str, total: int | None = None) -> None:
        """Takes how many are done, a word on them, and how many there will be where that changes."""


@contextmanager
def counting(total: int | None, text: str = "", *, show: bool = True, every: float = EVERY) -> Iterator[Tell]:
    """Gives what is told how many are done, on the error console.

    Args:
        total: How many there will be; None: not known yet.
        text: Shown until the first is done.
        show: Whether anything is shown at all.
        every: Seconds between two plain lines; the first and the last are always printed.
    """
    with progress_bar(show=show) as bar:
        task = bar.add_task(text, total=total)
        last = -math.inf

        def tell(done: int, text: str, total: int | None = total) -> None:
            nonlocal last
            bar.update(task, completed=done, total=total, description=escape(text))
            now = time.monotonic()
            if show and not bar.console.is_terminal and (done == total or now - last >= every):
                left = bar.tasks[0].time_remaining
                ending = f", {timedelta(seconds=round(left))} left" if left else ""
                bar.console.print(f"{done} of {total}: {text}{ending}", markup=False)
                last = now

        yield tell

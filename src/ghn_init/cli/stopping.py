"""What is left when a command is stopped with Ctrl+C, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ghn_init.cli.console import err


def _nothing() -> str:
    return "stopped; nothing is saved"


@contextmanager
def stoppable(left: Callable[[], str] = _nothing, *, show: bool = True) -> Iterator[None]:
    """Says on the error console what is left, and goes on stopping."""
    try:
        yield
    except KeyboardInterrupt:
        if show:
            err.print(left(), markup=False)
        raise


def in_file(output: Path | None) -> Callable[[], str]:
    """What is left of a command that saves each result in a file, where it is given one."""

    def left() -> str:
        return _nothing() if output is None or not output.exists() else f"stopped; the same command goes on from {output}"

    return left

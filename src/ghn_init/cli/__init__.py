"""The command line, `ghn-init`, one file per command. Needs the extra `cli`."""

from __future__ import annotations

import sys

from ghn_init.cli.console import app, err
from ghn_init.errors import GHNInitError

# commands register themselves, in the order of the help page
from ghn_init.cli import inspect, init, export, compare, rank, checkpoints, verify, deepnets, train, evaluate  # noqa: F401  # isort: skip

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command line; errors end in one line and exit code 1."""
    from rich.markup import escape

    try:
        app()
    except GHNInitError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)

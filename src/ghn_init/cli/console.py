"""The application that commands register with, its two consoles, and what commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal

from safetensors import SafetensorError

from ghn_init.version import __version__
from ghn_init.viz.text_table import printable

try:
    import typer
    from rich import box
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement, measure_renderables
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column, Table
except ImportError as missing:  # a plain install has no command line
    sys.exit(f"ghn-init needs its command-line extra ({missing}): pip install 'ghn_init[cli]'")


def _new_app() -> typer.Typer:
    markup: Literal["rich"] | None = "rich" if sys.stdout.isatty() else None
    return typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=markup)


app = _new_app()


def _version(on: bool) -> None:
    if on:
        typer.echo(f"ghn-init {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", is_eager=True, help="Print the version", callback=_version)] = False,
) -> None:
    """Initialise neural networks with predicted weights."""


def help_page(commands: Mapping[str, str]) -> typer.Typer:
    """An application with commands that do nothing, for its help page and its version: name → what is said of it."""
    page = _new_app()
    page.callback()(main)
    for name, text in commands.items():
        page.command(name, help=text)(lambda: None)
    return page


out = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

WORDS = ("tasks (outputs)", "verdict", "what", "where", "why")
"""Columns of tables, beside the first, that are no figures."""

PICTURES = (".png", ".pdf", ".svg", ".jpg")

Checkpoint = Annotated[str, typer.Option(help="Hypernetwork: bundled or published name, folder, file or hub id")]


class _Figures(Table):
    """A table that cuts no figure: where it doesn't fit titles are broken at spaces, text columns fold, at last figures do."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, names = options.max_width, self.columns[0]
        figures = [column for column in self.columns if column.no_wrap]
        if Measurement.get(console, options.update_width(10_000), self).maximum > width:
            for column in figures:
                column.header = str(column.header).replace(" ", "\n")
            least = measure_renderables(console, options, [names.header, *names.cells]).minimum
            names.width = least if least <= width // 4 else None
        needed = (measure_renderables(console, options, [column.header, *column.cells]).maximum for column in figures)
        if sum(needed) + 2 * len(self.columns) > width:
            for column in figures:
                column.no_wrap = False
        yield from super().__rich_console__(console, options)


def table(*columns: str) -> Table:
    """An empty table: the first column is text, the others are figures."""
    made = _Figures(box=box.SIMPLE if out.is_terminal else None, pad_edge=False, collapse_padding=out.is_terminal)
    made.add_column(columns[0], overflow="fold")  # cut off, names would read alike
    for column in columns[1:]:
        words = column in WORDS
        made.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    return made


def say(text: str) -> None:
    """Prints lines as they are, without markup; names in them may hold control characters."""
    out.print(printable(text), markup=False, soft_wrap=True)


def check_file(path: Path | None, option: str) -> None:
    """Refuses a file that could not be written at the end of a long command."""
    if path is None:
        return
    if os.path.isdir(path):  # False for names that are too long, where `is_dir` raises
        raise typer.BadParameter(f"{path} is a folder", param_hint=option)
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder {path.absolute().parent} does not exist", param_hint=option)


def check_folder(path: Path) -> None:
    """Likewise a folder, which may be there."""
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    if not there.is_dir():
        raise typer.BadParameter(f"{there} is a file", param_hint="--output")


@contextmanager
def writing(path: Path, option: str = "--output") -> Iterator[None]:
    """Says which option named a path that can't be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise typer.BadParameter(f"{path} can't be written ({error})", param_hint=option) from error


def check_picture(path: Path | None) -> None:
    """Likewise a picture."""
    check_file(path, "--plot")
    if path is None:
        return
    if path.suffix not in PICTURES:
        raise typer.BadParameter(f"{path} ends in none of {', '.join(PICTURES)}", param_hint="--plot")
    if find_spec("matplotlib") is None:
        raise typer.BadParameter("pictures need matplotlib: pip install 'ghn_init[viz]'", param_hint="--plot")


@contextmanager
def reading(show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Gives what counts images while they are read, on the error console."""
    with err.status("reading images") if show else nullcontext() as status:

        def count(read: int, of: int) -> None:
            if status is not None and read % 100 == 0:
                status.update(f"reading images: {read} of {of}")
            if show and not err.is_terminal and read % 10_000 == 0:
                err.print(f"reading images: {read} of {of}")

        yield count


class _Bar(Progress):
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.live.transient = kind is not None and issubclass(kind, Exception)  # an error takes its place
        super().__exit__(kind, error, trace)


def progress_bar(text: str = "{task.description}", show: bool = True) -> Progress:
    """A bar on the error console, where that is a terminal: how many of how many, time left, `text` of the task."""
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what narrow terminals cut
    columns = (BarColumn(12), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn(text, table_column=rest))
    return _Bar(*columns, console=err, disable=not (show and err.is_terminal), expand=True)

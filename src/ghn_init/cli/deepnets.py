"""`ghn-init deepnets write` and `ghn-init deepnets stats`."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import app, check_file, out
from ghn_init.cli.console import table as new_table
from ghn_init.cli.counting import counting

SPLITS = "train, val, test, wide, deep, dense, bn-free, search"
"""Those that are drawn, for help pages, which load nothing of the others; a test compares them."""

group = typer.Typer(help="The published distribution of architectures: generate a slice, look at its statistics.")
app.add_typer(group, name="deepnets")


@group.command()
def write(
    split: Annotated[str, typer.Argument(help=SPLITS)],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file; networks that are in it stay")],
    start: Annotated[int, typer.Option(min=0, help="First index")] = 0,
    stop: Annotated[int | None, typer.Option(min=0, help="One past the last index; by default the published size")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the whole file")] = 0,
) -> None:
    """Generates a slice of a split into one file: arguments, graphs, statistics. Interrupted, the same command goes on."""
    check_file(output, "--output")
    ghn_init.deepnets.arguments(split, start, seed)  # an unknown split ends here, before there is a progress bar
    stop = ghn_init.deepnets.SPLITS[split].size if stop is None else stop
    if stop <= start:
        raise typer.BadParameter(f"{stop} is not above --start {start}", param_hint="--stop")
    with counting(stop - start) as tell:
        begun, written = time.monotonic(), 0

        def show(count: int) -> None:
            nonlocal written
            written += count
            tell(written, f"{written / (time.monotonic() - begun):.1f} networks/s")

        made = ghn_init.deepnets.write(output, split, start, stop, workers=workers, seed=seed, on_progress=show)
    size_mb = output.stat().st_size / 1e6
    out.print(f"{made:,} networks generated; {escape(str(output))} has {size_mb:.1f} MB", soft_wrap=True)


@group.command()
def stats(
    file: Annotated[Path, typer.Argument(help="From ghn-init deepnets write, or the release's .hdf5")],
    split: Annotated[str | None, typer.Option(help="One split; by default all")] = None,
) -> None:
    """Statistics of each split of a file above the published ones: means, and ± standard deviations."""
    rows = defaultdict(list)
    for entry in ghn_init.deepnets.read(file, split):
        rows[entry.split].append(entry.statistics)
    table = new_table("split", "networks", "nodes", "M parameters", "degree", "path, hops")
    shares = new_table("share of nodes, %", *rows)
    found = {name: ghn_init.deepnets.Summary.of(values) for name, values in rows.items()}
    for name, own in found.items():
        known = ghn_init.deepnets.PUBLISHED_STATISTICS.get(name)
        nodes, path = f"{own.nodes:.1f} ± {own.nodes_std:.1f}", f"{own.path:.1f} ± {own.path_std:.1f}"
        table.add_row(name, f"{own.networks:,}", nodes, f"{own.millions:.2f}", f"{own.degree:.1f}", path)
        if known is not None:
            nodes, path = ("{:.1f} ± {:.1f}".format(*pair) for pair in (known.nodes, known.path))
            table.add_row("  published", "", nodes, "", f"{known.degree:.1f}", path)
    out.print(table)
    for primitive in next(iter(found.values())).shares if found else ():
        shares.add_row(primitive, *(f"{own.shares[primitive]:.1f}" for own in found.values()))
    out.print(shares)

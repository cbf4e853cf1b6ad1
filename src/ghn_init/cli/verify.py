"""`ghn-init verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ghn_init
from ghn_init.cli.console import app, err, out
from ghn_init.cli.console import table as new_table
from ghn_init.cli.counting import counting

if TYPE_CHECKING:
    from ghn_init.evaluation.norms import NormCheck


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="A published checkpoint, or what --ghn takes elsewhere")],
    table: Annotated[Path | None, typer.Option(help="A CSV file of norms; by default the published ones")] = None,
    column: Annotated[str | None, typer.Option(help="The table's column; by default the checkpoint's name")] = None,
) -> None:
    """Compares norms of predicted parameters with published ones, model by model; exit code 1 where one is off."""
    from ghn_init.evaluation import norms

    rows = norms.read_table(table or norms.norms_table(), column or name)
    with err.status("loading"):
        ghn = ghn_init.load(name)
    shown = new_table("model", "published norm", "norm here", "in single precision", "deviation", "verdict")
    wrong: list[NormCheck] = []
    with counting(len(rows), "predicting") as tell:
        for done, (row, found) in enumerate(zip(rows, norms.verify(ghn, rows), strict=True), 1):
            tell(done, row.model)
            wrong += [] if found.matches else [found]
            shown.add_row(
                found.model,
                f"{found.published:.4f}",
                f"{found.exact:.4f}",
                f"{found.single:.4f}",
                f"{found.deviation:.4f}",
                _verdict(found),
            )
    out.print(shown)
    out.print(f"{len(rows) - len(wrong)} of {len(rows)} norms reproduced within {norms.TOLERANCE}", soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


def _verdict(found: NormCheck) -> str:
    if found.strays:
        return f"not predicted: {', '.join(found.strays[:3])}{', …' * (len(found.strays) > 3)}"
    return "" if found.matches else "OFF"

"""`ghn-init inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_file, out, say, writing
from ghn_init.cli.console import table as new_table
from ghn_init.cli.predicting import Arguments, Classes, Head, Model, Overwrite, Size, constructed, predict
from ghn_init.cli.words import in_options
from ghn_init.viz.text_table import shown

if TYPE_CHECKING:
    from ghn_init.prediction.prediction import Prediction

Colour = Literal["primitive", "fate"]


def write(path: Path, option: str, text: str) -> None:
    """Writes a file, and says so."""
    with writing(path, option):
        path.write_text(text, encoding="utf-8")
    say(f"written to {path}")


@app.command()
def inspect(
    model: Model,
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    model_arg: Arguments = None,
    input_size: Size = None,
    head: Head = "auto",
    overwrite: Overwrite = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="A row for every parameter")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Norm, scale, copies and effective rank of each, before and after")
    ] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a picture of the graph")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the graph: zoom, search, modules that close")] = None,
    colour: Annotated[
        Colour, typer.Option(help="Of the picture: by primitive, or by what happens to parameters")
    ] = "primitive",
    explain: Annotated[
        str | None, typer.Option(metavar="PARAMETER", help="How one parameter was predicted, in the place of the graph")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
) -> None:
    """Shows a model's architecture graph, and what would be predicted for it and what kept."""
    import torch

    check_file(svg, "--svg")
    check_file(html, "--html")
    torch.manual_seed(seed)
    arguments = constructed(model_arg)
    prediction, _ = predict(model, ghn, num_classes, input_size, arguments, head=head, overwrite=overwrite or (), seed=seed)
    explanation = None if explain is None else _explained(prediction, explain)
    if svg is not None:
        write(svg, "--svg", prediction.to_svg() if colour == "fate" else prediction.graph.to_svg())
    if html is not None:
        write(html, "--html", prediction.to_html(model))
    if explanation is None or parameters or statistics:
        _report(prediction, parameters, statistics)
    if explanation is not None:
        say(explanation)


def _explained(prediction: Prediction, name: str) -> str:
    """How one parameter was predicted."""
    try:
        return str(ghn_init.explain(prediction, name))
    except KeyError as error:
        raise typer.BadParameter(in_options(error.args[0]), param_hint="--explain") from error


def _report(prediction: Prediction, parameters: bool, statistics: bool) -> None:
    """Prints the graph's figures, what becomes of parameters, and what a person has to know."""
    from ghn_init.graph import PRIMITIVES
    from ghn_init.prediction.grouping import GROUP_COLUMNS

    graph, report = prediction.graph, prediction.report
    distances = graph.distances
    table = new_table("graph", "")
    table.add_row("nodes", f"{graph.num_nodes:,}")
    table.add_row("edges", f"{graph.edge_index.shape[1]:,}")
    table.add_row("virtual edges", f"{int((distances > 1).sum()):,}")
    table.add_row("longest shortest path", f"{int(distances.max())} hops")
    for primitive in PRIMITIVES:
        if count := graph.primitives.get(primitive):
            table.add_row(primitive, f"{count:,}")
    out.print(table)
    if statistics:
        say(str(prediction.layer_statistics()))
    if parameters:
        say(in_options(report.table()))
    if not statistics and not parameters:
        groups = new_table(*GROUP_COLUMNS)
        for group in report.groups:
            groups.add_row(*(escape(in_options(shown(cell))) for cell in group.cells))
        out.print(groups)
    for line in report.lines:
        say(in_options(line))

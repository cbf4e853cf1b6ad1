"""`ghn-init evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_file, check_picture, out
from ghn_init.cli.console import table as new_table
from ghn_init.cli.counting import counting
from ghn_init.cli.deepnets import SPLITS
from ghn_init.cli.stopping import in_file, stoppable

if TYPE_CHECKING:
    from ghn_init.evaluation.results import Evaluation, Result, SGDResult

NETWORKS = f"{SPLITS}, predefined"


@app.command()
def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder with train.parquet and test.parquet or with train/CLASS/… and test/CLASS/…, or a hub data set"
        ),
    ],
    ghn: Checkpoint = ghn_init.DEFAULT,
    split: Annotated[list[str] | None, typer.Option(help=f"{NETWORKS}; may be given several times")] = None,
    networks: Annotated[int, typer.Option(min=1, help="The first ones of each split")] = 100,
    images: Annotated[int | None, typer.Option(min=1, help="Test images; by default all")] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side that images are resized to, in pixels")] = None,
    task: Annotated[str | None, typer.Option(help="Whose head; by default the data's, or the only one that fits")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes")] = 1,
    bf16: Annotated[bool, typer.Option(help="Run the networks in bfloat16 where it is faster")] = False,
    sgd: Annotated[int, typer.Option(min=0, help="Train as many of the first split by SGD, the cheapest ones")] = 0,
    sgd_steps: Annotated[list[int] | None, typer.Option(min=1, help="Steps of SGD; may be given several times")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A JSON file; what is in it is not done again")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture: accuracy against network size")] = None,
) -> None:
    """Measures accuracies of predicted parameters, without training, on unseen networks of DeepNets-1M."""
    from ghn_init.evaluation.results import Result
    from ghn_init.viz import results

    check_file(output, "--output")
    check_picture(plot)
    if strange := sorted(set(split or ()) - set(NETWORKS.split(", "))):
        raise typer.BadParameter(f"there is no split {strange[0]!r}; there are {NETWORKS}", param_hint="--split")
    if sgd_steps and not sgd:
        raise typer.BadParameter(
            "no network is trained for so many steps without --sgd; pass how many of them are, --sgd 10",
            param_hint="--sgd-steps",
        )
    with stoppable(in_file(output)), counting(None, "reading images") as tell:

        def show(row: Result | SGDResult, done: int, total: int) -> None:
            what = row.split if isinstance(row, Result) else f"{row.split}, SGD"
            tell(done, f"{what} {row.index}: {row.accuracy:.1f} %", total)

        found = ghn_init.evaluate(
            data,
            ghn,
            networks=split or "test",
            count=networks,
            images=images,
            image_size=image_size,
            task=task,
            bf16=bf16,
            workers=workers,
            sgd=sgd,
            sgd_steps=sgd_steps or (500, 2500),
            out=output,
            on_result=show,
        )
    _report(found)
    if plot is not None:
        results.draw(found, plot)


def _report(found: Evaluation) -> None:
    """Prints a table of all splits beside published means, and one of the networks that were trained as well."""
    columns = (f"published {name}" for name in found.published)
    own = new_table("split", "mean top-1, %", "standard error", "best", "networks", *columns)
    for name, values in found.groups.items():
        beside = [f"{row[name]:.1f}" if name in row else "" for row in found.published.values()]
        single = len(values.values) == 1
        error, best = ("", "") if single else (f"{values.standard_error:.1f}", f"{values.best:.1f}")
        own.add_row(name, f"{values.mean:.1f}", error, best, str(len(values.values)), *beside)
    out.print(own)
    if not found.sgd:
        return
    table = new_table("trained by SGD", "mean top-1, %", "standard error", "best", "networks", "predicted, same networks")
    for (split, steps), (values, same) in found.trained.items():
        figures = (f"{values.mean:.1f}", f"{values.standard_error:.1f}", f"{values.best:.1f}", str(len(values.values)))
        table.add_row(f"{split}, {steps:,} steps", *figures, f"{same.mean:.1f}" if same.values else "")
    out.print(table)

"""`ghn-init rank`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_file, check_picture, out, reading
from ghn_init.cli.console import table as new_table
from ghn_init.cli.counting import counting
from ghn_init.cli.narrow import fitting, short
from ghn_init.cli.stopping import in_file, stoppable
from ghn_init.cli.user_data import Loader
from ghn_init.cli.words import in_options, on_data
from ghn_init.models.kinds import KINDS
from ghn_init.ranking.defaults import BATCH_SIZE, FITTED, RUNGS, STEPS, From, training_images

if TYPE_CHECKING:
    from torch import Tensor

    from ghn_init.ranking.result import Ranking
    from ghn_init.tasks.image_data import Images

LEAST = ("ms/image", "predicted, %", "steps", "after each rung, %", "MACs", "95 %")
"""Columns that narrow terminals are not shown, the first ones first."""
JUDGE = 1000
"""Validation images, unless there are fewer than twice as many."""


@app.command()
def rank(
    models: Annotated[list[str], typer.Argument(help=f"{KINDS}, or timm's name alone")],
    data: Annotated[str, typer.Argument(help="Folder with train.parquet or train/CLASS/…, or a hub data set")],
    *,
    ghn: Checkpoint = ghn_init.DEFAULT,
    val_images: Annotated[
        int | None,
        typer.Option(
            min=2,
            help=f"Validation images, others of the training split; by default {JUDGE}, or a fifth of fewer than {2 * JUDGE}",
            show_default=False,
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side that images are resized to, in pixels")] = None,
    start: Annotated[From, typer.Option(help="Predicted parameters with a fitted or a random head, or default init")] = FITTED,
    steps: Annotated[int, typer.Option(min=0, help="Of those that come to the last rung; 0: fitted heads alone")] = STEPS,
    rungs: Annotated[int, typer.Option(min=1, help="How often the field is judged, and halved in between")] = RUNGS,
    batch_size: Annotated[int, typer.Option(min=2)] = BATCH_SIZE,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; by default the start's own")] = None,
    known: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=ACCURACY", help="Known, in percent; may be repeated")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1)] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, which share the threads")] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A JSON file of all figures; what is in it is not measured again")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture: accuracy against cost")] = None,
) -> None:
    """Ranks models by what they know of your data with predicted weights, and how they learn from there in few steps."""
    from ghn_init.models.order import shuffled
    from ghn_init.tasks.image_reading import load_images
    from ghn_init.trials.halving import judgements
    from ghn_init.viz import ranking as picture

    check_file(output, "--output")
    check_picture(plot)
    accuracies = dict(map(_known, known)) if known else None
    if _is_model(data):
        raise typer.BadParameter(f"the last argument is DATA, and {data!r} is a model", param_hint="DATA")
    with stoppable(), reading() as told:
        limit = (val_images or JUDGE) + training_images(start, steps, batch_size)
        whole = load_images(data, "train", image_size=image_size, limit=limit, on_image=told)
    count = len(whole.labels)
    if val_images is None:
        val_images = max(count // 5, 2) if count < min(2 * JUDGE, limit) else JUDGE
    if count - val_images < batch_size:
        raise typer.BadParameter(
            f"there are {count} images, {max(count - val_images, 0)} of them beside {val_images} that judge, and a step takes "
            f"{batch_size}; pass more images, or a smaller --val-images or --batch-size",
            param_hint="--val-images",
        )
    order = shuffled(count)
    judged = itertools.count(1)
    with stoppable(in_file(output)), on_data(), counting(judgements(len(models), rungs if steps else 1), every=0) as tell:

        def show(name: str, steps: int, score: float) -> None:
            tell(next(judged), f"{name}, {steps} steps: {score:.1f} %")

        found = ghn_init.rank(
            models,
            _part(whole, order[val_images:]),
            _part(whole, order[:val_images]),
            ghn,
            steps=steps,
            rungs=rungs,
            start=start,
            rate=lr,
            batch_size=batch_size,
            val_images=val_images,
            known=accuracies,
            seed=seed,
            workers=workers,
            out=output,
            on_judged=show,
        )
    columns = _columns(found)
    table = new_table(*columns)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, row))
    out.print(table)
    out.print(escape(in_options(found.summary)), soft_wrap=True)
    if found.calibration is not None:
        out.print(str(found.calibration), soft_wrap=True)
    if plot is not None:
        picture.draw(found, plot)


def _columns(found: Ranking) -> dict[str, Sequence[str]]:
    """The table's; in terminals those that fit, with short figures."""
    header, *rows = found.table()
    columns: dict[str, Sequence[str]] = dict(zip(header, zip(*rows, strict=True), strict=True))
    if not out.is_terminal:
        return columns
    columns["parameters"] = [short(row.parameters) for row in found.rows]
    columns["MACs"] = [short(row.macs) for row in found.rows]
    return fitting(columns, LEAST, out.width)


def _is_model(data: str) -> bool:
    """Whether the models were named without data after them."""
    from ghn_init.models.spec import library

    if Path(data).exists() or ":" in data:
        return not Path(data).exists()
    return find_spec("timm") is not None and "/" not in data and library("timm").is_model(data.partition(".")[0])


def _part(images: Images, rows: Tensor) -> Loader:
    return Loader(replace(images, pixels=images.pixels[rows], labels=images.labels[rows]))


def _known(text: str) -> tuple[str, float]:
    name, _, accuracy = text.rpartition("=")
    try:
        return name, float(accuracy)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no MODEL=ACCURACY", param_hint="--known") from error

"""`ghn-init compare`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import app, check_picture, out, reading
from ghn_init.cli.console import table as new_table
from ghn_init.cli.counting import counting
from ghn_init.cli.predicting import Arguments, Model, constructed, untrained
from ghn_init.cli.stopping import stoppable
from ghn_init.cli.words import on_data

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ghn_init import comparison
    from ghn_init.tasks.image_data import Images

NAMES = "default, orthogonal, mimetic, impulse, dirac, zero-gamma, whitened, lsuv, GHN, GHN+CONDITION, GHN+CONDITION+weights"
"""Inits, for the help page, which loads nothing of the others; a test compares them."""


@app.command()
def compare(
    model: Model,
    data: Annotated[str, typer.Argument(help="Folder with train.parquet or train/CLASS/…, or a hub data set")],
    model_arg: Arguments = None,
    init: Annotated[list[str] | None, typer.Option(help=NAMES)] = None,
    images: Annotated[int, typer.Option(min=2, help="Training images")] = 1000,
    val_images: Annotated[int, typer.Option(min=1, help="Validation images, others of the training split")] = 1000,
    image_size: Annotated[int | None, typer.Option(min=8, help="Side that images are resized to, in pixels")] = None,
    small: Annotated[bool, typer.Option("--small-stem", help="Adapt the stem to images of a few dozen pixels")] = False,
    steps: Annotated[int, typer.Option(min=1)] = 100,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each init that count")] = 3,
    lr: Annotated[list[float] | None, typer.Option(help="Learning rates to choose from; may be given several times")] = None,
    weight_decay: Annotated[list[float] | None, typer.Option(help="Weight decays to choose from; likewise")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="A picture of the curves")] = None,
) -> None:
    """Races inits on your own data: equal steps, several seeds, the learning rate tuned the same way for each.

    It is chosen on a fifth of the training images after training on the rest; the race then trains on all of them, and the
    validation images decide it alone.
    """
    from ghn_init import comparison
    from ghn_init.comparison.race import RATES, WEIGHT_DECAYS
    from ghn_init.models import spec as model_spec
    from ghn_init.models.order import shuffled
    from ghn_init.tasks.image_reading import load_images
    from ghn_init.viz import race

    check_picture(plot)
    if any(rate <= 0 for rate in lr or ()):
        raise typer.BadParameter("expected more than 0", param_hint="--lr")
    arguments = untrained(model, constructed(model_arg, "compare has no --num-classes: DATA's count"))
    with stoppable(), reading() as count:
        whole = load_images(data, "train", image_size=image_size, limit=images + val_images, on_image=count)
    if len(whole.labels) < images + val_images:
        raise typer.BadParameter(
            f"there are {len(whole.labels)} images, fewer than {images} + {val_images}; pass smaller --images and --val-images",
            param_hint="--images",
        )
    order = shuffled(len(whole.labels))
    train, val = order[:images], order[images : images + val_images]

    def make() -> nn.Module:
        built = model_spec.build(model, whole.num_classes, **arguments)
        return ghn_init.adapt_stem_(built, whole.pixels.shape[2]) if small else built

    rates, decays = lr or list(RATES), weight_decay or list(WEIGHT_DECAYS)
    settings, fifth = len(rates) * len(decays), max(images // 5, 1)
    with on_data():
        names = init or comparison.applicable(make(), whole.normalise(whole.pixels[:2]))
    runs = itertools.count(1)
    total = len(names) * (seeds + (settings if settings > 1 else 0))
    with stoppable(), on_data(), counting(total, every=0) as tell:

        def show(run: comparison.Run) -> None:
            tell(next(runs), f"{run.init}, learning rate {run.lr:g}: {run.final:.1f} %")

        found = comparison.compare(
            make,
            _loader(whole, train, batch_size, shuffle=True),
            _loader(whole, val, 256, shuffle=False),
            names,
            steps=steps,
            seeds=seeds,
            rates=rates,
            weight_decays=decays,
            tuning=(_loader(whole, train[fifth:], batch_size, shuffle=True), _loader(whole, train[:fifth], 256, shuffle=False)),
            on_run=show,
        )
    header, *rows = found.table()
    table = new_table(*header)
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)
    out.print(found.verdict)
    if plot is not None:
        race.draw(found, plot)


def _loader(images: Images, rows: Tensor, batch_size: int, shuffle: bool) -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    import torch

    data = torch.utils.data.TensorDataset(images.normalise(images.pixels[rows]), images.labels[rows])
    return torch.utils.data.DataLoader(data, batch_size, shuffle, drop_last=shuffle and len(rows) >= batch_size)

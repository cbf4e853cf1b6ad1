"""`ghn-init train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import ghn_init
from ghn_init.cli.console import app, err, out
from ghn_init.training import loop


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="Folder with train.parquet, or a hub data set such as uoft-cs/cifar10")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run's folder; a run that is there goes on")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all")] = 10_000,
    meta_batch: Annotated[int, typer.Option(min=1, help="Networks per step")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step")] = 64,
    pool: Annotated[int, typer.Option(min=1, help="Different training networks")] = 2_000,
    lr: Annotated[float, typer.Option(help="Peak learning rate")] = 1e-3,
    bf16: Annotated[bool, typer.Option(help="Run the networks in bfloat16")] = True,
    seed: Annotated[int, typer.Option(help="Of initialisation, networks and images")] = 0,
) -> None:
    """Trains a GHN-2 on random convolutional networks; interrupted runs go on where they were.

    With torchrun, several processes share the networks of a step.
    """
    leads = os.environ.get("RANK", "0") == "0"
    recipe = loop.TrainConfig(steps=steps, meta_batch=meta_batch, batch_size=batch_size, pool=pool, lr=lr, bf16=bf16, seed=seed)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not leads) as bar:
        task = bar.add_task("reading images", total=steps)

        def show(progress: loop.Progress) -> None:
            loss, accuracy = f"loss {progress.loss:.3f}", f"accuracy {100 * progress.accuracy:.1f} %"
            speed = f"{progress.networks_per_second:.1f} networks/s"
            bar.update(task, completed=progress.step, description=f"{loss}  {accuracy}  {speed}")

        ghn_init.train(data, output, config=recipe, on_step=show)
    if leads:
        out.print(f"written to {escape(str(output))}", soft_wrap=True)

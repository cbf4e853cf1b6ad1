"""`ghn-init train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import app, out, progress_bar
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.tasks.images import load_images
from ghn_init.training import curve, loop
from ghn_init.training.objectives import FineTune, Objective

DEFAULTS = loop.TrainConfig()
VARIANTS = {
    "ghn-1": {"ve": False, "layernorm": False, "weight_norm": False},
    "ghn-2": {},
    "mlp": {"hypernet": "mlp"},
}


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="Folder with train.parquet or train/CLASS/…, or a hub data set")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run's folder; a run that is there goes on")],
    architectures: Annotated[Path | None, typer.Option(help="A file of ghn-init deepnets write; by default generated")] = None,
    variant: Annotated[Literal["ghn-1", "ghn-2", "mlp"], typer.Option(help="The hypernetwork, untrained")] = "ghn-2",
    start: Annotated[str | None, typer.Option(help="Go on from this one: bundled name, folder, file or hub id")] = None,
    objective: Annotated[Literal["zero-shot", "fine-tune"], typer.Option(help="What is minimised")] = "zero-shot",
    image_size: Annotated[int | None, typer.Option(min=8, help="Side that images are resized to, in pixels")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all")] = DEFAULTS.steps,
    meta_batch: Annotated[int, typer.Option(min=1, help="Networks per step")] = DEFAULTS.meta_batch,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per network")] = DEFAULTS.batch_size,
    budget: Annotated[float | None, typer.Option(help="Core-seconds per network: costlier ones get fewer images")] = None,
    pool: Annotated[int, typer.Option(min=1, help="Different training networks")] = DEFAULTS.pool,
    optimizer: Annotated[Literal["adamw", "muon"], typer.Option()] = "adamw",
    lr: Annotated[float, typer.Option(help="Peak learning rate")] = DEFAULTS.lr,
    cooldown: Annotated[float, typer.Option(min=0, max=1, help="Share of the run in which it falls")] = DEFAULTS.cooldown,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.9)] = 0.0,
    parameter_decay: Annotated[float, typer.Option(min=0, help="Weight of the predicted parameters' squared norm")] = 0.0,
    bf16: Annotated[bool, typer.Option(help="Run the networks in bfloat16 where it is faster")] = True,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write event files as well")] = False,
    seed: Annotated[int, typer.Option(help="Of initialisation, networks and images")] = 0,
) -> None:
    """Trains a hypernetwork on the networks of DeepNets-1M; interrupted runs go on where they were.

    Several processes, started by `accelerate launch` or `torchrun`, share the networks of a step.
    """
    leads = os.environ.get("RANK", "0") == "0"
    recipe = loop.TrainConfig(
        steps=steps,
        meta_batch=meta_batch,
        batch_size=batch_size,
        budget=budget,
        pool=pool,
        optimizer=optimizer,
        lr=lr,
        cooldown=cooldown,
        label_smoothing=label_smoothing,
        parameter_decay=parameter_decay,
        bf16=bf16,
        seed=seed,
    )
    with progress_bar(show=leads) as bar:
        task = bar.add_task("reading images", total=steps)
        images = load_images(data, "train", image_size=image_size)
        config: GHNConfig | GHN = GHNConfig(num_classes=images.num_classes, **VARIANTS[variant])  # type: ignore[arg-type]
        judge: Objective | None = FineTune(label_smoothing=label_smoothing) if objective == "fine-tune" else None

        def show(progress: curve.Progress) -> None:
            loss, accuracy = f"loss {progress.loss:.3f}", f"accuracy {100 * progress.accuracy:.1f} %"
            speed = f"{progress.networks_per_second:.1f} networks/s"
            bar.update(task, completed=progress.step, description=f"{loss}  {accuracy}  {speed}")

        ghn_init.train(
            images,
            output,
            architectures=architectures,
            ghn=config if start is None else ghn_init.load(start),
            objective=judge,
            config=recipe,
            tensorboard=tensorboard,
            on_step=show,
        )
    if leads:
        out.print(f"written to {escape(str(output))}", soft_wrap=True)

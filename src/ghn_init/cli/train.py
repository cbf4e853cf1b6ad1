"""`ghn-init train`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import app, check_folder, err, out, reading
from ghn_init.cli.counting import counting
from ghn_init.cli.stopping import stoppable
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.training.recipe import FILE, TrainConfig, begun_with

if TYPE_CHECKING:
    from ghn_init.training.curve import Progress
    from ghn_init.training.objectives import Objective

DEFAULTS = TrainConfig()
SECONDS = 0.3
"""What a network may take of this machine: the largest of DeepNets-1M take tens of it, and a first run would show nothing for
minutes."""
LEAST_BUDGET = 0.1
"""Core-seconds: with less, most networks would be left out."""
VARIANTS: dict[str, Callable[[dict[str, int]], GHNConfig]] = {
    "ghn-1": GHNConfig.ghn1,
    "ghn-2": GHNConfig.ghn2,
    "mlp": GHNConfig.mlp,
}

MEANING = {
    "zero-shot": "loss and accuracy are those of predicted parameters, on training images",
    "fine-tune": "loss and accuracy are those after a few steps of SGD from predicted parameters with a random head, on "
    "training images of classes that are drawn",
}
"""What is shown of each objective."""


@app.command()
def train(
    data: Annotated[
        list[str], typer.Argument(help="Folders with train.parquet or train/CLASS/…, or hub data sets; NAME=DATA names a task")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The run's folder; a run that is there goes on")],
    share: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER: a task's part of the networks; by default equal")
    ] = None,
    architectures: Annotated[Path | None, typer.Option(help="A file of ghn-init deepnets write; by default generated")] = None,
    variant: Annotated[
        Literal["ghn-1", "ghn-2", "mlp"] | None, typer.Option(help="The hypernetwork, untrained; by default ghn-2")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", "--initial", help="Go on from this one: bundled name, folder, file or hub id")
    ] = None,
    objective: Annotated[Literal["zero-shot", "fine-tune"], typer.Option(help="What is minimised")] = "zero-shot",
    image_size: Annotated[int | None, typer.Option(min=8, help="Side that images are resized to, in pixels")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all")] = DEFAULTS.steps,
    meta_batch: Annotated[int, typer.Option(min=1, help="Networks per step")] = DEFAULTS.meta_batch,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per network")] = DEFAULTS.batch_size,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Estimated core-seconds per network: costlier ones get fewer images; by default what takes this machine "
            f"{SECONDS} s, measured first; 0 and on GPUs no bound",
        ),
    ] = None,
    pool: Annotated[int, typer.Option(min=1, help="Different training networks of each task")] = DEFAULTS.pool,
    optimizer: Annotated[Literal["adamw", "muon"], typer.Option()] = "adamw",
    lr: Annotated[float, typer.Option(help="Peak learning rate")] = DEFAULTS.lr,
    warmup: Annotated[int, typer.Option(min=0, help="Steps in which it rises")] = DEFAULTS.warmup,
    cooldown: Annotated[float, typer.Option(min=0, max=1, help="Share of the run in which it falls")] = DEFAULTS.cooldown,
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.9)] = 0.0,
    parameter_decay: Annotated[float, typer.Option(min=0, help="Weight of the predicted parameters' squared norm")] = 0.0,
    bf16: Annotated[bool, typer.Option(help="Run the networks in bfloat16 where it is faster")] = True,
    track: Annotated[
        list[str] | None,
        typer.Option(help="tensorboard, wandb, mlflow, …: who is told what each step gave"),
    ] = None,
    save_minutes: Annotated[float, typer.Option(min=0, help="Between two writes of the state")] = DEFAULTS.save_minutes,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of initialisation, networks and images")] = 0,
) -> None:
    """Trains a hypernetwork on networks of DeepNets-1M; interrupted runs (Ctrl+C) go on where they were.

    Several data sets are several tasks, each with a head of its own. Several processes, started by `accelerate launch` or
    `torchrun`, share the networks of a step.
    """
    import torch

    from ghn_init.tasks import images

    def left() -> str:
        return f"stopped at step {_taken(output)}; the same command goes on"

    check_folder(output)
    if lr <= 0:
        raise typer.BadParameter(f"{lr} is no learning rate; expected more than 0", param_hint="--lr")
    if start is not None and variant is not None:
        raise typer.BadParameter(
            f"--start goes on from {start!r}, whose kind stays; leave one of the two out", param_hint="--variant"
        )
    leads = os.environ.get("RANK", "0") == "0"
    shares = {name: _number(value) for name, value in _pairs(share or [], "--share").items()}
    named = _pairs(data, "DATA") if any("=" in one and not Path(one).exists() for one in data) else list(data)
    taken = _taken(output)
    with stoppable(left, show=leads), reading(show=leads) as count:
        tasks = images.tasks_of(named, label_smoothing=label_smoothing, image_size=image_size, on_image=count)
    if budget is None and not torch.cuda.is_available():
        budget = _budget(output, bf16, leads)
    if leads and taken < steps:
        err.print(MEANING[objective])
    with stoppable(left, show=leads), counting(steps, "tracing the first networks", show=leads) as tell:
        untrained = VARIANTS[variant or "ghn-2"]({task.name: task.outputs for task in tasks})
        judge: Objective = ghn_init.FineTune() if objective == "fine-tune" else ghn_init.ZeroShot()

        def show(progress: Progress) -> None:
            loss, accuracy = f"loss {progress.loss:.3f}", f"accuracy {100 * progress.accuracy:.1f} %"
            tell(progress.step, f"{loss}, {accuracy}, {progress.networks_per_second:.1f} networks/s")

        ghn_init.train(
            tasks,
            output,
            shares=shares,
            architectures=architectures,
            ghn=untrained if start is None else ghn_init.load(start),
            objective=judge,
            trackers=track or (),
            on_step=show,
            steps=steps,
            meta_batch=meta_batch,
            batch_size=batch_size,
            budget=budget or None,
            pool=pool,
            optimizer=optimizer,
            lr=lr,
            warmup=warmup,
            cooldown=cooldown,
            parameter_decay=parameter_decay,
            bf16=bf16,
            save_minutes=save_minutes,
            seed=seed,
        )
    if leads and taken >= steps:
        out.print(f"the run is already at step {taken}; nothing to do, pass more --steps", soft_wrap=True)
    elif leads:
        out.print(f"written to {escape(str(output))}", soft_wrap=True)


def _taken(run: Path) -> int:
    """Steps of a run, as its folder has them."""
    from ghn_init.training.state import steps_taken

    state = run / "state.safetensors"
    return steps_taken(state) if state.exists() else 0


def _budget(run: Path, bf16: bool, leads: bool) -> float | None:
    """That with which a run began; else what this machine can afford, the same in all processes."""
    begun = begun_with(run / FILE)
    if begun is not None and "budget" in begun:
        return begun["budget"]
    from ghn_init.training import pace, workers

    with counting(None, "measuring this machine", show=leads), workers.Workers() as all_processes:
        (total,) = all_processes.sum([], pace.pace(bf16))
    slowness = total / all_processes.size
    budget = max(float(f"{SECONDS / slowness:.2g}"), LEAST_BUDGET)
    if leads:
        err.print(
            f"a step takes {slowness:.2g} times as long here as estimated: networks that cost more than --budget {budget:g} "
            "core-seconds get fewer images"
        )
    return budget


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` texts."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value or name in pairs:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE with a name of its own", param_hint=option)
        pairs[name] = value
    return pairs


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number", param_hint="--share") from None

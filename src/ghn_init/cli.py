"""The command line: `ghn-init inspect | init | list | convert | train | evaluate`. Needs the extra `cli`."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_model

try:
    import typer
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as missing:  # a plain install has no command line
    sys.exit(f"ghn-init needs its command-line extra ({missing}): pip install 'ghn_init[cli]'")

import ghn_init
from ghn_init import model_spec
from ghn_init.checkpoint import bundled
from ghn_init.errors import GHNInitError
from ghn_init.graph import PRIMITIVES
from ghn_init.prediction import Prediction
from ghn_init.published.convert import convert as published
from ghn_init.training import loop
from ghn_init.training.data import load_images
from ghn_init.training.evaluate import Accuracies, accuracy, resnet18_for_small_images
from ghn_init.training.evaluate import evaluate as evaluate_split

app = typer.Typer(
    help="Initialise neural networks with predicted weights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
)
out = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
err = Console(stderr=True, highlight=False, soft_wrap=True)

Model = Annotated[str, typer.Argument(help="timm:NAME, torchvision:NAME or module:callable")]
Checkpoint = Annotated[str, typer.Option(help="Hypernetwork: bundled name, folder, file or hub id")]
Classes = Annotated[int | None, typer.Option(help="Passed to the model's constructor")]
Size = Annotated[str | None, typer.Option("--input", help="Shape of one image, such as 3x224x224; by default the model's own")]
Head = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(help="Predict the classification head; auto: where it has the hypernetwork's classes"),
]


def main() -> None:
    """Runs the command line; errors end in one line and exit code 1."""
    try:
        app()
    except GHNInitError as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)


@app.command()
def inspect(
    model: Model,
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    input_size: Size = None,
    head: Head = "auto",
    parameters: Annotated[bool, typer.Option("--parameters", help="A row for every parameter")] = False,
) -> None:
    """Shows a model's architecture graph, and what would be predicted for it and what kept."""
    prediction, _ = _predict(model, ghn, num_classes, input_size, head, seed=0, strict=False)
    graph, report = prediction.graph, prediction.report
    distances = graph.distances
    table = _table("graph", "")
    table.add_row("nodes", f"{graph.num_nodes:,}")
    table.add_row("edges", f"{graph.edge_index.shape[1]:,}")
    table.add_row("virtual edges", f"{int((distances > 1).sum()):,}")
    table.add_row("longest shortest path", f"{int(distances.max())} hops")
    for primitive in PRIMITIVES:
        if count := graph.primitives.get(primitive):
            table.add_row(primitive, f"{count:,}")
    out.print(table)
    if parameters:
        out.print(str(report), markup=False, soft_wrap=True)
        return
    reasons: dict[str, list[str]] = {}
    for row in report.kept:
        reasons.setdefault(row.note, []).append(row.name)
    if reasons:
        kept = _table("kept", "parameters", "for example")
        for reason, names in reasons.items():
            kept.add_row(escape(reason), str(len(names)), escape(names[0]))
        out.print(kept)
    out.print(report.summary, soft_wrap=True)


@app.command()
def init(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    input_size: Size = None,
    head: Head = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse models of which something is kept or approximated")] = False,
) -> None:
    """Initialises a model and writes its state dict."""
    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output} does not end in .safetensors", param_hint="--output")
    if output.is_dir():
        raise typer.BadParameter(f"{output} is a folder", param_hint="--output")
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"the folder {output.absolute().parent} does not exist", param_hint="--output")
    torch.manual_seed(seed)
    prediction, seconds = _predict(model, ghn, num_classes, input_size, head, seed, strict)
    temporary = output.with_name(output.name + ".tmp")
    metadata = {"format": "pt", "model": model, "ghn": ghn, "seed": str(seed), "ghn_init": ghn_init.__version__}
    try:
        save_model(prediction.apply_(), str(temporary), metadata)
        os.replace(temporary, output)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise typer.BadParameter(f"{output} can't be written ({error})", param_hint="--output") from error
    out.print(prediction.report.summary, soft_wrap=True)
    out.print(f"predicted in {seconds:.2f} s, written to {escape(str(output))}", soft_wrap=True)


@app.command("list")
def list_checkpoints() -> None:
    """Lists the hypernetworks that come with the package."""
    table = _table("checkpoint", "classes", "hidden width", "largest kernel", "parameters", "MB")
    for name, folder in bundled().items():
        ghn = ghn_init.load(name)
        table.add_row(
            f"{name} (default)" if name == ghn_init.DEFAULT else name,
            str(ghn.config.num_classes),
            str(ghn.config.hid),
            "×".join(map(str, ghn.config.max_shape)),
            f"{sum(p.numel() for p in ghn.parameters()):,}",
            f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f}",
        )
    out.print(table)
    out.print("Others: a folder, a .safetensors file, or a hub id owner/repo[@revision].", markup=False)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A published GHN-1, GHN-2 or GHN-3, as torch.save or joblib.dump wrote it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write")],
) -> None:
    """Converts a published hypernetwork to a folder of safetensors; no code of the file is run."""
    ghn = published(file)
    ghn.save_pretrained(output)
    numel = sum(p.numel() for p in ghn.parameters())
    out.print(f"{numel:,} parameters, {ghn.config.num_classes} classes, written to {escape(str(output))}", soft_wrap=True)


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


@app.command()
def evaluate(
    data: Annotated[str, typer.Argument(help="Folder with train.parquet and test.parquet, or a hub data set")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    networks: Annotated[int, typer.Option(min=1, help="Unseen networks per split")] = 20,
    images: Annotated[int | None, typer.Option(min=1, help="Test images; by default all")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A JSON file for all accuracies")] = None,
) -> None:
    """Measures accuracies of predicted parameters, without training, on unseen random networks and on a ResNet-18."""
    hypernetwork = ghn_init.load(ghn)
    with err.status("reading images"):
        like = load_images(data, "train")
        test = load_images(data, "test", like)
    test = replace(test, pixels=test.pixels[:images], labels=test.labels[:images])
    table = _table("networks", "mean accuracy, %", "standard error", "best", "number")
    results: dict[str, Accuracies] = {}
    with Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=err) as bar:
        for split, meaning in {"test": "in distribution", "wide": "twice the channels", "deep": "2.5 times the blocks"}.items():
            indices = bar.track(range(networks), description=meaning)
            results[split] = found = evaluate_split(hypernetwork, test, split, indices)
            table.add_row(meaning, f"{found.mean:.1f}", f"{found.standard_error:.1f}", f"{found.best:.1f}", str(networks))
    with torch.device("meta"):
        resnet = resnet18_for_small_images(hypernetwork.config.num_classes)
    results["resnet18"] = found = Accuracies((accuracy(hypernetwork, resnet, test),))
    table.add_row("ResNet-18, 3×3 stem", f"{found.mean:.1f}", "", "", "1")
    out.print(table)
    if output is not None:
        accuracies = {split: found.values for split, found in results.items()}
        output.write_text(json.dumps({"ghn": ghn, "images": len(test.labels), "accuracies": accuracies}, indent=1) + "\n")


def _predict(
    spec: str, ghn: str, num_classes: int | None, input_size: str | None, head: str, seed: int, strict: bool
) -> tuple[Prediction, float]:
    """The prediction, and the seconds that it took."""
    whether: Literal["auto"] | bool = "auto" if head == "auto" else head == "yes"
    inputs = None if input_size is None else torch.empty(2, *_sizes(input_size), device="meta")
    hypernetwork = ghn_init.load(ghn)
    with err.status(f"building {escape(spec)}"):
        model = model_spec.build(spec, num_classes)
    started = time.perf_counter()
    with err.status("predicting"):
        prediction = ghn_init.predict(model, hypernetwork, inputs, whether, seed=seed, strict=strict)
    return prediction, time.perf_counter() - started


def _sizes(text: str) -> list[int]:
    sizes = text.replace(",", "x").split("x")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{text!r} is no shape; expected such as 3x224x224", param_hint="--input")
    return [int(size) for size in sizes]


def _table(*columns: str) -> Table:
    table = Table(*columns[:1], box=box.SIMPLE if out.is_terminal else None, pad_edge=False)
    for column in columns[1:]:
        table.add_column(column, justify="right" if column != "for example" else "left")
    return table

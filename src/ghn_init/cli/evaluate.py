"""`ghn-init evaluate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import ghn_init
from ghn_init.cli.console import Checkpoint, app, err, out
from ghn_init.cli.console import table as new_table
from ghn_init.training.data import load_images
from ghn_init.training.evaluate import Accuracies, accuracy, resnet18_for_small_images
from ghn_init.training.evaluate import evaluate as evaluate_split


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
    table = new_table("networks", "mean accuracy, %", "standard error", "best", "number")
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

"""Arguments of the commands that predict for a model, and the prediction itself."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import torch
import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import err
from ghn_init.models import spec as model_spec
from ghn_init.prediction.prediction import Prediction

Model = Annotated[str, typer.Argument(help="timm:NAME, torchvision:NAME or module:callable")]
Classes = Annotated[int | None, typer.Option(help="Passed to the model's constructor")]
Size = Annotated[str | None, typer.Option("--input", help="Shape of one image, such as 3x224x224; by default the model's own")]
Head = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(help="Predict the classification head; auto: where it has the hypernetwork's classes"),
]


def whether(head: str) -> Literal["auto"] | bool:
    """The option as `ghn_init.predict` takes it."""
    return "auto" if head == "auto" else head == "yes"


def predict(
    spec: str, ghn: str, num_classes: int | None, input_size: str | None, head: str, seed: int, strict: bool
) -> tuple[Prediction, float]:
    """The prediction, and the seconds that it took."""
    inputs = None if input_size is None else torch.empty(2, *_sizes(input_size), device="meta")
    hypernetwork = ghn_init.load(ghn)
    with err.status(f"building {escape(spec)}"):
        model = model_spec.build(spec, num_classes)
    started = time.perf_counter()
    with err.status("predicting"):
        prediction = ghn_init.predict(model, hypernetwork, inputs, whether(head), seed=seed, strict=strict)
    return prediction, time.perf_counter() - started


def _sizes(text: str) -> list[int]:
    sizes = text.replace(",", "x").split("x")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{text!r} is no shape; expected such as 3x224x224", param_hint="--input")
    return [int(size) for size in sizes]

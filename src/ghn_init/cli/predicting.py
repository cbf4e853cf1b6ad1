"""Arguments of the commands that predict for a model, and the prediction itself."""

from __future__ import annotations

import time
from typing import Annotated, Any

import torch
import typer
from rich.markup import escape
from torch import nn

import ghn_init
from ghn_init.checkpoints.pretrained import GHN
from ghn_init.cli.console import err
from ghn_init.models import spec as model_spec
from ghn_init.prediction.prediction import Prediction

Model = Annotated[str, typer.Argument(help="timm:NAME, torchvision:NAME or module:callable")]
Classes = Annotated[int | None, typer.Option(help="Passed to the model's constructor")]
Size = Annotated[str | None, typer.Option("--input", help="Shape of one image, such as 3x224x224; by default the model's own")]
Head = Annotated[
    str,
    typer.Option(
        metavar="auto|yes|no|TASK",
        help="Predict the classification head; auto: where one task has as many outputs; or the task's name",
    ),
]
Overwrite = Annotated[
    list[str] | None,
    typer.Option(help="Pattern of parameters to predict even if frozen, zero or padding; may be repeated"),
]


def which(head: str) -> str | bool:
    """The option as `ghn_init.predict` takes it."""
    return {"yes": True, "no": False}.get(head, head)


def predict(
    spec: str,
    ghn: str,
    num_classes: int | None,
    input_size: str | None,
    head: str,
    seed: int,
    strict: bool,
    overwrite: list[str] | None = None,
) -> tuple[Prediction, float]:
    """The prediction, and the seconds that it took."""
    inputs = None if input_size is None else torch.empty(2, *_sizes(input_size), device="meta")
    hypernetwork = ghn_init.load(ghn)
    with err.status(f"building {escape(spec)}"):
        model = model_spec.build(spec, num_classes)
    started = time.perf_counter()
    with err.status("predicting"):
        options: dict[str, Any] = {"seed": seed, "strict": strict, "overwrite": overwrite or ()}
        prediction = predicted(model, hypernetwork, inputs, head=head, **options)
    return prediction, time.perf_counter() - started


def predicted(model: nn.Module, ghn: GHN, inputs: Any = None, *, head: str, **options: Any) -> Prediction:
    """`ghn_init.predict`; a head that doesn't fit, or a pattern that matches nothing, is the option's fault."""
    try:
        return ghn_init.predict(model, ghn, inputs, head=which(head), **options)
    except ValueError as error:
        hint = "--overwrite" if str(error).startswith("overwrite=") else "--head"
        raise typer.BadParameter(str(error), param_hint=hint) from error


def _sizes(text: str) -> list[int]:
    sizes = text.replace(",", "x").split("x")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{text!r} is no shape; expected such as 3x224x224", param_hint="--input")
    return [int(size) for size in sizes]

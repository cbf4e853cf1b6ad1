"""Arguments of the commands that predict for a model, and the prediction itself."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import err
from ghn_init.cli.stopping import stoppable
from ghn_init.cli.words import in_options
from ghn_init.models.kinds import KINDS

if TYPE_CHECKING:
    from torch import nn

    from ghn_init.checkpoints.pretrained import GHN
    from ghn_init.prediction.prediction import Prediction
    from ghn_init.prediction.report import Report

Model = Annotated[str, typer.Argument(help=KINDS)]
Classes = Annotated[int | None, typer.Option(min=0, help="Passed to the model's constructor")]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg", metavar="NAME=VALUE", help="Passed to the model's constructor, such as img_size=64; may be repeated"
    ),
]
InChans = Annotated[int | None, typer.Option(min=1, help="Channels of the images")]
ImgSize = Annotated[int | None, typer.Option(min=1, help="Pixels, for models that are built for one size")]
Size = Annotated[str | None, typer.Option("--input", help="Shape of one image, such as 3x224x224; by default the model's own")]
Head = Annotated[
    str,
    typer.Option(
        metavar="auto|yes|no|TASK",
        help="Predict the classification head; auto: as no; or the name of the hypernetwork's task that it is for",
    ),
]
Overwrite = Annotated[
    list[str] | None,
    typer.Option(help="Pattern of parameters to predict even if frozen, zero or padding; may be repeated"),
]

Conditions = Annotated[
    Literal["auto", "balanced", "none", "orthogonal", "noise", "orthogonal+noise"],
    typer.Option(help="What is done to predicted parameters before fine-tuning; auto: balanced where the head is kept"),
]


def which(head: str) -> str | bool:
    """The option as `ghn_init.predict` takes it."""
    return {"yes": True, "no": False}.get(head, head)


def wished(head: str, overwrite: list[str] | None, seed: int, strict: bool, condition: str) -> dict[str, Any]:
    """The options as keywords of `predict`, `predicted` and `started`."""
    return {"head": head, "overwrite": overwrite or (), "seed": seed, "strict": strict, "condition": condition}


_TRAINED = {"timm": ("pretrained", "checkpoint_path"), "torchvision": ("pretrained", "weights", "weights_backbone")}
"""Arguments of a library's constructors that load trained weights."""


def constructed(
    arguments: list[str] | None, classes: str = "pass --num-classes NUMBER", **options: int | None
) -> dict[str, Any]:
    """`NAME=VALUE` texts as keywords; values that are no Python literals are texts.

    Args:
        arguments: The texts.
        classes: What to do in the place of naming the number of classes among them.
        options: Keywords with options of their own, None where they are not given.
    """
    found: dict[str, Any] = {}
    for text in arguments or []:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--model-arg")
        if name == "num_classes":
            raise typer.BadParameter(f"{text!r} is no argument like the others; {classes}", param_hint="--model-arg")
        found[name] = _literal(text, value)
    for name, number in options.items():
        if number is not None and name in found:
            option = name.replace("_", "-")
            raise typer.BadParameter(f"{name} is given twice, see --{option}", param_hint="--model-arg")
        found |= {} if number is None else {name: number}
    return found


def _literal(text: str, value: str) -> Any:
    """The Python literal, of what JSON knows, so that a file can tell how its model was made; else the text itself."""
    try:
        found = ast.literal_eval(value.title() if value.lower() in ("true", "false", "none") else value)
    except (ValueError, SyntaxError, TypeError):
        return value
    try:
        json.dumps(found)
    except TypeError as error:
        raise typer.BadParameter(f"{text!r} can't be noted in a file ({error})", param_hint="--model-arg") from error
    return found


def untrained(spec: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same keywords, none of which loads trained weights: all that is predicted would take their place."""
    for name in _TRAINED.get(spec.partition(":")[0], ()):
        if arguments.get(name):
            raise typer.BadParameter(
                f"{name}={arguments[name]} loads trained weights, which predicted ones would overwrite; leave it out, or load "
                f"them without ghn-init",
                param_hint="--model-arg",
            )
    return arguments


def predict(
    spec: str,
    ghn: str,
    num_classes: int | None,
    input_size: str | None,
    arguments: Mapping[str, Any],
    *,
    head: str,
    **options: Any,
) -> tuple[Prediction, float]:
    """The prediction, and the seconds that it took; `options` are `ghn_init.predict`'s."""
    import torch

    from ghn_init.models import spec as model_spec

    inputs = None if input_size is None else torch.empty(2, *_sizes(input_size), device="meta")
    hypernetwork = ghn_init.load(ghn)
    with err.status(f"building {escape(spec)}"):
        model = model_spec.build(spec, num_classes, **arguments)
    started = time.perf_counter()
    with err.status("predicting"):
        prediction = predicted(model, hypernetwork, inputs, head=head, **options)
    return prediction, time.perf_counter() - started


def predicted(model: nn.Module, ghn: GHN, inputs: Any = None, *, head: str, **options: Any) -> Prediction:
    """`ghn_init.predict`; a head that doesn't fit, or a pattern that matches nothing, is the option's fault."""
    try:
        return ghn_init.predict(model, ghn, inputs, head=which(head), **options)
    except ValueError as error:
        raise _misfit(error) from error.__cause__


def started(model: nn.Module, ghn: GHN, data: Iterable[Any], *, head: str, **options: Any) -> tuple[Report, float]:
    """`ghn_init.initialize` on data; its report, and the seconds that it took."""
    reports: list[Report] = []
    begun = time.perf_counter()
    status = nullcontext() if options.get("choose") else err.status("predicting, fitting the head")  # a race has a bar
    with stoppable(), status:
        try:
            ghn_init.initialize(model, ghn, head=which(head), data=data, on_report=reports.append, **options)
        except ValueError as error:
            raise _misfit(error) from error.__cause__
    return reports[0], time.perf_counter() - begun


def _misfit(error: ValueError) -> Exception:
    """What an option is to blame for in its words; any other error, which the model itself raised, as it is."""
    option = re.match("(overwrite|head)(=| is )", str(error))
    return typer.BadParameter(in_options(str(error)), param_hint=f"--{option[1]}") if option else error


def _sizes(text: str) -> list[int]:
    sizes = text.replace(",", "x").split("x")
    if not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise typer.BadParameter(f"{text!r} is no shape; expected such as 3x224x224", param_hint="--input")
    return [int(size) for size in sizes]

"""`ghn-init init`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_file, err, out, say, writing
from ghn_init.cli.predicting import (
    Arguments,
    Classes,
    Conditions,
    Head,
    ImgSize,
    InChans,
    Model,
    Overwrite,
    Size,
    constructed,
    predict,
    started,
    untrained,
    wished,
)
from ghn_init.cli.user_data import Data, ImageSize, Loader, numbered, read
from ghn_init.cli.words import in_options, on_data

if TYPE_CHECKING:
    from torch import nn

    from ghn_init.prediction.report import Report
    from ghn_init.tasks.image_data import Images


@app.command()
def init(
    model: Model,
    data: Data = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    in_chans: InChans = None,
    img_size: ImgSize = None,
    model_arg: Arguments = None,
    input_size: Size = None,
    image_size: ImageSize = None,
    head: Head = "auto",
    overwrite: Overwrite = None,
    condition: Conditions = "auto",
    choose: Annotated[bool, typer.Option("--choose", help="Race starts on DATA; the model's own init wins ties")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse models of which something is kept or approximated")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there")] = False,
) -> None:
    """Initialises a model and writes its state dict.

    With DATA, batch norms are recalibrated on its images and the classification head is fitted to its classes; how images were
    normalised, and the names of the classes, are noted in the file. With --choose the model's own init, orthogonal and
    predicted weights, with a random and with a fitted head, race on DATA first, and the best is written.
    """
    import torch

    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output} does not end in .safetensors", param_hint="--output")
    check_file(output, "--output")
    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists; pass --force to replace it", param_hint="--output")
    if data is None and image_size is not None:
        raise typer.BadParameter("it is for the images of DATA, which isn't given", param_hint="--image-size")
    if data is None and choose:
        raise typer.BadParameter("starts are chosen on the images of DATA, which isn't given", param_hint="--choose")
    if data is not None and input_size is not None:
        raise typer.BadParameter("the images of DATA have a size, see --image-size", param_hint="--input")
    arguments = untrained(model, constructed(model_arg, in_chans=in_chans, img_size=img_size))
    if data is not None and (channels := arguments.get("in_chans", 3)) != 3:
        raise typer.BadParameter(f"the images of DATA have 3 channels, and the model takes {channels}", param_hint="--in-chans")
    metadata = {
        "format": "pt",
        "model": model,
        "ghn": ghn,
        "seed": str(seed),
        "condition": condition,
        "ghn_init": ghn_init.__version__,
    }
    made = arguments if num_classes is None else {**arguments, "num_classes": num_classes}
    wishes_told = {"model_args": made, "overwrite": overwrite, "head": head if head != "auto" else None}
    metadata |= {name: wish if isinstance(wish, str) else json.dumps(wish) for name, wish in wishes_told.items() if wish}
    wishes = wished(head, overwrite, seed, strict, condition)
    if data is None:
        torch.manual_seed(seed)
        prediction, seconds = predict(model, ghn, num_classes, input_size, arguments, **wishes)
        _write(prediction.apply_(), output, metadata)
        report = prediction.report
    else:
        images = read(data, image_size or img_size)
        built, report, seconds = _start(model, ghn, images, num_classes, arguments, {**wishes, "choose": choose})
        chosen = {"choice": report.choice} if choose else {}
        _write(built, output, {**metadata, "data": data, **chosen, **_of(images)})
    for line in report.lines:
        say(in_options(line))
    out.print(f"{'chosen' if choose else 'predicted'} in {seconds:.2f} s, written to {escape(str(output))}", soft_wrap=True)


def _start(
    model: str, ghn: str, images: Images, num_classes: int | None, arguments: Mapping[str, Any], wishes: Mapping[str, Any]
) -> tuple[nn.Module, Report, float]:
    """The model, started from images, and what was done in how many seconds."""
    import torch

    from ghn_init.models import spec as model_spec

    hypernetwork = ghn_init.load(ghn)
    torch.manual_seed(wishes["seed"])
    with err.status(f"building {escape(model)}"):
        classes = images.num_classes if num_classes is None else num_classes
        built = model_spec.build(model, classes, **arguments)
    with on_data(numbered(num_classes, images)):
        return built, *started(built, hypernetwork, Loader(images), **wishes)


def _of(images: Images) -> dict[str, str]:
    """What whoever loads the weights has to know: the images' size, normalisation and classes."""
    known = {
        "size": images.pixels.shape[2],
        "mean": images.mean.tolist(),
        "std": images.std.tolist(),
        "classes": images.classes,
    }
    return {name: json.dumps(value) for name, value in known.items()}


def _write(model: nn.Module, output: Path, metadata: Mapping[str, str]) -> None:
    from safetensors.torch import save_model

    temporary = output.with_name(output.name + ".tmp")
    with writing(output):
        try:
            save_model(model, str(temporary), dict(metadata))
            os.replace(temporary, output)
        finally:
            temporary.unlink(missing_ok=True)

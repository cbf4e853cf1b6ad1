"""`ghn-init export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_folder, err, out, writing
from ghn_init.cli.predicting import Classes, Head, Overwrite, predicted
from ghn_init.models.spec import build_timm


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="timm:NAME")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    in_chans: Annotated[int | None, typer.Option(min=1, help="Channels of the images")] = None,
    img_size: Annotated[int | None, typer.Option(min=1, help="Pixels, for models that are built for one size")] = None,
    head: Head = "auto",
    overwrite: Overwrite = None,
    condition: Annotated[
        Literal["none", "orthogonal", "noise", "orthogonal+noise"],
        typer.Option(help="What is done to predicted weights before fine-tuning"),
    ] = "none",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse models of which something is kept or approximated")] = False,
) -> None:
    """Initialises a timm model and writes a folder that timm loads: local-dir:FOLDER, with pretrained."""
    library, _, name = model.partition(":")
    if library != "timm" or not name:
        raise typer.BadParameter(f"{model!r} is not timm:NAME; only timm's models become timm's folders", param_hint="MODEL")
    check_folder(output)
    given = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size}
    options = {key: value for key, value in given.items() if value is not None}
    torch.manual_seed(seed)
    hypernetwork = ghn_init.load(ghn)
    with err.status(f"building {escape(model)}"):
        built = build_timm(name, options)
    with err.status("predicting"):
        prediction = predicted(
            built, hypernetwork, head=head, overwrite=overwrite or (), seed=seed, strict=strict, condition=condition
        )
    origin = {"model": model, "ghn": ghn, "seed": seed, "condition": condition, "version": ghn_init.__version__}
    with writing(output):
        ghn_init.timm.export(prediction.apply_(), output, model_args=options, origin=origin)
    out.print(prediction.report.summary, soft_wrap=True)
    out.print(f"written to {escape(str(output))}", soft_wrap=True)
    out.print(f'timm.create_model("local-dir:{output}", pretrained=True)', markup=False, soft_wrap=True)

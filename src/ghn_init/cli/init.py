"""`ghn-init init`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.markup import escape
from safetensors.torch import save_model

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_file, out, writing
from ghn_init.cli.predicting import Classes, Head, Model, Overwrite, Size, predict


@app.command()
def init(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    input_size: Size = None,
    head: Head = "auto",
    overwrite: Overwrite = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse models of which something is kept or approximated")] = False,
) -> None:
    """Initialises a model and writes its state dict."""
    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output} does not end in .safetensors", param_hint="--output")
    check_file(output, "--output")
    torch.manual_seed(seed)
    prediction, seconds = predict(model, ghn, num_classes, input_size, head, seed, strict, overwrite)
    temporary = output.with_name(output.name + ".tmp")
    metadata = {"format": "pt", "model": model, "ghn": ghn, "seed": str(seed), "ghn_init": ghn_init.__version__}
    with writing(output):
        try:
            save_model(prediction.apply_(), str(temporary), metadata)
            os.replace(temporary, output)
        finally:
            temporary.unlink(missing_ok=True)
    out.print(prediction.report.summary, soft_wrap=True)
    out.print(f"predicted in {seconds:.2f} s, written to {escape(str(output))}", soft_wrap=True)

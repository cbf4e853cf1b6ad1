"""`ghn-init export`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import Checkpoint, app, check_folder, err, out, say, writing
from ghn_init.cli.predicting import Classes, Conditions, Head, ImgSize, InChans, Overwrite, predicted, started, wished
from ghn_init.cli.user_data import Data, ImageSize, Loader, normalised_by, numbered, read
from ghn_init.cli.words import in_options, on_data

if TYPE_CHECKING:
    from ghn_init.tasks.image_data import Images

FILES = ("config.json", "model.safetensors")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="timm:NAME")],
    data: Data = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write")],
    ghn: Checkpoint = ghn_init.DEFAULT,
    num_classes: Classes = None,
    in_chans: InChans = None,
    img_size: ImgSize = None,
    image_size: ImageSize = None,
    head: Head = "auto",
    overwrite: Overwrite = None,
    condition: Conditions = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of what is random, the model's own init included")] = 0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse models of which something is kept or approximated")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there")] = False,
) -> None:
    """Initialises a timm model and writes a folder that timm loads: local-dir:FOLDER, with pretrained.

    With DATA, batch norms are recalibrated on its images and the classification head is fitted to its classes. Images have
    the size and the normalisation of the model's configuration, as timm's train script gives them.
    """
    import torch

    from ghn_init.models.spec import build_timm

    library, _, name = model.partition(":")
    if library != "timm" or not name:
        raise typer.BadParameter(f"{model!r} is not timm:NAME; only timm's models become timm's folders", param_hint="MODEL")
    check_folder(output)
    if not force and (there := [file for file in FILES if (output / file).exists()]):
        raise typer.BadParameter(f"{output} has {' and '.join(there)}; pass --force to replace them", param_hint="--output")
    if data is None and image_size is not None:
        raise typer.BadParameter("it is for the images of DATA, which isn't given", param_hint="--image-size")
    if data is not None and in_chans not in (None, 3):
        raise typer.BadParameter("the images of DATA have 3 channels", param_hint="--in-chans")
    given = {"num_classes": num_classes, "in_chans": in_chans, "img_size": img_size}
    options = {key: value for key, value in given.items() if value is not None}
    hypernetwork = ghn_init.load(ghn)
    images = None if data is None else _images(data, name, options, image_size)
    if images is not None:
        options.setdefault("num_classes", images.num_classes)
    torch.manual_seed(seed)
    with err.status(f"building {escape(model)}"):
        built = build_timm(name, options)
    wishes = wished(head, overwrite, seed, strict, condition)
    if images is None:
        with err.status("predicting"):
            prediction = predicted(built, hypernetwork, **wishes)
        prediction.apply_()
        report = prediction.report
    else:
        with on_data(numbered(num_classes, images)):
            report, _ = started(built, hypernetwork, Loader(images), **wishes)
    origin = {"model": model, "ghn": ghn, "seed": seed, "condition": condition, "version": ghn_init.__version__}
    origin |= {} if images is None else {"data": data, "size": images.pixels.shape[2], "classes": list(images.classes)}
    with writing(output):
        ghn_init.timm.export(built, output, model_args=options, origin=origin)
    for line in report.lines:
        say(in_options(line))
    out.print(f"written to {escape(str(output))}", soft_wrap=True)
    quoted = json.dumps(f"local-dir:{output.as_posix()}", ensure_ascii=False)  # as Python reads it, whatever is in the name
    out.print(f"timm.create_model({quoted}, pretrained=True)", markup=False, soft_wrap=True)


def _images(data: str, name: str, options: Mapping[str, Any], image_size: int | None) -> Images:
    """The training images as timm would give them to the model."""
    from ghn_init.models.spec import build_timm, library, without_storage

    config = library("timm").data.resolve_model_data_config(without_storage(lambda: build_timm(name, options)))
    side = image_size or options.get("img_size") or config["input_size"][-1]
    return normalised_by(read(data, side), config["mean"], config["std"])

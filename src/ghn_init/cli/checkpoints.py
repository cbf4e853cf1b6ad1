"""`ghn-init list` and `ghn-init convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import ghn_init
from ghn_init.checkpoint import bundled
from ghn_init.cli.console import app, out
from ghn_init.cli.console import table as new_table
from ghn_init.published.convert import convert as published


@app.command("list")
def list_checkpoints() -> None:
    """Lists the hypernetworks that come with the package."""
    table = new_table("checkpoint", "classes", "hidden width", "largest kernel", "parameters", "MB")
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

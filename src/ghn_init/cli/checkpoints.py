"""`ghn-init list` and `ghn-init convert`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

import ghn_init
from ghn_init.cli.console import app, check_folder, out, say, writing
from ghn_init.cli.console import table as new_table

if TYPE_CHECKING:
    from ghn_init.hypernetwork.config import GHNConfig


@app.command("list")
def list_checkpoints() -> None:
    """Lists the hypernetworks that come with the package or are published; nothing is downloaded."""
    from ghn_init.checkpoints.pretrained import bundled
    from ghn_init.checkpoints.published.cache import folder_of, is_kept
    from ghn_init.checkpoints.published.registry import CHECKPOINTS

    table = new_table("checkpoint", "tasks (outputs)", "hidden width", "largest kernel", "parameters", "MB", "where")
    for name, folder in bundled().items():
        ghn = ghn_init.load(name)
        size = sum(file.stat().st_size for file in folder.iterdir())
        shown = f"{name} (default)" if name == ghn_init.DEFAULT else name
        table.add_row(shown, *_figures(ghn.config, sum(p.numel() for p in ghn.parameters()), size), "bundled")
    pages = defaultdict(list)
    for entry in CHECKPOINTS.values():
        where = "cached" if is_kept(folder_of(entry)) else "remote"
        pages[entry.release.page].append(entry.name)
        table.add_row(entry.name, *_figures(entry.config, entry.numel, 4 * entry.numel), where)
    out.print(table)
    for page, names in pages.items():
        say(f"{page}: {', '.join(names)}")
    out.print("Others: a folder, a .safetensors file, or a hub id owner/repo[@revision].", markup=False)


def _figures(config: GHNConfig, numel: int, size: int) -> tuple[str, ...]:
    kernel = "×".join(map(str, config.max_shape))
    return config.described_tasks, str(config.hid), kernel, f"{numel:,}", f"{size / 1e6:,.1f}"


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A published GHN-1, GHN-2 or GHN-3, as torch.save or joblib.dump wrote it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write")],
) -> None:
    """Converts a published hypernetwork to a folder of safetensors; no code of the file is run."""
    from ghn_init.checkpoints import pretrained
    from ghn_init.checkpoints.folder import replacing, write_folder

    check_folder(output)
    ghn = pretrained.convert(file)
    with writing(output), replacing(output) as made:
        write_folder(made, ghn.config, ghn.state_dict())
    numel = sum(p.numel() for p in ghn.parameters())
    out.print(f"{numel:,} parameters, tasks: {ghn.config.described_tasks}, written to {escape(str(output))}", soft_wrap=True)

"""The command line, `ghn-init`, one file per command. Needs the extra `cli`.

A command's file is imported when it is called, the help page none of them: PyTorch alone takes a second or more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from ghn_init.cli import console
from ghn_init.errors import GHNInitError

COMMANDS = {
    "inspect": ("inspect", "Shows a model's architecture graph, and what would be predicted for it and what kept."),
    "init": ("init", "Initialises a model and writes its state dict."),
    "export": ("export", "Initialises a timm model and writes a folder that timm loads: local-dir:FOLDER, with pretrained."),
    "compare": (
        "compare",
        "Races inits on your own data: equal steps, several seeds, the learning rate tuned the same way for each.",
    ),
    "rank": (
        "rank",
        "Ranks models by what they know of your data with predicted weights, and how they learn from there in few steps.",
    ),
    "list": ("checkpoints", "Lists the hypernetworks that come with the package or are published; nothing is downloaded."),
    "convert": ("checkpoints", "Converts a published hypernetwork to a folder of safetensors; no code of the file is run."),
    "verify": (
        "verify",
        "Compares norms of predicted parameters with published ones, model by model; exit code 1 where one is off.",
    ),
    "deepnets": ("deepnets", "The published distribution of architectures: generate a slice, look at its statistics."),
    "train": (
        "train",
        "Trains a hypernetwork on networks of DeepNets-1M; interrupted runs (Ctrl+C) go on where they were.",
    ),
    "evaluate": (
        "evaluate",
        "Measures accuracies of predicted parameters, without training, on unseen networks of DeepNets-1M.",
    ),
    "doctor": ("doctor", "Tells versions, processor, GPU, caches and extras, in lines to paste into an issue."),
}
"""Name → the file that registers it, and what the help page says of it."""


def load(names: Iterable[str] = COMMANDS) -> None:
    """Imports the files of some commands, which register themselves."""
    for name in names:
        import_module(f"ghn_init.cli.{COMMANDS[name][0]}")


def __getattr__(name: str) -> Any:
    if name == "app":  # with all commands
        load()
        return console.app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Runs the command line; errors end in one line and exit code 1."""
    from rich.markup import escape

    from ghn_init.cli.words import in_options
    from ghn_init.viz.text_table import printable

    words = sys.argv[1:]
    if not words or words[0].startswith("-"):
        return console.help_page({name: text for name, (_, text) in COMMANDS.items()})()
    load([words[0]] if words[0] in COMMANDS else COMMANDS)
    try:
        console.app()
    except GHNInitError as error:
        console.err.print(f"[bold red]error:[/] {escape(printable(in_options(str(error))))}")
        sys.exit(1)

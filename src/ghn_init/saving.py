"""Files that a reader finds as they were or as they are now, never half written, and what is other in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def save_text(path: Path, text: str) -> None:
    """Writes a file beside it, which then takes its name; line ends are the text's.

    Raises:
        OSError: The folder can't be written to.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, newline="")
    os.replace(temporary, path)


def save_json(path: Path, contents: object, indent: int | None = 1) -> None:
    """As `save_text`, as JSON."""
    save_text(path, json.dumps(contents, indent=indent) + "\n")


def differing(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """In words: settings that are another, or missing, in a file, with both values."""
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return [f"{name} ({there.get(name)} there, {here.get(name)} here)" for name in names]

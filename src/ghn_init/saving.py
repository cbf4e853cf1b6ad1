"""JSON files that a reader finds as they were or as they are now, never half written."""

from __future__ import annotations

import json
import os
from pathlib import Path


def save_json(path: Path, contents: object, indent: int | None = 1) -> None:
    """Writes a file beside it, which then takes its name.

    Raises:
        OSError: The folder can't be written to.
    """
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(contents, indent=indent) + "\n")
    os.replace(temporary, path)

"""The card that goes with a saved hypernetwork where its folder has none: what it is, and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

CARD = "README.md"
TEMPLATE = """---
{{ card_data }}
---

# A graph hypernetwork

It reads any `torch.nn.Module` and predicts its parameters. Saved by ghn_init {{ version }}.

- fingerprint: `{{ fingerprint }}`
- parameters: {{ parameters }}
- tasks, classes of their heads: {{ tasks }}

```python
import ghn_init

ghn_init.initialize(model, "path/of/this/folder")  # or owner/repo, where it is on the hub
```
"""
"""In Jinja, as huggingface_hub fills it."""

_FINGERPRINT = re.compile(r"(?m)^- fingerprint: `[0-9a-f]+`$")


def facts(version: str, fingerprint: str, parameters: int, tasks: Mapping[str, int]) -> dict[str, str]:
    """What the template asks for."""
    told = ", ".join(f"{name} ({classes})" for name, classes in tasks.items()) or "none"
    return {"version": version, "fingerprint": fingerprint, "parameters": f"{parameters:,}", "tasks": told}


def renew(folder: Path, fingerprint: str) -> None:
    """A folder's card names the weights that are there now; the rest of it stays."""
    card = folder / CARD
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        renewed = _FINGERPRINT.sub(f"- fingerprint: `{fingerprint}`", text)
        if renewed != text:
            card.write_text(renewed, encoding="utf-8")

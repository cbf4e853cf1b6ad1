"""The card that goes with a saved hypernetwork where its folder has none: what it is, and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
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

_FACTS = {
    "fingerprint": r"(?m)^(- fingerprint: `)[0-9a-f]+(?=`)",
    "parameters": r"(?m)^(- parameters: )[\d,]+",
    "tasks": r"(?m)^(- tasks, classes of their heads: )[^\r\n]*",
}


def facts(version: str, fingerprint: str, parameters: int, tasks: Mapping[str, int]) -> dict[str, str]:
    """What the template asks for."""
    told = ", ".join(f"{name} ({classes})" for name, classes in tasks.items()) or "none"
    return {"version": version, "fingerprint": fingerprint, "parameters": f"{parameters:,}", "tasks": told}


def _with(value: str, found: re.Match[str]) -> str:
    return found[1] + value


def renew(folder: Path, told: Mapping[str, str]) -> None:
    """A folder's card says what is there now, where it is one of ours; what others wrote stays byte by byte."""
    card = folder / CARD
    if not card.is_file():
        return
    before = card.read_bytes().decode(errors="surrogateescape")
    text = before
    if re.search(_FACTS["fingerprint"], before):
        for name, pattern in _FACTS.items():
            text = re.sub(pattern, partial(_with, told[name]), text)
    if text != before:
        card.write_bytes(text.encode(errors="surrogateescape"))

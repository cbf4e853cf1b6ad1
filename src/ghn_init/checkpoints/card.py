"""The card that goes with a saved hypernetwork where its folder has none: what it is, and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ghn_init.checkpoints.folder import CONFIG
from ghn_init.hypernetwork.config import GHNConfig

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

SHOWN = 20
"""Names of classes of each task."""

_FACTS = {
    "fingerprint": r"(?m)^(- fingerprint: `)[0-9a-f]+(?=`)",
    "parameters": r"(?m)^(- parameters: )[\d,]+",
    "tasks": r"(?m)^(- tasks, classes of their heads: )[^\r\n]*",
}


def facts(version: str, fingerprint: str, parameters: int, config: GHNConfig) -> dict[str, str]:
    """What the template asks for."""
    told = ", ".join(f"{name} ({outputs}{_named(config.classes.get(name, ()))})" for name, outputs in config.tasks.items())
    return {"version": version, "fingerprint": fingerprint, "parameters": f"{parameters:,}", "tasks": told}


def _named(classes: Sequence[str]) -> str:
    """`: cat, dog`; of many the first ones."""
    shown = ", ".join(" ".join(name.split()) for name in classes[:SHOWN])
    more = f", … in {CONFIG}" if len(classes) > SHOWN else ""
    return f": {shown}{more}" if classes else ""


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

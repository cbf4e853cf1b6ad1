"""The entry points that `register` makes; `timm.list_models(module="ghn_models")` lists them."""

from __future__ import annotations

from typing import Any

__all__: list[str] = []  # timm adds names to it
default_cfgs: dict[str, Any] = {}  # where timm looks for input sizes and normalisation

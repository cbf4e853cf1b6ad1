"""What names a model on the command line; in a file of its own, which needs nothing."""

from __future__ import annotations

KINDS = "timm:NAME, torchvision:NAME, transformers:NAME or module:callable"

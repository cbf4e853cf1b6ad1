"""One thread at a time: what a run changes for the whole process would else be put back as another run left it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

ALONE = threading.RLock()
"""Others wait; who holds it may take it again."""


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Alone, and without compiling: what `torch.compile` was applied to runs as it is written."""
    with ALONE, torch.compiler.set_stance("force_eager"):
        yield

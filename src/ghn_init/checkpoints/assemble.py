"""Configuration and tensors, as read from any file → hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ghn_init.checkpoints.folder import check_size, fitted
from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.ghn import GHN


def assemble(config: GHNConfig, tensors: Mapping[str, Tensor], path: Path | str) -> GHN:
    """The hypernetwork of a configuration and tensors that were read from `path`, in float32, in eval mode.

    Raises:
        CheckpointError: They don't belong together.
    """
    check_size(config, tensors, path)
    with torch.device("meta"):
        model = GHN(config)
    model.load_state_dict(fitted(model.state_dict(), tensors, path), assign=True)
    return model.eval()

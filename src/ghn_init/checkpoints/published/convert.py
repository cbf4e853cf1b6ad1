"""Published file → configuration and tensors under our names."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from math import isqrt
from typing import Any

from torch import Tensor

from ghn_init.checkpoints.folder import expanded
from ghn_init.checkpoints.published.formats import FAILURES, read
from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.config import UNNAMED, GHNConfig
from ghn_init.hypernetwork.ghn import under_our_names

Parts = tuple[GHNConfig, dict[str, Tensor]]

_AT_THE_TOP = ("centrality_embed_in.", "centrality_embed_out.", "input_dist_embed.")
"""A GHN-3's embeddings that some files hold outside of the first layer."""


def read_published(path: str | os.PathLike[str], called: str | None = None, task: str = UNNAMED) -> Parts:
    """Reads a published hypernetwork; no code of the file is run.

    Args:
        path: What `torch.save` wrote (a dict with `config` and `state_dict`), or what `joblib.dump` wrote (a state dict).
        called: What errors call the file; by default its path.
        task: What its one task is called here.

    Returns:
        Configuration, and tensors under our names, which have not been compared with it yet.

    Raises:
        CheckpointError: Missing, damaged, or not a hypernetwork's file.
    """
    file = expanded(path)
    try:
        return _parts(read(file), task)
    except (*FAILURES, CheckpointError) as error:
        raise CheckpointError(
            f"{called or file} is not a published hypernetwork's file ({type(error).__name__}: {error!s:.200}); expected what "
            f"torch.save wrote, a dict with 'config' and 'state_dict', or what joblib.dump wrote, a state dict. "
            f"Nothing in it was run."
        ) from error


def _parts(value: Any, task: str) -> Parts:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"it holds a {type(value).__name__}")
    state = value.get("state_dict", value)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ValueError(f"it holds {reprlib.repr(list(value))}")
    tensors = {f"gnn.0.{name}" if name.startswith(_AT_THE_TOP) else name: tensor for name, tensor in state.items()}
    stored = value.get("config") if state is not value else None
    config = GHNConfig.from_dict(_plain(stored), task) if isinstance(stored, dict) else configuration_of(tensors, task)
    return config, under_our_names(config, tensors)


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The entries that published configurations have: numbers, strings, and lists of numbers."""
    known = {*GHNConfig.__dataclass_fields__, "decoder", "num_classes"} - {"tasks", "class_width", "as_published"}
    scalars = (bool, int, float, str)
    return {
        key: value
        for key, value in config.items()
        if key in known
        and (type(value) in scalars or (type(value) in (list, tuple) and all(type(item) is int for item in value)))
    }


def configuration_of(tensors: Mapping[str, Tensor], task: str = UNNAMED) -> GHNConfig:
    """Reads a configuration off the tensors' shapes.

    Raises:
        KeyError: A tensor that tells it is missing.
        CheckpointError: The shapes fit no hypernetwork.
    """
    hid = tensors["embed.weight"].shape[1]
    num_classes, out_channels = tensors["decoder.class_layer_predictor.1.weight"].shape[:2]  # some are 1×1 convolutions'
    in_channels = tensors["decoder.conv.2.weight"].shape[0] // max(out_channels, 1)
    kernel = isqrt(tensors["decoder.fc.0.weight"].shape[0] // max(4 * hid, 1))
    layers = len({name.split(".")[1] for name in tensors if name.startswith("gnn.") and name.endswith(".ln1.weight")})
    heads = tensors["gnn.0.attn.proj_e.2.weight"].shape[0] if layers else 8
    gated = any(name.startswith("gnn.gru.") for name in tensors)
    layernorm = "ln.weight" in tensors
    return GHNConfig(
        {task: num_classes},
        class_width=num_classes,
        max_shape=(out_channels, in_channels, kernel, kernel),
        hid=hid,
        hypernet="gatedgnn" if gated or layers else "mlp",
        ve=layers > 0 or not gated or any(name.startswith("gnn.mlp_ve.") for name in tensors),
        layernorm=layernorm,
        weight_norm=layernorm,  # GHN-1 has neither
        layers=layers,
        heads=heads,
    )

"""What has to be known of a hypernetwork to build it, stored beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from reprlib import repr as short  # values are a file's, of any length
from typing import Any

from ghn_init.errors import CheckpointError

HYPERNETS = ("gatedgnn", "mlp")


@dataclass(frozen=True)
class GHNConfig:
    """Configuration of a GHN-1, a GHN-2, a GHN-3 or the MLP ablation, under the published names.

    Attributes:
        num_classes: Classes of the data set that it was trained for.
        max_shape: Largest kernel that the decoder produces: output channels, input channels, height, width.
        hid: Width D of the node embeddings; a multiple of 4.
        hypernet: `gatedgnn`, or `mlp` for the ablation without message passing; a GHN-3 has neither.
        ve: Virtual edges (GHN-2).
        layernorm: Layer norm after the graph network (GHN-2, GHN-3).
        weight_norm: Predicted tensors are scaled by their fan-in (GHN-2, GHN-3).
        layers: Transformer layers (GHN-3); 0 for the others.
        heads: Attention heads (GHN-3).
    """

    num_classes: int
    max_shape: tuple[int, int, int, int] = (64, 64, 11, 11)
    hid: int = 32
    hypernet: str = "gatedgnn"
    ve: bool = True
    layernorm: bool = True
    weight_norm: bool = True
    layers: int = 0
    heads: int = 8

    def __post_init__(self) -> None:
        sizes = self.max_shape
        if len(sizes) != 4 or min(sizes) < 1 or sizes[2] != sizes[3]:
            raise CheckpointError(f"max_shape is {short(sizes)}; expected four positive sizes (M0, M1, S, S).")
        if self.hid < 4 or self.hid % 4:
            raise CheckpointError(f"hid is {short(self.hid)}; expected a positive multiple of 4.")
        if self.num_classes < 1:
            raise CheckpointError(f"num_classes is {short(self.num_classes)}; expected at least 1.")
        if self.layers < 0:
            raise CheckpointError(f"layers is {short(self.layers)}; expected 0 (no GHN-3) or more.")
        if self.layers and (self.heads < 1 or self.hid % self.heads):
            raise CheckpointError(f"heads is {short(self.heads)}; expected a divisor of hid, {short(self.hid)}.")
        if self.hypernet not in HYPERNETS:
            raise CheckpointError(f"hypernet is {short(self.hypernet)}; expected one of {HYPERNETS}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GHNConfig:
        """Reads a configuration; keys that don't describe the architecture are ignored.

        Raises:
            CheckpointError: A value is missing, of the wrong type or out of range.
        """
        if values.get("decoder", "conv") != "conv":
            raise CheckpointError(f"decoder is {short(values['decoder'])}; this version reads 'conv'.")
        if "num_classes" not in values:
            raise CheckpointError(f"the configuration has no 'num_classes'; it has {short(sorted(values))}.")
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        kinds = {"int": int, "str": str, "bool": bool}
        for name, field in cls.__dataclass_fields__.items():
            kind = kinds.get(str(field.type))
            if name in known and kind is not None and type(known[name]) is not kind:
                raise CheckpointError(f"{name} is {short(known[name])}; expected {kind.__name__}.")
        if "max_shape" in known:
            sizes = known["max_shape"]
            if not isinstance(sizes, list | tuple) or not all(type(size) is int for size in sizes):
                raise CheckpointError(f"max_shape is {short(sizes)}; expected four integers.")
            known["max_shape"] = tuple(sizes)
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        values = asdict(self)
        values["max_shape"] = list(self.max_shape)
        if not self.layers:
            del values["layers"], values["heads"]
        return values

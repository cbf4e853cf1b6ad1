"""Everything that tells one network of the distribution from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ghn_init.deepnets.genotype import Genotype


@dataclass(frozen=True)
class Arguments:
    """A network's arguments, under the release's names.

    Attributes:
        genotype: Its cells.
        n_cells: How many of them; those at a third and two thirds are reduction cells.
        C: Channels of the first cells.
        C_mult: Factor on the channels at each reduction cell.
        ks: Kernel of the stem's first convolution.
        stem_type: 0 simple, 1 ImageNet-style.
        stem_pool: A max pool at the end of the simple stem.
        norm: Batch norms, or none.
        preproc: 1×1 convolutions at the cells' inputs.
        glob_avg: Global average pooling before the head; else the head sees all positions.
        fc_layers: Fully connected layers, 1 or 2.
        fc_dim: Width between them.
    """

    genotype: Genotype
    n_cells: int
    C: int = 32
    C_mult: int = 1
    ks: int = 3
    stem_type: int = 0
    stem_pool: bool = False
    norm: bool = True
    preproc: bool = True
    glob_avg: bool = True
    fc_layers: int = 1
    fc_dim: int = 256

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; `norm` as the release writes it."""
        return asdict(self) | {"genotype": self.genotype.to_dict(), "norm": "bnorm" if self.norm else None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Arguments:
        """Reads what `to_dict` or the release wrote; what is missing takes its default, what is unknown is ignored.

        Raises:
            KeyError: The genotype or the number of cells is missing.
        """
        known = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        known["genotype"] = Genotype.from_dict(fields["genotype"])
        known["norm"] = bool(fields.get("norm", True))
        known["n_cells"] = int(fields["n_cells"])
        return cls(**known)

"""What a fit found, in figures and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class HeadFit:
    """A head that was fitted in closed form; `str` says it in a line. Of several outputs, figures are the first's.

    Attributes:
        heads: Dotted names of the parameters that were written.
        accuracy: Leave-one-out, in percent: each image told by the regression on all others. The batch norms and what
            standardises features saw it.
        majority: Share of the most frequent class, in percent.
        strength: Of the ridge penalty, on standardised features.
        temperature: By which the regression's scores were divided.
        images: How many it was fitted on.
        classes: How many there are.
        features: How many a head sees.
        seconds: What all of it took, batch norms included.
        copies: How many more were left out, since they are the same as others, with the same labels.
        frozen: Dotted names of further outputs' heads that were left alone, since they are frozen.
    """

    heads: tuple[str, ...]
    accuracy: float
    majority: float
    strength: float
    temperature: float
    images: int
    classes: int
    features: int
    seconds: float
    copies: int = 0
    frozen: tuple[str, ...] = ()

    @property
    def error(self) -> float:
        """Standard error of the accuracy, in percentage points.

        Two right and two wrong images are added (Agresti and Coull 1998); else it would be none at 0 and at 100 %.
        """
        N = self.images + 4
        share = (self.accuracy / 100 * self.images + 2) / N
        return 100 * math.sqrt(share * (1 - share) / N)

    def __str__(self) -> str:
        copies = f", without {self.copies:,} copies of them" if self.copies else ""
        frozen = f"; frozen, and left alone: {', '.join(self.frozen)}" if self.frozen else ""
        return (
            f"a classifier of {self.classes} classes in {self.seconds:.1f} s: leave-one-out accuracy {self.accuracy:.1f} ± "
            f"{self.error:.1f} % on {self.images:,} images{copies} (the most frequent class: {self.majority:.1f} %); "
            f"{self.features:,} features, strength {self.strength:.3g}, temperature {self.temperature:.2g}; "
            f"written to {', '.join(self.heads)}{frozen}"
        )

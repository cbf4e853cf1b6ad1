"""What a prediction does to each layer's statistics: norms, scale against fan-in, copies, effective rank; before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import nan, prod, sqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ghn_init.devices import in_float64
from ghn_init.progress import counting
from ghn_init.viz.html_table import html_table
from ghn_init.viz.text_table import Cell, aligned

if TYPE_CHECKING:
    from ghn_init.prediction.prediction import Prediction

COLUMNS = ("parameter", "norm", "→", "scale", "→", "copies", "rank", "→", "of")


@dataclass(frozen=True)
class LayerStatistics:
    """Of one predicted parameter. What is "before" is None on the meta device; scales and ranks of vectors are None.

    Attributes:
        name: Dotted name.
        norm_before: Euclidean norm.
        norm: Of the prediction.
        scale_before: Root mean square times √fan-in: 1.41 for He's init (arXiv 1502.01852), 0.58 for PyTorch's own.
        scale: Of the prediction.
        copies: Elements of the parameter per element that was decoded.
        rank_before: Effective rank, exp of the entropy of the singular values as shares of their sum (Roy and Vetterli, EUSIPCO
            2007), of the parameter as a matrix with a row per output.
        rank: Of the prediction.
        full_rank: The smaller side of that matrix.
    """

    name: str
    norm_before: float | None
    norm: float
    scale_before: float | None
    scale: float | None
    copies: float
    rank_before: float | None
    rank: float | None
    full_rank: int | None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """In the order of `COLUMNS`."""
        norms, scales = (self.norm_before, self.norm), (self.scale_before, self.scale)
        return self.name, *norms, *scales, self.copies, self.rank_before, self.rank, self.full_rank


class Statistics(Sequence[LayerStatistics]):
    """Statistics of every predicted parameter, in the model's order; printed they are a table."""

    def __init__(self, layers: Sequence[LayerStatistics]) -> None:
        self._layers = tuple(layers)

    def __getitem__(self, index: Any) -> Any:
        return self._layers[index]

    def __len__(self) -> int:
        return len(self._layers)

    def to_dict(self) -> list[dict[str, Any]]:
        """A mapping per parameter, as `json` and `pandas.DataFrame` take them."""
        return [asdict(layer) for layer in self._layers]

    def __repr__(self) -> str:
        return "\n".join(aligned([COLUMNS, *(layer.cells for layer in self._layers)]))

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return html_table(COLUMNS, [layer.cells for layer in self._layers])


@torch.no_grad()
def layer_statistics(prediction: Prediction) -> Iterator[LayerStatistics]:
    """One after another; one predicted tensor at a time is made."""
    parameters = dict(prediction.model.named_parameters())
    rows = prediction.report.predicted
    with counting(len(rows), "parameters", True) as done:
        for row in rows:
            before, after = parameters[row.name].detach(), prediction.tensors[row.name]
            if after.is_complex():
                before, after = torch.view_as_real(before).flatten(-2), torch.view_as_real(after).flatten(-2)
            copies = row.numel / prod(row.core) if row.core else 1.0
            known = not before.is_meta
            matrix = after.dim() > 1
            yield LayerStatistics(
                row.name,
                _norm(before) if known else None,
                _norm(after),
                _scale(before) if known and matrix else None,
                _scale(after) if matrix else None,
                copies,
                effective_rank(before) if known and matrix else None,
                effective_rank(after) if matrix else None,
                min(after.flatten(1).shape) if matrix else None,
            )
            done(row.name)


def effective_rank(tensor: Tensor) -> float:
    """exp(−Σ p ln p), p the singular values' shares, of (O, …) as a matrix (O, -1); 0 for zeros, NaN where some aren't finite.

    Singular values are the roots of the smaller Gram matrix's eigenvalues, in float64.
    """
    matrix = in_float64(tensor.detach().flatten(1))
    if not bool(matrix.isfinite().all()):
        return nan
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    eigenvalues = torch.linalg.eigvalsh(gram)
    values = eigenvalues.where(eigenvalues > 1e-12 * eigenvalues[-1], 0).sqrt()  # below that it is rounding
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach().float()))


def _scale(tensor: Tensor) -> float:
    return _norm(tensor) / sqrt(tensor.numel()) * sqrt(prod(tensor.shape[1:]))

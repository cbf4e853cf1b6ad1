"""What happens to each parameter, as pictures show it: predicted, tiled or kept, and norms before and after."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ghn_init.prediction.report import Report, Row
from ghn_init.viz.colouring import Fate


def fates(report: Report, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Fate]:
    """Dotted parameter name → what happens to it.

    Args:
        report: The prediction's.
        before: The model's parameters.
        after: Predicted tensors, of which one at a time is made.
    """
    return {row.name: _fate(row, before[row.name], after) for row in report.rows}


@torch.no_grad()
def _fate(row: Row, before: Tensor, after: Mapping[str, Tensor]) -> Fate:
    norms = [_norm(before)] + ([_norm(after[row.name])] if row.core is not None else [])
    said = " → ".join(norm for norm in norms if norm)
    return Fate(row.state, "; ".join(part for part in (row.said, said and f"norm {said}") if part))


def _norm(tensor: Tensor) -> str:
    """The Euclidean norm; nothing on the meta device."""
    if tensor.is_meta:
        return ""
    values = tensor if tensor.is_complex() else tensor.float()
    return f"{torch.linalg.vector_norm(values).item():.3g}"

"""Is a published hypernetwork reproduced? Norms of predicted parameters against the published ones, model by model.

Source: the GHN-3 project publishes, for 74 torchvision classifiers, the norm of all parameters (`published/norms.csv`); its own
evaluation script accepts deviations below 0.01.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

from ghn_init.api import predict
from ghn_init.errors import VerificationError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models import spec as model_spec
from ghn_init.tracing.inputs import BATCH

TOLERANCE = 0.01
_UNPREDICTED = "unpredicted"
_IMAGE_SIZES = {"inception_v3": 299}
_PIECE = 2**22


@dataclass(frozen=True)
class Expected:
    """A row of the table.

    Attributes:
        model: torchvision's name.
        norm: The published 2-norm of all parameters.
        unpredicted: Pattern of parameter names that the published code leaves at torchvision's init → their root mean square
            there. They are part of the published norm.
    """

    model: str
    norm: float
    unpredicted: Mapping[str, float]


@dataclass(frozen=True)
class NormCheck:
    """One model's figures.

    Attributes:
        model: torchvision's name.
        published: The norm in the table.
        exact: The norm of what is predicted here, summed in double precision.
        single: The same in single precision, parameter by parameter, as the published code takes it.
        strays: Parameters that are kept here although the table does not say so.
    """

    model: str
    published: float
    exact: float
    single: float
    strays: tuple[str, ...]

    @property
    def lowest(self) -> float:
        """What single precision may give: half as wide vectors lose twice as much of a sum over 10⁸ squares as here."""
        return self.exact - 2 * max(self.exact - self.single, 0.0)

    @property
    def deviation(self) -> float:
        """How far the published norm is from what exact or single precision gives."""
        return max(self.lowest - self.published, self.published - self.exact, 0.0)

    @property
    def matches(self) -> bool:
        """The published norm is reproduced."""
        return not self.strays and self.deviation <= TOLERANCE


def norms_table() -> Path:
    """The package's table."""
    return Path(str(resources.files("ghn_init"))) / "checkpoints" / "published" / "norms.csv"


def read_table(path: Path, column: str) -> list[Expected]:
    """The rows of a table: CSV with the columns `model`, one for each checkpoint, and `unpredicted`, which may be missing.

    Args:
        path: The file; lines that begin with # are skipped.
        column: The checkpoint's.

    Raises:
        VerificationError: Not such a table, or it has no such column.
    """
    try:
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(f"the table {path} can't be read ({error}).") from error
    rows = list(csv.DictReader(lines))
    known = sorted(set(rows[0]) - {"model", _UNPREDICTED}) if rows else []
    if not rows or "model" not in rows[0] or column not in known:
        raise VerificationError(f"{path} has no norms for {column!r}; it has columns for {known}, pass --column or --table.")
    return [_row(path, row, column) for row in rows]


def _row(path: Path, row: Mapping[str, str | None], column: str) -> Expected:
    try:
        parts = [part.rpartition("=") for part in (row.get(_UNPREDICTED) or "").split()]
        unpredicted = {pattern: float(rms) for pattern, _, rms in parts}
        return Expected(row["model"] or "", float(row[column] or ""), unpredicted)
    except ValueError as error:
        raise VerificationError(f"{path}: the row {dict(row)} can't be read ({error}); expected numbers.") from error


def verify(ghn: GraphHyperNetwork, table: Iterable[Expected]) -> Iterator[NormCheck]:
    """Predicts each model of the table and compares. Of a model's predicted parameters one is held at a time.

    Args:
        ghn: The hypernetwork; models are built with its number of classes.
        table: What to expect.

    Raises:
        VerificationError: The hypernetwork knows several tasks.
        ModelSpecError: torchvision is missing or has no such model.
    """
    if len(ghn.config.tasks) > 1:
        raise VerificationError(
            f"published norms are of one task's head; this hypernetwork knows {ghn.config.described_tasks}."
        )
    for expected in table:
        yield _compared(ghn, expected)


def _compared(ghn: GraphHyperNetwork, expected: Expected) -> NormCheck:
    (outputs,) = ghn.config.tasks.values()
    model = model_spec.without_storage(lambda: model_spec.build(f"torchvision:{expected.model}", outputs))
    size = _IMAGE_SIZES.get(expected.model, 224)
    prediction = predict(model, ghn, torch.empty(BATCH, 3, size, size, device="meta"), head=True)
    squares = single_squares = 0.0
    for tensor in prediction.tensors.values():
        squares += _sum_of_squares(tensor)
        single_squares += float(tensor.norm()) ** 2
    strays = []
    for name in prediction.kept:
        rms = next((rms for pattern, rms in expected.unpredicted.items() if fnmatchcase(name, pattern)), None)
        if rms is None:
            strays.append(name)
        else:
            squares += rms**2 * model.get_parameter(name).numel()
            single_squares += rms**2 * model.get_parameter(name).numel()
    return NormCheck(expected.model, expected.norm, sqrt(squares), sqrt(single_squares), tuple(strays))


def _sum_of_squares(tensor: Tensor) -> float:
    return sum(float(piece.double().square().sum()) for piece in tensor.flatten().split(_PIECE))

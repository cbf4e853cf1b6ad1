"""What was predicted, what is kept and why, as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import prod


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter: its primitive where predicted, the core's shape and how often it is tiled, notes or the reason.

    `note` says what is approximated or why it is kept, `conditioning` what is done to what was decoded.
    """

    name: str
    shape: tuple[int, ...]
    primitive: str | None
    core: tuple[int, ...] | None
    note: str = ""
    conditioning: str = ""

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def tiling(self) -> str:
        """`64×64×3×3 ×4×8`: the decoded core and its repetitions along the axes that repeat."""
        if self.core is None:
            return ""
        core = "×".join(map(str, self.core))
        total = prod(self.core)
        return core if total >= self.numel else f"{core} tiled {self.numel / total:.4g} times"


@dataclass(frozen=True)
class Report:
    """A row per parameter, in the model's order, and warnings about the whole. `str(report)` is a table."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    def with_conditioning(self, names: Collection[str], note: str) -> Report:
        """The same report, in which the rows of `names` say that they are conditioned."""
        return replace(self, rows=tuple(replace(row, conditioning=note) if row.name in names else row for row in self.rows))

    @property
    def predicted(self) -> tuple[Row, ...]:
        """Rows of the parameters that are predicted."""
        return tuple(row for row in self.rows if row.primitive is not None)

    @property
    def kept(self) -> tuple[Row, ...]:
        """Rows of the parameters that keep their values."""
        return tuple(row for row in self.rows if row.primitive is None)

    @property
    def summary(self) -> str:
        """One line: how many parameters and elements are predicted."""
        numel, total = sum(row.numel for row in self.predicted), sum(row.numel for row in self.rows)
        share = 100 * numel / total if total else 0.0
        return (
            f"{len(self.predicted)} of {len(self.rows)} parameters predicted, {numel:,} of {total:,} elements ({share:.2f} %); "
            f"{len(self.kept)} kept"
        )

    def __str__(self) -> str:
        header = ("parameter", "shape", "primitive", "decoded", "note")
        lines = [header] + [
            (
                row.name,
                "×".join(map(str, row.shape)) or "scalar",
                row.primitive or "kept",
                row.tiling,
                _joined(row.note, row.conditioning),
            )
            for row in self.rows
        ]
        return "\n".join([*_aligned(lines), *(f"warning: {text}" for text in self.warnings), self.summary])


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]

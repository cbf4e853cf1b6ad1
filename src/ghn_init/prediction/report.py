"""What was predicted, what is kept and why, as a table."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ghn_init.confidence.regression import Expectation
from ghn_init.errors import StrictError
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.slots import Slot
from ghn_init.prediction.grouping import GROUP_COLUMNS, TILED, Group, grouped
from ghn_init.viz.html_table import html_table
from ghn_init.viz.text_table import aligned

if TYPE_CHECKING:
    from ghn_init.heads.result import HeadFit

HARM = (
    "predicted parameters are expected to be behind the model's own init: race them on your data (choose=True), or leave the "
    "model as it is"
)
_KEPT = "parameters that keep their values"
_NOISE = "batch norms whose running statistics are not predicted but those of noise"
_RESET = "batch norms whose running statistics could not be taken from noise"


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter: its primitive where predicted, the core's shape and how often it is tiled, notes or the reason.

    `note` says what is approximated or why it is kept, `conditioning` what is done to what was decoded, or else to know of it.
    `fitted` ones are not predicted, but written to suit the user's data; `written` ones neither: `note` says what they got.
    """

    name: str
    shape: tuple[int, ...]
    primitive: str | None
    core: tuple[int, ...] | None
    note: str = ""
    conditioning: str = ""
    fitted: bool = False
    written: bool = False

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def state(self) -> str:
        """`predicted`, `predicted, tiled`, `fitted`, `written` or `kept`."""
        if self.core is None:
            return "fitted" if self.fitted else "written" if self.written else "kept"
        return TILED if prod(self.core) < self.numel else "predicted"

    @property
    def said(self) -> str:
        """Why it is kept; or what is approximated, and what is done besides."""
        return _joined(self.note, self.conditioning)

    def with_done(self, what: str) -> Row:
        """The same row, which says what else is done to the prediction."""
        return replace(self, conditioning=_joined(self.conditioning, what))

    @property
    def tiling(self) -> str:
        """`64×64×3×3 ×4×8`: the decoded core and its repetitions along the axes that repeat."""
        if self.core is None:
            return ""
        core = "×".join(map(str, self.core))
        total = prod(self.core)
        return core if total >= self.numel else f"{core} tiled {self.numel / total:.4g} times"


@dataclass(frozen=True, repr=False)
class Report:
    """A row per parameter, in the model's order, and warnings about the whole.

    Printed, it is a screen: the summary, and parameters in groups by module and by what happens to them. `table()` has them
    all; notebooks show both, sortable and filterable.

    Attributes:
        rows: What becomes of each parameter.
        warnings: Counts of what is kept and of what is approximated.
        fit: The head that was fitted to the user's data, or None.
        data: What else was done with them, or why no head was fitted; empty without data.
        choice: Which start was chosen on them, why and at what cost; empty where none was.
        expected: What the prediction is expected to be worth, by the names of measures; empty where that is not known of the
            hypernetwork or of such inputs.
    """

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()
    fit: HeadFit | None = None
    data: str = ""
    choice: str = ""
    expected: Mapping[str, Expectation] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        graph: Graph,
        parameters: Mapping[str, Tensor],
        slots: Mapping[str, Slot],
        kept: Mapping[str, str],
        ghn: GraphHyperNetwork,
        task: str | None,
    ) -> Report:
        """Says of each parameter what becomes of it.

        Args:
            graph: The model's.
            parameters: Dotted name → parameter, in the model's order.
            slots: Of those that are predicted; a copy has its original's.
            kept: Dotted names of all others → the reason.
            ghn: What predicts them.
            task: Whose head it predicts.
        """
        rows = []
        for name, parameter in parameters.items():
            shape, slot = tuple(parameter.shape), slots.get(name)
            if slot is None:
                rows.append(Row(name, shape, None, None, kept[name]))
            else:
                node = graph.nodes[slot.node]
                same = "" if slot.name == name else f"the same as '{slot.name}', of which it is a frozen copy"
                core = ghn.core_shape(slot, task)
                rows.append(Row(name, shape, node.primitive, core, approximations(node, slot, ghn), same))
        approximated = sum(row.primitive is not None and bool(row.note) for row in rows)
        warnings = [f"parameters that are approximated: {approximated}"] if approximated else []
        return cls(tuple(rows), (*_warned(rows), *warnings))

    def refuse(self, chosen: Container[str]) -> None:
        """What `strict` asks for.

        Args:
            chosen: Dotted names that the caller left out.

        Raises:
            StrictError: Something else is kept, or something is approximated.
        """
        problems = [f"'{row.name}': {row.note}" for row in self.rows if row.note and row.name not in chosen]
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise StrictError(f"{'; '.join(problems[:5])}{more}. Pass strict=False to accept; predict(model).report shows all.")

    def with_conditioning(self, names: Collection[str], note: str) -> Report:
        """The same report, in which the rows of `names` say that they are conditioned."""
        return replace(self, rows=tuple(row.with_done(note) if row.name in names else row for row in self.rows))

    def with_notes(self, notes: Mapping[str, str]) -> Report:
        """The same report, in which rows say by name what else they only approximate."""
        rows = (replace(row, note=_joined(row.note, notes[row.name])) if row.name in notes else row for row in self.rows)
        return replace(self, rows=tuple(rows))

    def with_reasons(self, reasons: Mapping[str, str]) -> Report:
        """The same report, in which rows of kept parameters have other reasons, by name."""
        rows = (replace(row, note=reasons.get(row.name, row.note)) for row in self.rows)
        return replace(self, rows=tuple(rows))

    def with_warnings(self, warnings: Iterable[str]) -> Report:
        """The same report, with more warnings."""
        return replace(self, warnings=(*self.warnings, *warnings))

    def with_expected(self, expected: Mapping[str, Expectation]) -> Report:
        """The same report, which says what may be expected, and warns of harm."""
        told = replace(self, expected=expected)
        return replace(told, warnings=(*self.warnings, told.harm)) if told.harm else told

    @property
    def harm(self) -> str:
        """What to do where predictions are expected to be behind the model's own init; empty where they are not."""
        gain = self.expected.get("gain")
        return "" if gain is None or gain.value >= 0 else HARM

    def with_data(self, data: str, fit: HeadFit | None = None) -> Report:
        """The same report, which says what was done with the user's data; rows of a fitted head say that they are."""
        heads = () if fit is None else fit.heads
        rows = tuple(replace(row, note="in closed form", fitted=True) if row.name in heads else row for row in self.rows)
        warnings = [warning for warning in self.warnings if not warning.startswith((_NOISE, _RESET))]
        if warnings and warnings[0].startswith(_KEPT):
            warnings[:1] = _warned(rows)
        return replace(self, rows=rows, warnings=tuple(warnings), fit=fit, data=data)

    def with_nothing_predicted(self, reason: str, written: Container[str] = (), what: str = "") -> Report:
        """The same report, in which no row is predicted; those that would be say why, or what was written by name instead."""

        def changed(row: Row) -> Row:
            instead = row.name in written
            return Row(row.name, row.shape, None, None, what if instead else reason, written=instead)

        rows = (row if row.primitive is None else changed(row) for row in self.rows)
        return replace(self, rows=tuple(rows), warnings=(), expected={})

    def with_choice(self, choice: str) -> Report:
        """The same report, which says what was chosen and what for."""
        return replace(self, choice=choice)

    def with_scales(self, scales: Mapping[str, float]) -> Report:
        """The same report, in which rows of scaled parameters say by how much."""
        notes = {name: f"scaled by {scale:.2g}" for name, scale in scales.items()}
        return replace(self, rows=tuple(row.with_done(notes[row.name]) if row.name in notes else row for row in self.rows))

    def with_norms(self, count: int, why_not: str = "") -> Report:
        """The same report, which warns of so many batch norms without statistics of data.

        Args:
            count: How many.
            why_not: Why they are not those of noise either.
        """
        others = [warning for warning in self.warnings if not warning.startswith((_NOISE, _RESET))]
        what = f"{_RESET} ({why_not}), so that eval mode is not sane" if why_not else _NOISE
        norms = [f"{what}: {count} (take them from your data: ghn_init.recalibrate_batchnorm)"] if count else []
        return replace(self, warnings=(*others, *norms))

    @property
    def noise(self) -> str:
        """The warning of running statistics that are those of noise; empty where there are none."""
        return next((text for text in self.warnings if text.startswith(_NOISE)), "")

    @property
    def predicted(self) -> tuple[Row, ...]:
        """Rows of the parameters that are predicted."""
        return tuple(row for row in self.rows if row.primitive is not None)

    @property
    def kept(self) -> tuple[Row, ...]:
        """Rows of the parameters that keep their values."""
        return tuple(row for row in self.rows if row.state == "kept")

    @property
    def summary(self) -> str:
        """One line: how many parameters and elements are predicted."""
        fitted, written = (sum(row.state == state for row in self.rows) for state in ("fitted", "written"))
        numel, total = sum(row.numel for row in self.predicted), sum(row.numel for row in self.rows)
        share = 100 * numel / total if total else 0.0
        return (
            f"{len(self.predicted)} of {len(self.rows)} parameters predicted, {numel:,} of {total:,} elements ({share:.2f} %); "
            f"{len(self.kept)} kept{f', {fitted} fitted' if fitted else ''}{f', {written} written' if written else ''}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, as `json` and `pandas` take it: summary, warnings, data, groups, and a mapping per parameter."""
        rows = [{**asdict(row), "shape": list(row.shape), "core": row.core and list(row.core)} for row in self.rows]
        groups = [asdict(group) for group in self.groups]
        expected = {name: asdict(one) for name, one in self.expected.items()}
        told = {"summary": self.summary, "warnings": list(self.warnings), "expected": expected}
        data = {"data": self.data, "choice": self.choice, "fit": None if self.fit is None else asdict(self.fit)}
        return {**told, **data, "groups": groups, "rows": rows}

    @property
    def lines(self) -> list[str]:
        """What a person has to know first: the summary, what may be expected, what was done with data, and warnings."""
        expected = (f"expected: {one}" for one in self.expected.values())
        return [self.summary, *expected, *self.data_lines, *(f"warning: {text}" for text in self.warnings)]

    @property
    def groups(self) -> tuple[Group, ...]:
        """The rows by module and by what happens to them, about a screen of groups."""
        return grouped(self.rows)

    def __repr__(self) -> str:
        """A screen."""
        return "\n".join([*self.lines, *aligned([GROUP_COLUMNS, *(group.cells for group in self.groups)])])

    def table(self) -> str:
        """A line for every parameter."""
        header = ("parameter", "shape", "primitive", "decoded", "note")
        cells = [
            (row.name, "×".join(map(str, row.shape)) or "scalar", row.primitive or row.state, row.tiling, row.said)
            for row in self.rows
        ]
        return "\n".join(aligned([header, *cells]))

    def _repr_html_(self) -> str:
        """What notebooks show: the groups, and below them all parameters."""
        lines = "".join(f"<p>{escape(line)}</p>" for line in self.lines)
        groups = html_table(GROUP_COLUMNS, [group.cells for group in self.groups])
        rows = html_table(
            ("parameter", "shape", "elements", "what", "primitive", "decoded", "note"),
            [(r.name, "×".join(map(str, r.shape)), r.numel, r.state, r.primitive or "", r.tiling, r.said) for r in self.rows],
        )
        return f"{lines}{groups}<details><summary>all {len(self.rows):,} parameters</summary>{rows}</details>"

    @property
    def data_lines(self) -> list[str]:
        """What was done with the user's data, in up to three lines."""
        return [line for line in (self.choice, self.data, "" if self.fit is None else str(self.fit)) if line]


def approximations(node: Node, slot: Slot, ghn: GraphHyperNetwork) -> str:
    """What the hypernetwork can only approximate about a parameter."""
    notes = []
    S, largest = ghn.config.max_shape[2], ghn.shape_enc.channels[-1]
    if slot.kind in ("weight", "position") and max(slot.sizes[2:]) > S:
        notes.append(f"kernel {slot.sizes[2]}×{slot.sizes[3]} interpolated from {S}×{S}")
    if slot.slices > 1:
        notes.append(f"one map repeated for {slot.slices} slices")
    if len(slot.layout) > 4:
        notes.append("one kernel repeated along the depth")
    widest = max((node.shape or (0,))[:2])
    if widest > largest:
        notes.append(f"width {widest} read as {largest}")
    return "; ".join(notes)


def _warned(rows: Iterable[Row]) -> list[str]:
    """A warning of those that keep their values, if any do."""
    kept = sum(row.state == "kept" for row in rows)
    return [f"{_KEPT}: {kept}"] if kept else []


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))

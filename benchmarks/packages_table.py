"""Models of other packages: what is predicted of them, how long it takes, and whether what the report says is true.

    pip install 'ghn_init[packages]' && python benchmarks/packages_table.py -o docs/packages.md

The models are those of `tests/packages.py`. A fault is a predicted parameter without influence on the output, or one that is
kept as unused and has some, both by gradients of a model that nothing saturates (`tests/test_influence.py`).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import torch

import ghn_init

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from packages import PACKAGES, Member
from test_influence import faults

INTRO = """# Models of other packages

Small ones, by the packages' own constructors, with the head predicted too. Seconds are processor time of `predict`, medians of
four, one thread of an {machine} CPU; what construction takes is beside them. Faults are parameters that are predicted though
they have no influence on the output, or kept as unused though they have some. Made by
`python benchmarks/packages_table.py` with {versions}.

| model | package | parameters | predicted | elements, % | predicted in, s | constructed in, s | faults |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def seconds(member: Member, repeats: int = 5) -> tuple[float, float]:
    """Medians of predicting and of constructing."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        begun = time.process_time()
        model, inputs = member.build()
        built = time.process_time()
        ghn_init.predict(model, example_inputs=inputs, head=True)
        times.append((time.process_time() - built, built - begun))
    predicting, constructing = zip(*times[1:], strict=True)  # the first imports what it needs
    return statistics.median(predicting), statistics.median(constructing)


def row(name: str, member: Member) -> tuple[str, Counter[str]]:
    """A line of the table, and the reasons for what is kept."""
    model, inputs = member.build()
    report = ghn_init.predict(model, example_inputs=inputs, head=True).report
    predicting, constructing = seconds(member)
    share = 100 * sum(r.numel for r in report.predicted) / sum(r.numel for r in report.rows)
    cells = [name, member.package, len(report.rows), len(report.predicted), f"{share:.1f}"]
    cells += [f"{predicting:.2f}", f"{constructing:.2f}", len(list(faults(model, inputs)))]
    return f"| {' | '.join(map(str, cells))} |", Counter(r.note for r in report.kept)


def main() -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/packages.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, reasons = [], {}
    for name, member in PACKAGES.items():
        line, kept = row(name, member)
        print(line, flush=True)
        lines.append(line)
        reasons |= {name: kept} if kept else {}
    installed = sorted({member.package for member in PACKAGES.values() if "none" not in member.package} | {"torch"})
    versions = ", ".join(f"{package} {version(package)}" for package in installed)
    kept_lines = [
        f"- {name}: {'; '.join(f'{count} × {reason}' for reason, count in kept.items())}" for name, kept in reasons.items()
    ]
    intro = INTRO.format(machine=platform.machine(), versions=versions)
    kept_text = "\n".join(["\n\nWhat is kept, and why:\n", *kept_lines, ""])
    options.output.write_text(intro + "\n".join(lines) + kept_text, encoding="utf-8")


if __name__ == "__main__":
    main()

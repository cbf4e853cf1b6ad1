"""Traces and initialises one architecture of every timm module and every torchvision classifier.

    python benchmarks/coverage.py [-o docs/coverage.md] [--only resnet50 vit_b_32] [--skip-timm] [--threads 2]

Per model: milliseconds to trace, to find distances, to predict and to write (median of `--repeats`), the ratio of all four
stages to the model's own construction in the same process, what running statistics take on top (`initialize` sets batch
norms' by one forward pass of noise), extra peak memory over the model's own. Fails if a value is not finite or if the report
does not cover every parameter exactly once.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

import ghn_init
from memory import MIB, peak, reset_peak


@dataclass(frozen=True)
class Row:
    """One model's figures; times in seconds, memory in MiB."""

    name: str
    millions: float
    nodes: int
    kept: int
    parameters: int
    construct: float
    trace: float
    graph: float
    predict: float
    write: float
    statistics: float
    batch_norms: bool
    extra_memory: float
    largest: float

    @property
    def total(self) -> float:
        """Seconds of initialize(), but for running statistics."""
        return self.trace + self.graph + self.predict + self.write

    def cells(self) -> list[str]:
        """The row as the table shows it."""
        return [
            self.name,
            f"{self.millions:.1f}",
            str(self.nodes),
            f"{self.parameters - self.kept} / {self.parameters}",
            *(f"{1000 * t:.0f}" for t in (self.trace, self.graph, self.predict, self.write, self.total)),
            f"{self.total / self.construct:.2f}",
            f"{1000 * self.statistics:.0f}",
            f"{self.extra_memory:.0f}",
            f"{self.largest:.0f}",
        ]


HEADER = [
    "model", "M params", "nodes", "predicted", "trace ms", "graph ms", "predict ms", "write ms", "total ms",
    "total / construction", "statistics ms", "extra peak MiB", "largest parameter MiB",
]  # fmt: skip


def timm_names() -> list[str]:
    """The first architecture of every timm module, in timm's order."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for name in timm.list_models():
        by_module[timm.model_entrypoint(name).__module__].append(name)
    return [names[0] for names in by_module.values()]


def builders(skip_timm: bool, **options: int) -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """Names and constructors of all models, with `options` of theirs."""
    for name in torchvision.models.list_models(torchvision.models):
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        yield (
            f"torchvision:{name}",
            lambda name=name, extra=extra: torchvision.models.get_model(name, weights=None, **extra, **options),
        )
    if not skip_timm:
        for name in timm_names():
            yield f"timm:{name}", lambda name=name: timm.create_model(name, **options)


def measure(name: str, build: Callable[[], nn.Module], ghn: ghn_init.GHN, repeats: int) -> Row:
    """Builds one model and initialises it `repeats` times."""
    gc.collect()
    started = time.perf_counter()
    model = build()
    construct = time.perf_counter() - started
    stages: list[tuple[float, ...]] = []
    extra = 0.0
    for _ in range(repeats):
        before = reset_peak()
        times = [time.perf_counter()]
        graph = ghn_init.trace(model)
        times.append(time.perf_counter())
        _ = graph.distances
        times.append(time.perf_counter())
        prediction = ghn_init.predict(model, ghn, head=True)
        times.append(time.perf_counter())
        prediction.apply_(statistics=False)
        times.append(time.perf_counter())
        prediction.apply_()
        times.append(time.perf_counter())
        a, b, both, d, whole = (y - x for x, y in itertools.pairwise(times))
        stages.append((a, b, max(both - a - b, 0.0), d, max(whole - d, 0.0)))  # predict() traces on its own
        extra = max(extra, (peak() - before) / MIB)
    check(model, prediction)
    parameters = list(model.parameters())
    return Row(
        name,
        sum(p.numel() for p in parameters) / 1e6,
        graph.num_nodes,
        len(prediction.kept),
        len(parameters),
        construct,
        *(statistics.median(stage) for stage in zip(*stages, strict=True)),
        any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
        extra,
        max(p.numel() * p.element_size() for p in parameters) / MIB,
    )


def check(model: nn.Module, prediction: ghn_init.Prediction) -> None:
    """All values finite; every parameter predicted or kept, never both."""
    names = [name for name, _ in model.named_parameters()]
    assert sorted([*prediction.tensors, *prediction.kept]) == sorted(names)
    assert [row.name for row in prediction.report.rows] == names
    assert all(torch.isfinite(p).all() for p in model.parameters())


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [HEADER, ["---"] * len(HEADER), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Runs all models; exits with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--skip-timm", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ghn = ghn_init.load(ghn_init.DEFAULT)
    ghn_init.initialize(torchvision.models.resnet18(), ghn)  # what is loaded once is nobody's peak
    rows, failures = [], []
    for name, build in builders(args.skip_timm):
        if args.only and name.partition(":")[2] not in args.only:
            continue
        try:
            rows.append(measure(name, build, ghn, args.repeats))
            print("  ".join(rows[-1].cells()), flush=True)
        except Exception as error:  # reported at the end, with all others
            failures.append(f"{name}: {type(error).__name__}: {error}")
            print(failures[-1], flush=True)
    small = [row for row in rows if row.name.startswith("torchvision") and row.millions < 100]
    slowest = max(small, key=lambda row: row.total, default=rows[0])
    hungriest = max(rows, key=lambda row: row.extra_memory - row.largest)
    noise = [row.statistics for row in rows if row.batch_norms] or [0.0]
    summary = (
        f"{len(rows)} of {len(rows) + len(failures)} models initialised; median "
        f"{1000 * statistics.median(row.total for row in rows):.0f} ms; slowest torchvision model below 100 M parameters: "
        f"{slowest.total:.2f} s ({slowest.name}); running "
        f"statistics take {1000 * statistics.median(noise):.0f} ms more where there are batch norms (median of {len(noise)}); "
        f"extra peak memory beyond the largest parameter, that pass included: at most "
        f"{hungriest.extra_memory - hungriest.largest:.0f} MiB ({hungriest.name})."
    )
    machine = f"{args.threads} threads, {platform.machine()} CPU, torch {torch.__version__}, timm {timm.__version__}"
    print(summary, machine, *failures, sep="\n")
    if args.output:
        command = "python benchmarks/coverage.py -o docs/coverage.md"
        made = f"Made by `{command}` ({machine}, medians of {args.repeats} runs)."
        text = f"# Coverage and speed\n\n{made}\n\n{summary}\n\n{table(rows)}\n"
        args.output.write_text(text)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

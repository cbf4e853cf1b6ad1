"""Speed of `initialize` beside another version of the package, model by model, in one run.

    git worktree add ../before COMMIT
    python benchmarks/beside.py ../before/src [--only resnet50 vit_b_32] [--repeats 5] [--threads 2]

One process for each version; for each model they take turns, so that ratios hold while a machine's speed drifts. Models are
those of `coverage.py`; timed are tracing, and all of `initialize` (trace, graph distances, predict, write); medians of
`--repeats`. Prints the ratios this version / the other one, and their geometric mean.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from coverage import builders


def work() -> None:
    """Answers one line for each model name that it reads: seconds of tracing and of all."""
    import ghn_init

    ghn = ghn_init.load()
    makers: dict[str, Callable[[], nn.Module]] = dict(builders(skip_timm=False))
    name, model = "", None
    for line in sys.stdin:
        if line.strip() != name:
            name, model = line.strip(), None
            gc.collect()
            model = makers[name]()
        assert model is not None
        started = time.perf_counter()
        ghn_init.trace(model)
        traced = time.perf_counter() - started
        started = time.perf_counter()
        ghn_init.initialize(model, ghn, head=True)
        print(json.dumps([traced, time.perf_counter() - started]), flush=True)


class Version:
    """A version of the package in a process of its own."""

    def __init__(self, source: str, threads: int) -> None:
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, name: str) -> list[float]:
        """Seconds of tracing and of all for one model."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Prints a row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", nargs="?", help="the other version's folder that holds ghn_init")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work()
    if options.other is None:
        parser.error("name the other version's folder")
    own = str(Path(__file__).parent.parent / "src")
    versions = [Version(own, options.threads), Version(options.other, options.threads)]
    known = [name for name, _ in builders(skip_timm=False)]
    names = [name for name in known if not options.only or name.partition(":")[2] in options.only]
    ratios: list[tuple[float, float]] = []
    print(
        f"{options.threads} threads on an {platform.machine()} CPU, torch {torch.__version__}, medians of {options.repeats}\n"
    )
    print("| model | trace ms | before | ratio | all ms | before | ratio |\n" + "| --- " * 7 + "|", flush=True)
    for name in names:
        rounds = [[version.ask(name) for version in versions] for _ in range(options.repeats + 1)][1:]
        (trace, whole), (trace_before, whole_before) = (
            [statistics.median(turn[k][part] for turn in rounds) for part in (0, 1)] for k in (0, 1)
        )
        ratios.append((trace / trace_before, whole / whole_before))
        figures = [1e3 * trace, 1e3 * trace_before, ratios[-1][0], 1e3 * whole, 1e3 * whole_before, ratios[-1][1]]
        cells = [f"{value:.2f}" if k in (2, 5) else f"{value:.0f}" for k, value in enumerate(figures)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    traces, wholes = (statistics.geometric_mean(column) for column in zip(*ratios, strict=True))
    print(f"\n{len(ratios)} models, geometric means: tracing {traces:.3f}, all {wholes:.3f}")
    return None


if __name__ == "__main__":
    main()

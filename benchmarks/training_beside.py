"""Speed of meta-training beside another version of the package, in one run.

    git worktree add ../before COMMIT
    python benchmarks/training_beside.py ../before/src [--pool 48] [--batch-size 64] [--rounds 6]

One process of one thread for each version, both with the same networks (half DeepNets-1M's, half of families) and random
images; for each step they take turns. The first visits of the networks, which are traced and whose kernels are compiled, don't
count. Prints images per second of processor time, networks × images, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

META_BATCH = 8


def work(pool: int, batch_size: int, steps: int) -> None:
    """Takes a step for each line that it reads, and answers with its seconds of processor time."""
    import torch

    import ghn_init
    from ghn_init import families

    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (1000, 3, 32, 32), dtype=torch.uint8)
    images = ghn_init.Images.from_tensors(pixels, torch.arange(1000) % 10)
    sys.stdin.readline()
    begun = time.process_time()

    def on_step(progress: object) -> None:
        nonlocal begun
        print(json.dumps(time.process_time() - begun), flush=True)
        sys.stdin.readline()
        begun = time.process_time()

    with tempfile.TemporaryDirectory() as out:
        ghn_init.train(
            {"cifar10": images},
            out,
            architectures=families.mixed(pool),
            ghn=ghn_init.load(),
            on_step=on_step,  # type: ignore[arg-type]
            steps=steps,
            pool=pool,
            meta_batch=META_BATCH,
            batch_size=batch_size,
            budget=0.2 * batch_size / 64,
            least_examples=batch_size // 4,
        )


class Version:
    """A version of the package in a process of its own."""

    def __init__(self, source: str, arguments: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", __file__, source, *arguments, "--worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def step(self) -> float:
        """Seconds of processor time of the next one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        while not (line := self._process.stdout.readline()).startswith(tuple("0123456789")):
            if not line:
                raise SystemExit("a version has ended; see its words above")
        return json.loads(line)

    def end(self) -> None:
        """Kills it."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", help="the other version's src")
    parser.add_argument("--pool", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=6, help="visits of each network on average, of which half count")
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    steps = options.rounds * options.pool // META_BATCH
    if options.worker:
        work(options.pool, options.batch_size, steps)
        return
    arguments = [f"--pool={options.pool}", f"--batch-size={options.batch_size}", f"--rounds={options.rounds}"]
    versions = [Version(source, arguments) for source in (str(Path(__file__).parent.parent / "src"), options.other)]
    times = [[version.step() for version in versions] for _ in range(steps)][steps // 2 :]
    for version in versions:
        version.end()
    this, other = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"this version {META_BATCH / this:.2f}, the other {META_BATCH / other:.2f} networks of up to {options.batch_size} ",
        end="",
    )
    print(f"images per second of processor time: {other / this:.2f} × as fast (medians of {len(times)} steps)")


if __name__ == "__main__":
    main()

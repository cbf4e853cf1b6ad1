"""What `import ghn_init` costs over `import torch`, and what the first use of each room adds.

    python benchmarks/import_time.py [--repeats 15]

Each figure is the median over fresh processes, which take turns, so that ratios hold while a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys

STATEMENTS = {
    "import torch": "import torch",
    "import ghn_init": "import torch, ghn_init",
    "… and ghn_init.initialize": "import torch, ghn_init; ghn_init.initialize",
    "… and ghn_init.train": "import torch, ghn_init; ghn_init.train",
    "… and every public name": "import torch, ghn_init; [getattr(ghn_init, name) for name in ghn_init.__all__]",
}
TIMED = "import time; begun = time.perf_counter(); {}; print(time.perf_counter() - begun)"


def seconds(statement: str) -> float:
    """Of one run in a process of its own."""
    answer = subprocess.run([sys.executable, "-c", TIMED.format(statement)], capture_output=True, text=True, check=True)
    return float(answer.stdout)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for repeat in range(options.repeats + 1):
        for name, statement in STATEMENTS.items():
            found = seconds(statement)
            if repeat:  # the first round fills the disk's cache
                times[name].append(found)
    base = statistics.median(times["import torch"])
    print(f"{options.repeats} processes each on an {platform.machine()} CPU, Python {platform.python_version()}\n")
    print("| statement | seconds | over `import torch` |\n| --- | --- | --- |")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.3f} | {median - base:+.3f} |")


if __name__ == "__main__":
    main()

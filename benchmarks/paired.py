"""Two runs or two evaluations compared pair by pair: mean difference and its standard error.

    python benchmarks/paired.py A/log.csv B/log.csv     # learning curves of `train` that saw the same networks and images
    python benchmarks/paired.py A.json B.json           # files of `ghn-init evaluate`, over the networks that are in both

Of curves also the median seconds per step.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
from pathlib import Path

from ghn_init.evaluation.results import Evaluation


def accuracies(path: Path) -> dict[object, float]:
    """Step, or split and index, → accuracy in percent."""
    if path.suffix == ".json":
        return {(row.split, row.index): row.accuracy for row in Evaluation.read(path).results}
    return {row["step"]: 100 * float(row["accuracy"]) for row in rows(path)}


def rows(path: Path) -> list[dict[str, str]]:
    """Of a learning curve."""
    with path.open() as file:
        return list(csv.DictReader(file))


def seconds_per_step(path: Path) -> float:
    """Median over the steps; a run that was stopped for a while has a gap that a mean would count."""
    times = [float(row["seconds"]) for row in rows(path)]
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def main() -> None:
    """Prints one line, and one more for curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    options = parser.parse_args()
    first, second = accuracies(options.first), accuracies(options.second)
    both = [key for key in first if key in second]
    gaps = [second[key] - first[key] for key in both]
    error = statistics.stdev(gaps) / len(gaps) ** 0.5
    means = [statistics.fmean(side[key] for key in both) for side in (first, second)]
    gap = f"second - first {statistics.fmean(gaps):+.2f} ± {error:.2f}"
    print(f"{means[0]:.1f} and {means[1]:.1f} %, {gap} over {len(both)} pairs")
    if options.first.suffix != ".json":
        a, b = map(seconds_per_step, (options.first, options.second))
        print(f"{a:.2f} and {b:.2f} seconds per step, ratio {b / a:.2f}")


if __name__ == "__main__":
    main()

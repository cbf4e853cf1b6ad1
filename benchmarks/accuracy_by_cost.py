"""Whether costly networks are predicted worse: accuracies of an evaluation by what a training step of the network costs.

    python benchmarks/accuracy_by_cost.py docs/results/ghn2-small-500.json [--first 250] [--bounds 0.3 0.6 1.2]

Reads what `ghn-init evaluate --split test` wrote. Costs are those by which meta-training gives networks their number of images
(`ghn_init.prediction.cost`): seconds of one core for 64 images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from pathlib import Path

import torch

from ghn_init import deepnets
from ghn_init.prediction import cost
from ghn_init.tracing.trace import read_in_eval_mode


def seconds(index: int) -> float:
    """Of a network of the split `test`."""
    with torch.device("meta"):
        network = deepnets.network("test", index, 10, 32)
    return cost.seconds(read_in_eval_mode(network, torch.empty(2, 3, 32, 32)).record)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--first", type=int, default=250, help="networks")
    parser.add_argument("--bounds", type=float, nargs="+", default=[0.3, 0.6, 1.2], help="in seconds")
    options = parser.parse_args()
    rows = [row for row in json.loads(options.results.read_text())["results"] if row["split"] == "test"][: options.first]
    costs = [seconds(row["index"]) for row in rows]
    bounds = [0.0, *options.bounds, math.inf]
    print("| seconds | networks | accuracy, % |\n| --- | --- | --- |")
    for low, high in itertools.pairwise(bounds):
        found = [row["accuracy"] for row, taken in zip(rows, costs, strict=True) if low < taken <= high]
        error = f" ± {statistics.stdev(found) / math.sqrt(len(found)):.1f}" if len(found) > 1 else ""
        print(f"| {low:g}–{high:g} | {len(found)} | {statistics.fmean(found) if found else math.nan:.1f}{error} |")


if __name__ == "__main__":
    main()

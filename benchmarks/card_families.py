"""Accuracy of predicted parameters, without training, on members of families, none of which meta-training saw, for the card.

    python benchmarks/card_families.py CIFAR10 -o docs/results/ghn2-small-families.json [--ghn CHECKPOINT]

Eight members of the split `test` of each of four families, two of every other, two of every held-out family; 1,000 test images,
batch norms on batches of 64, bfloat16 where that is faster. What the file has is not done again; then it prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from itertools import count, islice
from pathlib import Path
from statistics import fmean, stdev

import torch

import ghn_init
from ghn_init import families
from ghn_init.evaluation.accuracy import accuracy
from ghn_init.families.registry import FAMILIES
from ghn_init.tasks import load_images

ASKED = ("vit", "convnext", "mobilenet-v3", "efficientnet")
MANY, FEW = 8, 2
IMAGES = 1_000


def members() -> list[tuple[str, int, str]]:
    """Split, index and family of each."""
    found = []
    for name, family in FAMILIES.items():
        split = "held-out" if family.held_out else "test"
        own = (k for k in count() if families.member(split, k).family == name)
        found += [(split, k, name) for k in islice(own, MANY if name in ASKED else FEW)]
    return found


def table(accuracies: dict[str, float]) -> str:
    """A row per family, those asked for first."""
    by_family = defaultdict(list)
    for split, k, name in members():
        if f"{split} {k}" in accuracies:
            by_family[name].append(accuracies[f"{split} {k}"])
    order = [*ASKED, *(name for name in by_family if name not in ASKED)]
    rows = ["| family | mean accuracy, % | standard error | networks |", "| --- | --- | --- | --- |"]
    asked = [fmean(by_family[name]) for name in ASKED if name in by_family]
    rows.append(f"| **these four** | {fmean(asked):.1f} | | {sum(len(by_family[name]) for name in ASKED)} |")
    for name in order:
        own = by_family.get(name, [])
        error = f"{stdev(own) / len(own) ** 0.5:.1f}" if len(own) > FEW else ""
        held = " (held out)" if FAMILIES[name].held_out else ""
        rows += [f"| {name}{held} | {fmean(own):.1f} | {error} | {len(own)} |"] if own else []
    return "\n".join(rows)


def main() -> None:
    """Measures what is left, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ghn = ghn_init.load(options.ghn)
    done = json.loads(options.out.read_text()) if options.out.exists() else {"weights": ghn.fingerprint, "accuracies": {}}
    if done["weights"] != ghn.fingerprint:
        parser.error(f"{options.out} is of other weights ({done['weights']}); remove it, or pass another file.")
    images = load_images(options.data, "test", like=load_images(options.data, "train"))
    images = ghn_init.Images.from_tensors(images.pixels[:IMAGES], images.labels[:IMAGES], like=images)
    for split, k, _ in members():
        if f"{split} {k}" not in done["accuracies"]:
            done["accuracies"][f"{split} {k}"] = accuracy(ghn, families.network(split, k), images, "cifar10", bf16=True)
            options.out.write_text(json.dumps(done, indent=1) + "\n")
    print(table(done["accuracies"]))


if __name__ == "__main__":
    main()

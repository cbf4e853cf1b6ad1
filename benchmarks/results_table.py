"""The tables and the picture of the bundled checkpoint's card, from the files of `ghn-init evaluate`.

python benchmarks/results_table.py docs/results/ghn2-cifar10-small*.json [--plot docs/results/ghn2-cifar10-small.png]

"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

from ghn_init import deepnets
from ghn_init.evaluation.results import PUBLISHED, Evaluation, picture

MEANINGS = {
    "test": "DeepNets-1M `test`, in distribution",
    "deep": "`deep`, 10–36 cells",
    "dense": "`dense`, 2–10 sums per cell",
    "wide": "`wide`, four times the channels",
    "bn-free": "`bn-free`, no norms",
    "resnet50": "ResNet-50 with a 3×3 stem",
    "vit": "ViT of 12 cells",
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    names = list(PUBLISHED)
    columns = ["architectures", "mean accuracy, %", "standard error", "best", "networks", "test images"]
    print("| " + " | ".join([*columns, *(f"published {name}" for name in names)]) + " |")
    print("| --- " * (len(columns) + len(names)) + "|")
    whole = Evaluation({})
    for path in options.files:
        found = Evaluation.resume(path, json.loads(path.read_text())["setting"])
        whole.results += found.results
        whole.sgd += found.sgd
        for split in found.splits:
            single = split == "predefined"
            groups = {deepnets.PREDEFINED[k]: [k] for k in sorted(found.done(split))} if single else {split: None}
            for name, indices in groups.items():
                values = found.accuracies(split, indices)
                spread = ["", ""] if single else [f"{values.standard_error:.1f}", f"{values.best:.1f}"]
                published = [f"{row[name]:.1f}" if name in row else "" for row in PUBLISHED.values()]
                images = f"{found.setting['images']:,}"
                cells = [MEANINGS[name], f"{values.mean:.1f}", *spread, str(len(values.values)), images, *published]
                print("| " + " | ".join(cells) + " |")
    if whole.sgd:
        print("\n| of `test`, the networks that are cheapest to train | mean accuracy, % | networks |\n| --- | --- | --- |")
        for steps in sorted({row.steps for row in whole.sgd}):
            rows = [row for row in whole.sgd if row.steps == steps]
            print(f"| trained by SGD for {steps:,} steps | {fmean(row.accuracy for row in rows):.1f} | {len(rows)} |")
        same = whole.accuracies("test", [row.index for row in whole.sgd])
        print(f"| predicted, not trained | {same.mean:.1f} | {len(same.values)} |")
    if options.plot:
        picture(whole, options.plot)


if __name__ == "__main__":
    main()

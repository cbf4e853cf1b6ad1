"""The tables and the picture of the bundled checkpoint's card, from the files of `ghn-init evaluate`.

python benchmarks/results_table.py docs/results/ghn2-small{,-500,-shifted}.json [--plot docs/results/ghn2-small.png]

"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ghn_init.evaluation.results import PUBLISHED_ACCURACIES, Evaluation
from ghn_init.viz import results

MEANINGS = {
    "test": "DeepNets-1M `test`, in distribution",
    "deep": "`deep`, 10–36 cells",
    "dense": "`dense`, 2–10 sums per cell",
    "wide": "`wide`, four times the channels",
    "bn-free": "`bn-free`, no norms",
    "resnet50": "ResNet-50 with a 3×3 stem",
    "vit": "ViT of 12 cells",
}


def on_other_images(files: Sequence[Evaluation]) -> str:
    """A line for each two files that have networks of `test` in common: the same networks on fewer and on more images."""
    lines = []
    for one, other in combinations(sorted(files, key=lambda each: int(each.setting["images"])), 2):
        places = [{row.index for row in each.results if row.split == "test"} for each in (one, other)]
        if both := sorted(places[0] & places[1]):
            means = [f"{each.accuracies('test', both).mean:.1f} % on {each.setting['images']:,}" for each in (one, other)]
            lines.append(f"\nThe {len(both)} networks of `test` in both: {means[0]}, {means[1]} images.")
    return "".join(lines)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    names = list(PUBLISHED_ACCURACIES)
    columns = ["architectures", "mean accuracy, %", "standard error", "best", "networks", "test images"]
    print("| " + " | ".join([*columns, *(f"published {name}" for name in names)]) + " |")
    print("| --- " * (len(columns) + len(names)) + "|")
    whole, files = Evaluation({}), [Evaluation.read(path) for path in options.files]
    for found in files:
        drawn = {(row.split, row.index) for row in whole.results}
        whole.results += [row for row in found.results if (row.split, row.index) not in drawn]  # on other images
        whole.sgd += found.sgd
        for name, values in found.groups.items():
            single = len(values.values) == 1
            spread = ["", ""] if single else [f"{values.standard_error:.1f}", f"{values.best:.1f}"]
            published = [f"{row[name]:.1f}" if name in row else "" for row in PUBLISHED_ACCURACIES.values()]
            images = f"{found.setting['images']:,}"
            cells = [MEANINGS[name], f"{values.mean:.1f}", *spread, str(len(values.values)), images, *published]
            print("| " + " | ".join(cells) + " |")
    print(on_other_images(files))
    if whole.sgd:
        print("\n| of `test`, the networks that are cheapest to train | mean accuracy, % | networks |\n| --- | --- | --- |")
        for (_, steps), (values, _) in sorted(whole.trained.items()):
            print(f"| trained by SGD for {steps:,} steps | {values.mean:.1f} | {len(values.values)} |")
        same = whole.accuracies("test", [row.index for row in whole.sgd])
        print(f"| predicted, not trained | {same.mean:.1f} | {len(same.values)} |")
    if options.plot:
        results.draw(whole, options.plot)


if __name__ == "__main__":
    main()

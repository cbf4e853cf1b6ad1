"""README's picture: accuracy while fine-tuning on photographs that no hypernetwork saw, from default and predicted parameters.

    python benchmarks/curves.py PHOTOGRAPHS -o docs/results/curves.csv [--networks deepnets-0 efficientnet …]
    python benchmarks/curves.py --draw docs/results/curves.csv docs/results/curves.png

Networks, images and training are those of `benchmarks/transfer.py`, 200 steps of 32; the rate of each init is chosen as
there, on a fifth of the training images with a seed that doesn't count. Accuracy on 500 test images, batch norms recalibrated
before each look. Rows that the file has are not made again.
"""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

import ghn_init
import transfer
from ghn_init.tasks import Images
from ghn_init.viz.style import COLOURS, figure, finish

NETWORKS = ("deepnets-0", "efficientnet", "ghostnet", "vit")
TITLES = {
    "deepnets-0": "DeepNets-1M, test",
    "efficientnet": "EfficientNet",
    "ghostnet": "GhostNet (family held out)",
    "vit": "ViT",
}
"""In the picture."""
NAMES = {
    "deepnets-0": "a network of random cells (DeepNets-1M `test`)",
    "efficientnet": "a small EfficientNet",
    "ghostnet": "a small GhostNet, of a family that meta-training never saw",
    "vit": "a small ViT",
}
"""In the table."""
INITS = ("default", "predicted")
LOOKS = (0, 25, 50, 100, 150, 200)
SEEDS = 3
TEST_IMAGES = 500
COLUMNS = ("network", "init", "rate", "seed", "step", "accuracy")


def curve(
    name: str, init: str, rate: float, seed: int, data: tuple[Images, Tensor], judge: tuple[Images, Tensor]
) -> list[float]:
    """Accuracy in percent at each look; the last one again where training diverged."""
    torch.manual_seed(seed)
    images, rows = data
    model = transfer.network(name, images.num_classes, images.pixels.shape[2])
    if init == "predicted":
        ghn_init.initialize(model, None, torch.zeros(2, 3, *images.pixels.shape[2:]), head=False, seed=seed)
    model.to(memory_format=torch.channels_last)
    found = []

    def look(step: int) -> None:
        if step in LOOKS:
            ghn_init.recalibrate_batchnorm(model, itertools.islice(transfer.batches(images, rows, seed), 10))
            found.append(transfer.tested(model, *judge))
            model.train()

    transfer.train(model, images, rows, rate, seed, bf16=False, on_step=look)
    return found + [found[-1]] * (len(LOOKS) - len(found))


def run(options: argparse.Namespace) -> None:
    """Appends what the file lacks."""
    torch.set_num_threads(1)
    train, test = transfer.read(options.data)
    order = transfer.training_rows(train)
    fifth = len(order) // 5
    judge = test, torch.arange(TEST_IMAGES)
    there = set()
    if options.out.exists():
        with options.out.open() as file:
            there = {(row["network"], row["init"]) for row in csv.DictReader(file)}
    for name, init in itertools.product(options.networks, INITS):
        if (name, init) in there:
            continue
        tuning = (train, order[fifth:]), (train, order[:fifth])
        measured = functools.cache(lambda rate: curve(name, init, rate, transfer.TUNING_SEED, *tuning)[-1])  # noqa: B023
        rate = transfer.highest(transfer.RATES, measured)
        new = not options.out.exists()
        made = [(seed, curve(name, init, rate, seed, (train, order), judge)) for seed in range(SEEDS)]
        with options.out.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            for seed, values in made:
                for step, value in zip(LOOKS, values, strict=True):
                    writer.writerow([name, init, rate, seed, step, f"{value:.2f}"])
        print(name, init, rate, [round(values[-1], 1) for _, values in made], flush=True)


def read(source: Path) -> dict[tuple[str, str, int], list[float]]:
    """Network, init and step → accuracies in percent, one for each seed."""
    values = defaultdict(list)
    with source.open() as file:
        for row in csv.DictReader(file):
            values[row["network"], row["init"], int(row["step"])].append(float(row["accuracy"]))
    return values


def draw(source: Path, path: Path) -> None:
    """A panel per network: means over the seeds, and their standard errors."""
    values = read(source)
    names = [name for name in NETWORKS if (name, INITS[0], 0) in values]
    made, panels = figure(2.6 * len(names), 2.8, panels=len(names), sharey=True)
    for axes, name in zip(panels, names, strict=True):
        for init, colour in zip(INITS, COLOURS, strict=False):
            own = [values[name, init, step] for step in LOOKS]
            means = [fmean(one) for one in own]
            errors = [stdev(one) / len(one) ** 0.5 for one in own]
            axes.errorbar(LOOKS, means, yerr=errors, color=colour, marker="o", markersize=3, linewidth=1.2, label=init)
        axes.set(title=TITLES[name], xlabel="steps of 32 photographs")
    panels[0].set_ylabel("test accuracy, %")
    panels[0].legend(frameon=False, fontsize="small")
    finish(made, panels, path)


def table(source: Path) -> str:
    """README's: accuracies at the end from both inits, and how far predicted ones are ahead there and at a quarter."""
    values = read(source)
    lines = [f"| network | default, % | predicted, % | gain | after {LOOKS[2]} steps |", "| --- " * 5 + "|"]
    for name in NETWORKS:
        if (name, INITS[0], 0) in values:
            ends = [told(values[name, init, LOOKS[-1]]) for init in INITS]
            gaps = [
                [b - a for a, b in zip(*(values[name, init, step] for init in INITS), strict=True)]
                for step in (LOOKS[-1], LOOKS[2])
            ]
            gain, early = (told(gap, "+") for gap in gaps)
            lines.append("| " + " | ".join([NAMES[name], *ends, "**{}** {} {}".format(*gain.split()), early]) + " |")
    return "\n".join(lines)


def told(values: list[float], sign: str = "") -> str:
    """Mean and standard error."""
    return f"{fmean(values):{sign}.1f} ± {stdev(values) / len(values) ** 0.5:.1f}"


def main() -> None:
    """Runs, or draws and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--networks", nargs="+", choices=transfer.NETWORKS, default=list(NETWORKS))
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("CSV", "PICTURE"))
    options = parser.parse_args()
    if options.draw:
        draw(*options.draw)
        print(table(options.draw[0]))
    elif options.data and options.out:
        run(options)
    else:
        parser.error("pass a data set and --out, or --draw")


if __name__ == "__main__":
    main()

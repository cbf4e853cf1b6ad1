"""Learning rates and warm-ups for heads fitted in closed form, against random heads, on photographs.

    python benchmarks/fitted_heads.py DATA [DATA …] -o RESULTS.csv [--networks families:test:1 deepnets:test:0] [--seeds 2]
        [--rates 0.005 0.02 0.08 0.3] [--warmups 0 0.3] [--inits default predicted] [--heads random fitted]
    python benchmarks/fitted_heads.py --table RESULTS.csv

DATA is a folder or hub data set as `ghn-init train` takes it. For each data set, network, seed, init (the network's own, or
predicted) and head (random, or fitted by `ghn_init.fit_head_`), every peak rate is tried with every warm-up (a share of steps
during which the rate rises from zero; it then falls along a cosine). SGD with momentum 0.9, batches of 32, flips and shifts,
gradient norms clipped at 5. The accuracy on test images is measured before the first step, on the way, and at the end. A row is
written after each run; the same command goes on where it was stopped, with the same weights, steps and images. Rates are
compared on the test images, so that the best of several is optimistic, for all alike.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
import transfer
from ghn_init import deepnets, families
from ghn_init.models import spec
from ghn_init.tasks import Images, load_images

MARKS = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Shares of the steps after which a run is tested."""
BATCH, DECAY, CLIP = 32, 5e-4, 5.0


class Cell(NamedTuple):
    """One run."""

    data: str
    network: str
    seed: int
    init: str
    head: str
    rate: float
    warmup: float
    steps: int
    images: int
    weights: str


def build(name: str, classes: int, size: int, seed: int) -> nn.Module:
    """`families:SPLIT:INDEX`, `deepnets:SPLIT:INDEX`, or as `ghn-init init` takes it; its random values depend on the seed."""
    torch.manual_seed(seed)
    kind, _, rest = name.partition(":")
    split, _, index = rest.partition(":")
    if kind == "families":
        return families.member(split, int(index)).module(classes, size)
    if kind == "deepnets":
        return deepnets.network(split, int(index), classes, size)
    return spec.build(name, classes)


class Loader:
    """All images, in order: (images, labels), or images alone."""

    def __init__(self, images: Images, labelled: bool = True) -> None:
        self.images, self.labelled = images, labelled

    def __iter__(self) -> Iterator[object]:
        for pixels, labels in zip(self.images.pixels.split(100), self.images.labels.split(100), strict=True):
            x = self.images.normalise(pixels)
            yield (x, labels) if self.labelled else x


def start(cell: Cell, train: Images) -> tuple[nn.Module, float | None]:
    """The network as it is before the first step, and the leave-one-out accuracy where its head is fitted."""
    model = build(cell.network, train.num_classes, train.pixels.shape[2], cell.seed)
    example = torch.zeros(2, *train.pixels.shape[1:])
    if cell.init == "predicted":
        ghn_init.initialize(model, example_inputs=example, head=False, seed=cell.seed)
    if cell.head == "fitted":
        return model, ghn_init.fit_head_(model, Loader(train)).accuracy
    return ghn_init.recalibrate_batchnorm(model, Loader(train, labelled=False)), None


def rate_at(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate: linear up, then a cosine down to zero."""
    up = round(warmup * steps)
    if step < up:
        return (step + 1) / up
    return (1 + math.cos(math.pi * (step - up) / max(steps - up, 1))) / 2


def trained(model: nn.Module, train: Images, test: Images, cell: Cell, steps: int) -> list[float]:
    """Accuracies at the marks, in percent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cell.rate * rate_at(step, steps, cell.warmup))
    marks = [round(share * steps) for share in MARKS]
    accuracies = {0: accuracy(model, test)}
    for step in range(steps):
        model.train()
        pixels, labels = train.batch(step, BATCH, cell.seed)
        optimizer.zero_grad()
        F.cross_entropy(model(pixels), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        if step + 1 in marks:
            accuracies[step + 1] = accuracy(model, test)
    return [accuracies[mark] for mark in marks]


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    """Of the running statistics, in percent."""
    model.eval()
    right = 0
    for pixels, labels in zip(test.pixels.split(250), test.labels.split(250), strict=True):
        logits: Tensor = model(test.normalise(pixels))
        right += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
    return 100 * right / len(test.labels)


def read(data: str, images: int, test_images: int) -> tuple[Images, Images]:
    """The first so many of both splits."""
    train = load_images(data, "train", image_size=transfer.SIDE)
    test = load_images(data, "test", like=train)
    known = Images.from_tensors(train.pixels[:images], train.labels[:images], classes=train.classes)
    return known, Images.from_tensors(test.pixels[:test_images], test.labels[:test_images], like=known)


COLUMNS = [*Cell._fields, "leave_one_out", *(f"at_{share:g}" for share in MARKS), "seconds"]


def run(args: argparse.Namespace) -> None:
    """All cells that the file lacks."""
    found = rows(args.output) if args.output.exists() else []
    done = {tuple(row[name] for name in Cell._fields) for row in found}
    fingerprint = ghn_init.load().fingerprint
    sets: dict[str, tuple[Images, Images]] = {}
    with args.output.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        grid = itertools.product(range(args.seeds), args.networks, args.data, args.rates, args.warmups, args.heads, args.inits)
        for seed, network, data, rate, warmup, head, init in grid:
            weights = fingerprint if init == "predicted" else ""
            cell = Cell(Path(data).name, network, seed, init, head, rate, warmup, args.steps, args.images, weights)
            if tuple(map(str, cell)) in done:
                continue
            if data not in sets:
                sets[data] = read(data, args.images, args.test_images)
            started = time.process_time()
            model, left_out = start(cell, sets[data][0])
            accuracies = trained(model, *sets[data], cell, args.steps)
            seconds = time.process_time() - started
            figures = dict(zip(COLUMNS[len(Cell._fields) + 1 : -1], (f"{value:.2f}" for value in accuracies), strict=True))
            shown = "" if left_out is None else f"{left_out:.2f}"
            writer.writerow({**cell._asdict(), "leave_one_out": shown, **figures, "seconds": f"{seconds:.1f}"})
            file.flush()
            print(*cell, shown, *figures.values(), flush=True)


def rows(path: Path) -> list[dict[str, str]]:
    """Of the results."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(found: list[dict[str, str]]) -> str:
    """Final accuracies: a row per data set, network, init and head, a column per rate and warm-up; means over seeds."""
    settings = sorted({(float(row["rate"]), float(row["warmup"])) for row in found})
    lines = ["| data | network | init | head | before | " + " | ".join(f"{r:g}, {w:g}" for r, w in settings) + " |"]
    lines += ["| " + " | ".join(["---"] * (5 + len(settings))) + " |"]
    for key in dict.fromkeys(tuple(row[name] for name in ("data", "network", "init", "head")) for row in found):
        own = [row for row in found if tuple(row[name] for name in ("data", "network", "init", "head")) == key]
        cells = {
            setting: [float(row["at_1"]) for row in own if (float(row["rate"]), float(row["warmup"])) == setting]
            for setting in settings
        }
        best = max(statistics.fmean(values) for values in cells.values() if values)
        before = statistics.fmean(float(row["at_0"]) for row in own)
        shown = [said(cells[setting], best) for setting in settings]
        lines.append("| " + " | ".join([*key, f"{before:.1f}", *shown]) + " |")
    return "\n".join(lines)


def said(values: list[float], best: float) -> str:
    """`61.2 ± 0.4`, mean and standard error over seeds; the best of a row is bold."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.1f}" if len(values) > 1 else ""
    return f"**{mean:.1f}**{error}" if mean == best else f"{mean:.1f}{error}"


def main() -> None:
    """Runs, or prints the table of what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--networks", nargs="+", default=["families:test:1", "families:test:7", "deepnets:test:0"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.005, 0.02, 0.08, 0.3])
    parser.add_argument("--warmups", type=float, nargs="+", default=[0.0, 0.3])
    parser.add_argument("--inits", nargs="+", default=["default", "predicted"])
    parser.add_argument("--heads", nargs="+", default=["random", "fitted"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--test-images", type=int, default=1000)
    args = parser.parse_args()
    if args.table is not None:
        print(table(rows(args.table)))
    elif args.data and args.output is not None:
        torch.set_num_threads(1)
        run(args)
    else:
        parser.error("pass DATA and -o RESULTS.csv, or --table RESULTS.csv")


if __name__ == "__main__":
    main()

"""What predicted parameters are worth to people with a few photographs: few-step fine-tuning on data that no hypernetwork saw.

    python benchmarks/transfer.py INTEL FLOWERS DTD -o OUT [--ghn NAME-OR-FOLDER …] [--variants conditioned …] [--workers 2]
    python benchmarks/transfer.py INTEL FLOWERS DTD -o OUT --only-table --picture docs/results/transfer.png

Data sets are folders or hub names as `ghn-init train` takes them; images are resized to 32 px. 12 networks (4 of DeepNets-1M
`test`, 4 members of families that predictions used to harm, 4 of held-out families) × {default, orthogonal, each hypernetwork,
its variants}: 200 steps of SGD (momentum 0.9, one cycle, batches of 32, flips, gradient norm clipped at 5) on at most 2,000
images. The head is random for all, but for the variant `fitted`. For each init the rate is chosen on a fifth of the training
images after training on the rest, with a seed that does not count: two in the middle, and others as long as the best is at an
end of those tried. Then it is trained on all of them with each seed, and tested on at most 1,000 images. Before each test batch
norms are recalibrated on training images: some networks' running statistics (momentum 0.01) are still those of their start
after 200 steps.

OUT holds a file per data set, network and init, written after each run: interrupted, the same command goes on, and a
hypernetwork that is added later races against the runs that are there. Runs of other weights under the same name are refused.
Files note their runs' precision: bfloat16 where that was faster, else float32; where the machine can, the same for all inits
of a network.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ghn_init
from ghn_init import deepnets, families
from ghn_init.prediction.precision import bfloat16_pays, mixed_precision
from ghn_init.saving import save_json
from ghn_init.tasks import Images, load_images
from ghn_init.trials.starts import orthogonal_, vectors_of

RATES = (0.005, 0.015, 0.05, 0.15, 0.45)
STEPS, BATCH, CLIP = 200, 32, 5.0
TRAIN_IMAGES, TEST_IMAGES = 2_000, 1_000
SIDE = 32
"""Of images, in pixels: others are resized."""
TUNING_SEED = 10_000
RIVALS = ("default", "orthogonal")
VARIANTS = {
    "conditioned": ghn_init.Conditioning("orthogonal+noise"),
    "conditioned-weights": ghn_init.Conditioning("orthogonal+noise", vectors=False),
    "weights": None,
}
"""Of predictions: made orthogonal; likewise, without biases and norms, which keep the model's own values; as they are, without
these."""
FITTED = "+fitted"
"""At the end of an init's name: with a head that is fitted to the training images."""

NETWORKS = {
    **{f"deepnets-{k}": ("deepnets", k) for k in range(4)},
    "mobilenet-v3": ("test", 6),
    "efficientnet": ("test", 7),
    "convnext": ("test", 10),
    "vit": ("test", 11),
    "ghostnet": ("held-out", 0),
    "gmlp": ("held-out", 2),
    "cait": ("held-out", 3),
    "edgenext": ("held-out", 7),
}
"""Name → split and index."""


@dataclass(frozen=True)
class Job:
    """A network on a data set from one init, all rates and seeds; `ghn` is None for the model's own and classical ones."""

    data: str
    network: str
    init: str
    ghn: str | None
    variant: str
    seeds: Iterable[int]
    rates: tuple[float, ...]
    out: Path
    bf16: bool

    @property
    def file(self) -> Path:
        """Of its runs."""
        return self.beside(self.init)

    def beside(self, init: str) -> Path:
        """The file of another init on the same data."""
        return self.out / f"{Path(self.data).name}~{self.network}~{init}.json"

    def precision(self) -> bool:
        """Whether it trains in bfloat16: as the network's own init did, if the machine can."""
        own = self.beside(RIVALS[0])
        return (json.loads(own.read_text())["bf16"] if own.exists() else self.bf16) and bfloat16_pays()


def network(name: str, classes: int, side: int) -> nn.Module:
    """A network with an init of its own constructor's, drawn from torch's random state."""
    split, index = NETWORKS[name]
    if split == "deepnets":
        return deepnets.network("test", index, classes, side)
    return families.member(split, index).module(classes, side)


def write(model: nn.Module, job: Job, seed: int, contents: list[tuple[Tensor, Tensor]]) -> None:
    """The init, but for the head, which stays the model's own or is fitted to the training images."""
    inputs = contents[0][0][:2]
    if job.init.removesuffix(FITTED) == "orthogonal":  # weights that would be predicted, as `choose` has it
        orthogonal_(ghn_init.predict(model, None, inputs, head=False, seed=seed))
    elif job.ghn is not None:
        vectors: list[str] = []
        if job.variant == "weights":
            vectors = vectors_of(ghn_init.predict(model, job.ghn, inputs, head=False))
        condition = VARIANTS.get(job.variant) or "auto"
        ghn_init.initialize(model, job.ghn, inputs, head=False, seed=seed, condition=condition, exclude=vectors)
    if job.init.endswith(FITTED):
        ghn_init.fit_head_(model, contents)


def train(
    model: nn.Module,
    images: Images,
    rows: Tensor,
    rate: float,
    seed: int,
    bf16: bool,
    steps: int = STEPS,
    on_step: Callable[[int], None] = lambda step: None,
) -> None:
    """SGD with one cycle of the rate; `on_step` is told how many steps were taken, from 0 on."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, cycle_momentum=False)
    model.train()
    on_step(0)
    for step, (pixels, labels) in enumerate(itertools.islice(batches(images, rows, seed), steps), 1):
        with mixed_precision(pixels.device, bf16):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), labels)
        if torch.isfinite(loss):
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
        on_step(step)
        if not torch.isfinite(loss):
            return


def batches(images: Images, rows: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Without end, shuffled, half of the images mirrored; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for part in rows[torch.randperm(len(rows), generator=generator)].split(BATCH):
            if len(part) == BATCH:
                pixels = images.pixels[part]
                mirrored = torch.rand(len(part), generator=generator) < 0.5
                pixels[mirrored] = pixels[mirrored].flip(3)
                yield images.normalise(pixels), images.labels[part]


def loader(images: Images, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Images as they are trained on, but for mirroring."""
    return [(images.normalise(images.pixels[part]), images.labels[part]) for part in rows.split(64)]


@torch.inference_mode()
def tested(model: nn.Module, images: Images, rows: Tensor) -> float:
    """Accuracy in percent."""
    model.eval()
    right = 0
    for part in rows.split(128):
        logits = model(images.normalise(images.pixels[part]))
        right += int(((logits.argmax(1) == images.labels[part]) & logits.isfinite().all(1)).sum())
    return 100 * right / len(rows)


def accuracy(job: Job, rate: float, seed: int, data: tuple[Images, Tensor], judge: tuple[Images, Tensor], bf16: bool) -> float:
    """Of one run."""
    torch.manual_seed(seed)
    images, rows = data
    model = network(job.network, images.num_classes, images.pixels.shape[2])
    write(model, job, seed, loader(images, rows))
    model.to(memory_format=torch.channels_last)
    train(model, images, rows, rate, seed, bf16)
    ghn_init.recalibrate_batchnorm(model, itertools.islice(batches(images, rows, seed), 20))
    return tested(model, *judge)


def highest(rates: tuple[float, ...], measured: Callable[[float], float]) -> float:
    """The best rate among those in the middle and, as long as the best is at their end, the next one beyond."""
    first = max(len(rates) // 2 - 1, 0)
    tried = range(first, min(first + 2, len(rates)))
    while True:
        best = max(tried, key=lambda k: measured(rates[k]))
        wider = range(max(tried.start - (best == tried.start), 0), min(tried.stop + (best == tried.stop - 1), len(rates)))
        if wider == tried:
            return rates[best]
        tried = wider


def run(job: Job) -> Path:
    """Does what is left of a job."""
    torch.set_num_threads(1)
    weights = ghn_init.load(job.ghn).fingerprint if job.ghn else None
    fresh: dict[str, Any] = {"init": job.init, "weights": weights, "bf16": job.precision(), "tuning": {}, "test": {}}
    done = json.loads(job.file.read_text()) if job.file.exists() else fresh
    if done.get("weights") != weights:
        raise SystemExit(f"{job.file} is of other weights than {job.ghn}; pass another folder.")
    train_images, test_images = read(job.data)
    order = training_rows(train_images)
    test_rows = torch.arange(min(TEST_IMAGES, len(test_images.labels)))
    fifth = len(order) // 5

    def trained(rate: float, seed: int, data: tuple[Images, Tensor], judge: tuple[Images, Tensor]) -> float:
        if done["bf16"] and not bfloat16_pays():
            raise SystemExit(f"{job.file} was begun in bfloat16, which this machine is slow in; delete it to begin anew.")
        return accuracy(job, rate, seed, data, judge, done["bf16"])

    def measured(rate: float) -> float:
        if str(rate) not in done["tuning"]:
            done["tuning"][str(rate)] = trained(rate, TUNING_SEED, (train_images, order[fifth:]), (train_images, order[:fifth]))
            save_json(job.file, done)
        return done["tuning"][str(rate)]

    best = highest(job.rates, measured)
    for seed in map(str, job.seeds):
        if done["test"].get(seed, {}).get("rate") != best:
            right = trained(best, int(seed), (train_images, order), (test_images, test_rows))
            done["test"][seed] = {"rate": best, "accuracy": right}
            save_json(job.file, done)
    return job.file


@lru_cache(maxsize=1)
def read(data: str) -> tuple[Images, Images]:
    """Training and test images, both normalised by the former's statistics."""
    images = load_images(data, "train", image_size=SIDE)
    return images, load_images(data, "test", like=images)


def training_rows(images: Images) -> Tensor:
    """Those that fine-tuning sees."""
    return torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))[:TRAIN_IMAGES]


@dataclass(frozen=True)
class Cell:
    """A network on a data set: accuracies in percent by init and seed, the rates that were chosen, and whether in bfloat16."""

    data: str
    network: str
    accuracies: dict[str, list[float]]
    rates: dict[str, float]
    bf16: dict[str, bool]

    def mean(self, init: str) -> float:
        """Over the seeds."""
        return statistics.fmean(self.accuracies[init])

    def gain(self, init: str) -> tuple[float, float]:
        """Points above the better of the rivals, and the standard error of the difference."""
        rival = max(RIVALS, key=self.mean)
        gaps = [a - b for a, b in zip(self.accuracies[init], self.accuracies[rival], strict=True)]
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
        return statistics.fmean(gaps), error


def cells(out: Path, data: list[str], seeds: int, inits: Iterable[str]) -> list[Cell]:
    """Those of which all rivals are there; other programs' runs from other inits may be there too."""
    found = []
    for name, net in itertools.product((Path(d).name for d in data), NETWORKS):
        accuracies, rates, bf16 = {}, {}, {}
        for init in inits:
            path = out / f"{name}~{net}~{init}.json"
            runs = json.loads(path.read_text()) if path.exists() else {"test": {}}
            if all(str(seed) in runs["test"] for seed in range(seeds)):
                accuracies[init] = [runs["test"][str(seed)]["accuracy"] for seed in range(seeds)]
                rates[init] = runs["test"]["0"]["rate"]
                bf16[init] = runs["bf16"]
        if all(rival in accuracies for rival in RIVALS):
            found.append(Cell(name, net, accuracies, rates, bf16))
    return found


def table(found: list[Cell]) -> str:
    """A row per cell and init; then what each hypernetwork gains in all."""
    inits = list(dict.fromkeys(init for cell in found for init in cell.accuracies))
    ghns = [init for init in inits if init not in RIVALS]
    inits = [*RIVALS, *ghns]
    lines = ["| data | network | " + " | ".join([*inits, *(f"gain of {g}" for g in ghns)]) + " |"]
    lines.append("| --- " * (len(inits) + len(ghns) + 2) + "|")
    for cell in found:
        values = [f"{cell.mean(i):.1f} ({cell.rates[i]:g})" if i in cell.accuracies else "–" for i in inits]
        gains = ["{:+.1f} ± {:.1f}".format(*cell.gain(g)) if g in cell.accuracies else "–" for g in ghns]
        lines.append("| " + " | ".join([cell.data, cell.network, *values, *gains]) + " |")
    return "\n".join(lines) + "\n\n" + "\n".join(summary(found, g) for g in ghns)


def summary(found: list[Cell], ghn: str) -> str:
    """Mean gain, its standard error over the networks (each one's mean over the data sets), and how many cells lose."""
    groups: dict[str, Callable[[Cell], bool]] = {
        "all": lambda cell: True,
        "DeepNets-1M": lambda cell: NETWORKS[cell.network][0] == "deepnets",
        "families of the training": lambda cell: NETWORKS[cell.network][0] == "test",
        "held-out families": lambda cell: NETWORKS[cell.network][0] == "held-out",
    }
    parts = []
    for name, within in groups.items():
        gains: dict[str, list[float]] = {}
        for cell in found:
            if within(cell) and ghn in cell.accuracies:
                gains.setdefault(cell.network, []).append(cell.gain(ghn)[0])
        if gains:
            means, each = [statistics.fmean(own) for own in gains.values()], [gain for own in gains.values() for gain in own]
            error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
            lost = sum(gain < -1 for gain in each)
            parts.append(f"{name} {statistics.fmean(each):+.1f} ± {error:.1f} ({lost} of {len(each)} lose more than a point)")
    return f"{ghn}: " + "; ".join(parts) + "."


def precisions(found: list[Cell]) -> str:
    """Which cells ran in which."""
    names = {bf16: {cell.data for cell in found if bf16 in cell.bf16.values()} for bf16 in (False, True)}
    told = {False: "float32", True: "bfloat16 where that is faster"}
    return "; ".join(f"{', '.join(sorted(data))} in {told[bf16]}" for bf16, data in names.items() if data) + "."


def draw(found: list[Cell], path: Path) -> None:
    """Gain of each hypernetwork per network, a panel per data set."""
    import matplotlib.pyplot as plt

    data = list(dict.fromkeys(cell.data for cell in found))
    ghns = list(dict.fromkeys(init for cell in found for init in cell.accuracies if init not in RIVALS))
    figure, panels = plt.subplots(1, len(data), figsize=(4 * len(data) + 1, 4), sharex=True, sharey=True, squeeze=False)
    for panel, name in zip(panels[0], data, strict=True):
        own = [cell for cell in found if cell.data == name]
        for k, ghn in enumerate(ghns):
            points = [(row, *cell.gain(ghn)) for row, cell in enumerate(own) if ghn in cell.accuracies]
            rows, gains, errors = zip(*points, strict=True) if points else ((), (), ())
            offset = 0.2 * (k - (len(ghns) - 1) / 2)
            panel.errorbar(gains, [row + offset for row in rows], xerr=errors, fmt="o", markersize=4, label=ghn)
        panel.axvline(0, color="0.6", linewidth=1)
        panel.set_yticks(range(len(own)), [cell.network for cell in own])
        panel.set_title(name)
        panel.set_xlabel("points above the better random init")
    panels[0][0].invert_yaxis()
    if len(ghns) > 1:
        panels[0][-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Runs what is left; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--ghn", nargs="*", default=["ghn2-small"], help="what ghn_init.load takes; NAME=FOLDER names it")
    parser.add_argument(
        "--variants", nargs="*", choices=[*VARIANTS, FITTED[1:]], default=[], help="of each hypernetwork's predictions too"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="train in bfloat16 where it is faster"
    )
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    base = Job("", "", "", None, "", range(options.seeds), tuple(options.rates), options.out, options.bf16)
    inits: dict[str, tuple[str | None, str]] = dict.fromkeys(RIVALS, (None, ""))
    for ghn in options.ghn:
        name, equals, source = ghn.partition("=")
        which = source if equals else ghn
        inits[Path(name).name] = (which, "")
        inits |= {f"{Path(name).name}+{variant}": (which, variant) for variant in options.variants}
    jobs = [
        replace(base, data=data, network=net, init=init, ghn=ghn, variant=variant)
        for data, (init, (ghn, variant)), net in itertools.product(options.data, inits.items(), options.networks)
    ]
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for path in pool.map(run, jobs):
                print(path.stem, flush=True)
    found = cells(options.out, options.data, options.seeds, inits)
    asked = ["--ghn", *options.ghn, *(["--variants", *options.variants] if options.variants else [])]
    command = f"`python benchmarks/transfer.py {' '.join(Path(d).name for d in options.data)} -o OUT {' '.join(asked)}`"
    note = (
        f"{command}: accuracy in percent, mean of {options.seeds} seeds, in brackets the rate that was chosen from "
        f"{list(options.rates)}; gain over the better of {' and '.join(RIVALS)}, ± standard error over the seeds, in "
        f"the summary over the networks. One thread of an {platform.machine()} CPU per run, torch "
        f"{torch.__version__.split('+')[0]}."
    )
    text = f"{note} {precisions(found)}\n\n{table(found)}\n"
    print(text)
    if options.table:
        options.table.write_text("# Transfer\n\n" + text)
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()

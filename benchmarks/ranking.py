"""How well few steps from predicted weights rank networks whose accuracy after full training is published; beside rivals.

    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space nasbench201 --truth cifar10_test [--count 200] [--workers 2]
    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space macro --truth cifar10_test_mean --table FILE --picture FILE

IMAGES is CIFAR-10 as `ghn-init train` takes it; TRUTH has a column `arch` and one of accuracies in percent. `--count` networks
are drawn at random with `--seed`, and `--best` of the best among 10 times as many, which are a space of their own.

Scores of each network, all on the same images: parameters; multiply-accumulates; synflow, NASWOT, jacov, ZiCo (`zero_cost.py`);
accuracy after 0, 25, 50, 100 steps from predicted weights, with a random and with a fitted head, and after 50, 100 from default
init, which has a rate of its own (with `--long` after 400 too). `rank` is what `ghn_init.rank` would have found: the order of
two rungs, 50 and 100 steps.

OUT has a file per network, written after each score: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau
from torch import nn

import ghn_init
from ghn_init.models.batches import Inputs
from ghn_init.ranking.calibration import calibrate
from ghn_init.ranking.defaults import From
from ghn_init.ranking.measure import FITTED_IMAGES, Look, Settings, judge, look
from ghn_init.saving import save_json
from ghn_init.tasks import load_images
from ghn_init.trials.halving import one_by_one, order, successive_halving
from ghn_init.trials.pool import Pool, seeded
from nasbench import SPACES
from zero_cost import SCORES

STEPS: dict[From, tuple[int, ...]] = {"predicted": (0, 25, 50, 100), "predicted+fitted": (0, 50), "default": (50, 100)}
LONG = 400
RATES: dict[From, float] = {"predicted": 0.02, "predicted+fitted": 0.02, "default": 0.05}
BATCH, VAL_IMAGES, ZERO_COST_BATCHES = 32, 1000, 2
RUNGS = (50, 100)
KNOWN = 20
"""Networks of which a calibration knows the truth."""


@dataclass(frozen=True)
class Job:
    """All scores of one network."""

    space: str
    arch: str
    images: Path
    ghn: str
    seed: int
    out: Path
    long: bool

    @property
    def file(self) -> Path:
        """Of its scores."""
        return self.out / f"{self.space}~{self.arch.replace('|', '_')}~{self.seed}.json"


@lru_cache(maxsize=1)
def data(folder: Path, seed: int) -> tuple[Pool, Pool, int]:
    """Images to train on and to judge by, and the number of classes."""
    whole = load_images(folder, "train")
    rows = torch.randperm(len(whole.labels), generator=torch.Generator().manual_seed(seed))
    most = max(LONG, *(count for counts in STEPS.values() for count in counts)) * BATCH
    train, val = (Pool(Inputs((whole.normalise(whole.pixels[part]),), {}), whole.labels[part]) for part in (
        rows[VAL_IMAGES : VAL_IMAGES + most], rows[:VAL_IMAGES]))  # fmt: skip
    return train, val, whole.num_classes


def run(job: Job) -> Path:
    """Measures what is missing."""
    torch.set_num_threads(1)
    done = json.loads(job.file.read_text()) if job.file.exists() else {"scores": {}, "seconds": {}}
    train, val, classes = data(job.images, job.seed)
    make = partial(SPACES[job.space], job.arch, classes)
    ghn = ghn_init.load(job.ghn)
    if "look" not in done:
        seen = look(make, train, Settings(ghn, "default", 0.1, BATCH))
        done["look"] = {"parameters": seen.parameters, "macs": seen.macs, "embedding": seen.embedding.tolist()}
    for name, score in measurements(make, train, val, ghn, job).items():
        if name not in done["scores"]:
            done["scores"][name], done["seconds"][name] = score()
            save_json(job.file, done, None)
    return job.file


def measurements(
    make: Callable[[], nn.Module], train: Pool, val: Pool, ghn: ghn_init.GHN, job: Job
) -> dict[str, Callable[[], tuple[float, float]]]:
    """Name → what gives a score and its seconds."""
    seed = job.seed

    def few_steps(start: From, steps: int) -> tuple[float, float]:
        found = judge(make, steps, train, val, Settings(ghn, start, RATES[start], BATCH, seed=seed))
        return 100 * float(found.right.double().mean()), found.seconds

    def zero_cost(name: str) -> tuple[float, float]:
        seeded(seed)
        parts = [train.batch(k, BATCH, seed) for k in range(ZERO_COST_BATCHES)]
        return SCORES[name](make(), [(part.inputs.args[0], part.labels) for part in parts]), 0.0

    named: dict[str, Callable[[], tuple[float, float]]] = {name: partial(zero_cost, name) for name in SCORES}
    for start, counts in STEPS.items():
        named |= {f"{start}-{steps}": partial(few_steps, start, steps) for steps in counts}
    return {**named, f"default-{LONG}": partial(few_steps, "default", LONG)} if job.long else named


def drawn(truths: dict[str, float], count: int, best: int, seed: int) -> tuple[list[str], list[str]]:
    """Architectures at random, and the best among ten times as many others."""
    rng = random.Random(seed)
    names = rng.sample(sorted(truths), min(count + 10 * best, len(truths)))
    return names[:count], sorted(names[count:], key=lambda name: -truths[name])[:best]


def columns(found: dict[str, Any], truths: dict[str, float], seed: int) -> dict[str, tuple[dict[str, float], int]]:
    """Name of a score → its value of each network, and the images that it saw."""
    table: dict[str, tuple[dict[str, float], int]] = {
        name: ({arch: float(each["look"][name]) for arch, each in found.items()}, 0) for name in ("parameters", "macs")
    }
    scores = {arch: each["scores"] for arch, each in found.items()}
    for name in sorted(set.intersection(*map(set, scores.values()))):
        _, _, steps = name.rpartition("-")
        images = BATCH * (int(steps) if steps.isdigit() else ZERO_COST_BATCHES if name == "zico" else name != "synflow")
        images += FITTED_IMAGES if "fitted" in name else 0
        table[name] = ({arch: own[name] for arch, own in scores.items()}, int(images))
    rungs = successive_halving(list(scores), RUNGS, one_by_one(lambda arch, steps: scores[arch][f"predicted-{steps}"]))
    places = {arch: -float(place) for place, arch in enumerate(order(rungs))}
    mean_steps = sum(rung.steps * len(rung.scores) for rung in rungs) / len(scores)
    table["rank"] = (places, round(BATCH * mean_steps))
    known = random.Random(seed + 1).sample(sorted(found), min(KNOWN, len(found)))
    if len(found) > 2 * KNOWN:
        looks = {
            arch: Look(each["look"]["parameters"], each["look"]["macs"], torch.tensor(each["look"]["embedding"]), "")
            for arch, each in found.items()
        }
        fifty = {arch: own["predicted-50"] for arch, own in scores.items()}
        expected = calibrate(fifty, looks, {arch: truths[arch] for arch in known}).accuracies
        others = {arch: value for arch, value in expected.items() if arch not in known}
        table[f"predicted-50, calibrated on {KNOWN}"] = (others, BATCH * 50)
    return table


def figures(scores: dict[str, float], truths: dict[str, float]) -> tuple[float, float, float]:
    """Kendall's τ on all and on the better half, and how many points the best of the first five is behind the best."""
    names = sorted(scores, key=lambda name: -truths[name])
    half = names[: len(names) // 2]
    taus = [float(kendalltau([scores[n] for n in some], [truths[n] for n in some]).statistic) for some in (names, half)]
    first = sorted(scores, key=lambda name: -scores[name])[:5]
    return taus[0], taus[1], truths[names[0]] - max(truths[name] for name in first)


def text(found: dict[str, Any], truths: dict[str, float], seed: int) -> str:
    """The table."""
    lines = ["| score | τ, all | τ, better half | top-5 regret, points | images | seconds |", "| --- " * 6 + "|"]
    for name, (scores, images) in columns(found, truths, seed).items():
        seconds = [each["seconds"].get(name, 0.0) for each in found.values()]
        tau, better, regret = figures(scores, truths)
        mean = f"{statistics.fmean(seconds):.1f}" if any(seconds) else ""
        lines.append(f"| {name} | {tau:.2f} | {better:.2f} | {regret:.2f} | {images:,} | {mean} |")
    return "\n".join(lines)


def draw(found: dict[str, Any], truths: dict[str, float], seed: int, path: Path) -> None:
    """Published accuracy against three scores."""
    from ghn_init.viz.style import COLOURS, figure, finish

    table = columns(found, truths, seed)
    shown = ("predicted-50", "default-50", "macs")
    made, panels = figure(10, 3.4, 3, sharey=True)
    for panel, name, colour in zip(panels, shown, COLOURS, strict=False):
        scores, _ = table[name]
        panel.scatter([scores[arch] for arch in scores], [truths[arch] for arch in scores], s=8, color=colour)
        panel.set(xlabel=name, title=f"τ = {figures(scores, truths)[0]:.2f}")
    panels[0].set_ylabel("accuracy after full training, %")
    finish(made, panels, path)


def main() -> None:
    """Measures what is missing; prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("truths", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--space", choices=SPACES, required=True)
    parser.add_argument("--truth", required=True, help="column of TRUTH.csv")
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--best", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--long", action="store_true", help=f"default init after {LONG} steps too")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with options.truths.open() as file:
        truths = {row["arch"]: float(row[options.truth]) for row in csv.DictReader(file)}
    random_ones, best = drawn(truths, options.count, options.best, options.seed)
    jobs = {
        arch: Job(options.space, arch, options.images, options.ghn, options.seed, options.out, options.long)
        for arch in (*random_ones, *best)
    }
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for path in pool.map(run, jobs.values()):
                print(path.stem, flush=True)
    done = {arch: json.loads(job.file.read_text()) for arch, job in jobs.items() if job.file.exists()}
    wanted = len(SCORES) + sum(map(len, STEPS.values())) + options.long
    done = {arch: each for arch, each in done.items() if len(each["scores"]) >= wanted}
    parts = []
    for title, group in (("at random", random_ones), ("the best", best)):
        found = {arch: done[arch] for arch in group if arch in done}
        if len(found) > 1:
            parts.append(f"{options.space}, {len(found)} networks, {title}:\n\n{text(found, truths, options.seed)}")
    where = f"One thread of an {platform.machine()} CPU per network, torch {torch.__version__.split('+')[0]}, {options.ghn}."
    result = "\n\n".join([*parts, where]) + "\n"
    print(result)
    if options.table:
        options.table.write_text(result)
    if options.picture:
        draw({arch: done[arch] for arch in random_ones if arch in done}, truths, options.seed, options.picture)


if __name__ == "__main__":
    main()

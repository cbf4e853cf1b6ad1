"""How well predicted weights rank networks whose accuracies are published, before training and after few steps; beside rivals.

    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space nasbench201 --truth cifar10_test [--count 200] [--workers 2]
    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space macro --truth cifar10_test_mean --table FILE --picture FILE

IMAGES is what `ghn-init train` takes, CIFAR-10 for one; TRUTH has a column `arch` and some of accuracies in percent. `--count`
networks are drawn at random with `--seed`.

Scores of each network, all on the same images: parameters; multiply-accumulates; synflow, NASWOT, jacov, ZiCo (`zero_cost.py`,
in batches of 128); accuracy with predicted weights and head, without training; with a head fitted to 1,000 images, before any
step and after 50 of 32 images; after 50 and 100 steps with a random head; after 50 steps from default init at each of three
rates, and after 100 and 400 at the one in the middle. `--scores` measures some of them; each row of the table is of the
networks that have it. `rank` is what `ghn_init.rank` would have found, with its defaults. Networks are trained on training
images and judged by 1,000 of the test images: the hypernetwork knows the former.

The table has Kendall's τ with the truth on all, on the better half and on the best quarter, and the standard errors of 1,000
samples of the networks with replacement; how far `rank` is ahead on the same networks and samples; the best accuracy among the
five networks with the highest scores, in points behind the best of all; and τ on all with further truths. With `--beside OUT2`,
of the same networks and other images, it has the accuracy with heads fitted to these before training, and the mean of both
accuracies, and how far the mean is ahead.

OUT has a file per network, written after each score: interrupted, the same command goes on. It has seconds too, of a process
that may share its core with others.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau
from torch import nn

import ghn_init
from ghn_init.evaluation.accuracy import accuracy
from ghn_init.models.batches import Inputs
from ghn_init.ranking.calibration import calibrate
from ghn_init.ranking.defaults import FITTED_IMAGES, From
from ghn_init.ranking.measure import Look, Settings, judge_, look, started
from ghn_init.saving import save_json
from ghn_init.tasks import Images, load_images
from ghn_init.trials.halving import one_by_one, successive_halving
from ghn_init.trials.pool import Pool, seeded
from nasbench import SPACES
from zero_cost import SCORES

LONG = 400
RUNS: dict[str, tuple[From, int, float]] = {
    "predicted-50": ("predicted", 50, 0.02),
    "predicted-100": ("predicted", 100, 0.02),
    "predicted+fitted-0": ("predicted+fitted", 0, 0.02),
    "predicted+fitted-50 at 0.004": ("predicted+fitted", 50, 0.004),
    "predicted+fitted-50 at 0.02": ("predicted+fitted", 50, 0.02),
    "default-50 at 0.02": ("default", 50, 0.02),
    "default-50 at 0.05": ("default", 50, 0.05),
    "default-50 at 0.15": ("default", 50, 0.15),
    "default-100": ("default", 100, 0.05),
    f"default-{LONG}": ("default", LONG, 0.05),
}
"""Name → start, steps, rate."""
TASK = "cifar10"
"""Whose head is predicted where nothing is trained."""
OURS, UNTRAINED, BOTH = "rank", "predicted, no training", "mean of both"
BATCH, VAL_IMAGES, ZERO_COST_BATCHES, ZERO_COST_BATCH = 32, 1000, 2, 128
RUNGS = {0: "predicted+fitted-0", 50: "predicted+fitted-50 at 0.004"}
"""Steps → the score of a rung of `rank`, as it is by default."""
LEAST = 8
"""Networks that a τ takes."""
KNOWN = 20
"""Networks of which a calibration knows the truth."""
SAMPLES = 1_000


@dataclass(frozen=True)
class Job:
    """All scores of one network."""

    space: str
    arch: str
    images: Path
    ghn: str
    seed: int
    out: Path
    scores: tuple[str, ...]

    @property
    def file(self) -> Path:
        """Of its scores."""
        return self.out / f"{self.space}~{self.arch.replace('|', '_')}~{self.seed}.json"


@dataclass(frozen=True)
class Data:
    """Images to train on, and those to judge by, as they are and normalised."""

    train: Pool
    val: Pool
    judges: Images

    @classmethod
    @lru_cache(maxsize=1)
    def read(cls, folder: Path, seed: int) -> Data:
        """Drawn with the seed."""
        whole = load_images(folder, "train")
        rows = torch.randperm(len(whole.labels), generator=torch.Generator().manual_seed(seed))[: LONG * BATCH]
        test = load_images(folder, "test", like=whole)
        few = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(seed))[:VAL_IMAGES]
        judges = Images.from_tensors(test.pixels[few], test.labels[few], like=whole)
        train = Pool(Inputs((whole.normalise(whole.pixels[rows]),), {}), whole.labels[rows])
        return cls(train, Pool(Inputs((judges.normalise(judges.pixels),), {}), judges.labels), judges)


def run(job: Job) -> Path:
    """Measures what is missing."""
    torch.set_num_threads(1)
    ghn = ghn_init.load(job.ghn)
    fresh: dict[str, Any] = {"weights": ghn.fingerprint, "scores": {}, "seconds": {}}
    done = json.loads(job.file.read_text()) if job.file.exists() else fresh
    if done["weights"] != ghn.fingerprint:
        raise SystemExit(f"{job.file} is of other weights than {job.ghn}; pass another folder.")
    data = Data.read(job.images, job.seed)
    make = partial(SPACES[job.space], job.arch, data.judges.num_classes)
    if "look" not in done:
        seen = look(make, data.train, data.train.labels, Settings(ghn, "default", 0.1, BATCH))
        done["look"] = {"parameters": seen.parameters, "macs": seen.macs, "embedding": seen.embedding.tolist()}
    for name, score in measurements(make, data, ghn, job).items():
        if name not in done["scores"]:
            begun = time.perf_counter()
            done["scores"][name] = score()
            done["seconds"][name] = time.perf_counter() - begun
            save_json(job.file, done, None)
    return job.file


def measurements(make: Callable[[], nn.Module], data: Data, ghn: ghn_init.GHN, job: Job) -> dict[str, Callable[[], float]]:
    """Name → what gives a score."""
    seed = job.seed

    @lru_cache(maxsize=1)
    def begun(start: From) -> nn.Module:
        return started(make, data.train, Settings(ghn, start, 0.1, BATCH, seed=seed))  # the rate is of training

    def few_steps(start: From, steps: int, rate: float) -> float:
        model = copy.deepcopy(begun(start))
        found = judge_(model, steps, data.train, data.val, Settings(ghn, start, rate, BATCH, seed=seed))
        return 100 * float(found.right.double().mean())

    def zero_cost(name: str) -> float:
        seeded(seed)
        parts = [data.train.batch(k, ZERO_COST_BATCH, seed) for k in range(ZERO_COST_BATCHES)]
        return SCORES[name](make(), [(part.inputs.args[0], part.labels) for part in parts])

    def untrained() -> float:
        seeded(seed)
        return accuracy(ghn, make(), data.judges, TASK)

    named: dict[str, Callable[[], float]] = {name: partial(zero_cost, name) for name in SCORES}
    named[UNTRAINED] = untrained
    named |= {name: partial(few_steps, *how) for name, how in RUNS.items()}
    return {name: score for name, score in named.items() if name in job.scores}


def drawn(truths: dict[str, float], count: int, seed: int) -> list[str]:
    """Architectures at random."""
    return random.Random(seed).sample(sorted(truths), min(count, len(truths)))


def images_of(name: str) -> int:
    """That a score sees."""
    if name in RUNS:
        start, steps, _ = RUNS[name]
        return BATCH * steps + FITTED_IMAGES * (start == "predicted+fitted")
    return {"synflow": 0, "zico": ZERO_COST_BATCHES * ZERO_COST_BATCH, UNTRAINED: 0}.get(name, ZERO_COST_BATCH)


def columns(
    found: dict[str, Any], truths: dict[str, float], seed: int, beside: dict[str, float]
) -> dict[str, tuple[dict[str, float], int]]:
    """Name of a score → its value of each network, and the images that it saw.

    Args:
        found: Network → what was measured of it.
        truths: Network → published accuracy.
        seed: Of the networks that are known to a calibration.
        beside: Network → accuracy with a head fitted to other images; empty without them.
    """
    table: dict[str, tuple[dict[str, float], int]] = {
        name: ({arch: float(each["look"][name]) for arch, each in found.items()}, 0) for name in ("parameters", "macs")
    }
    for name in (*SCORES, UNTRAINED, *RUNS):
        measured = {arch: each["scores"][name] for arch, each in found.items() if name in each["scores"]}
        if len(measured) >= LEAST:
            table[name] = (measured, images_of(name))
    scores = {arch: each["scores"] for arch, each in found.items()}

    def mean_so_far(arch: str, steps: int) -> float:
        return statistics.fmean(scores[arch][name] for rung, name in RUNGS.items() if rung <= steps)

    both = [arch for arch, own in scores.items() if own.keys() >= set(RUNGS.values())]
    if len(both) >= LEAST:
        rungs = successive_halving(both, list(RUNGS), one_by_one(mean_so_far))
        farthest = {arch: 1_000 * k + score for k, rung in enumerate(rungs) for arch, score in rung.scores.items()}
        seen = sum(images_of(RUNGS[rung.steps]) * len(rung.scores) for rung in rungs)
        table[OURS] = (farthest, round(seen / len(both)))
    first = RUNGS[0]
    known = random.Random(seed + 1).sample(sorted(scores), min(KNOWN, len(scores)))
    if len(scores) > 2 * KNOWN:
        looks = {
            arch: Look(each["look"]["parameters"], each["look"]["macs"], torch.tensor(each["look"]["embedding"]), "")
            for arch, each in found.items()
        }
        before = {arch: own[first] for arch, own in scores.items()}
        expected = calibrate(before, looks, {arch: truths[arch] for arch in known}).accuracies
        rest = [arch for arch in scores if arch not in known]
        table[f"{first}, calibrated on {KNOWN}, the other {len(rest)}"] = (
            {arch: expected[arch] for arch in rest},
            images_of(first),
        )
        table[f"{first}, the same {len(rest)}"] = ({arch: before[arch] for arch in rest}, images_of(first))
    if beside:
        table[f"{first}, the other images"] = (beside, images_of(first))
        mean = {arch: (scores[arch][first] + other) / 2 for arch, other in beside.items()}
        table[f"{first}, {BOTH}"] = (mean, 2 * images_of(first))
    return table


def tau(scores: dict[str, float], truths: dict[str, float], names: Sequence[str]) -> float:
    """Kendall's."""
    return float(kendalltau([scores[name] for name in names], [truths[name] for name in names]).statistic)


def best_of(names: Iterable[str], truths: dict[str, float], share: int) -> list[str]:
    """A half or a quarter of them, by the truth."""
    ordered = sorted(names, key=lambda name: (-truths[name], name))
    return ordered[: len(ordered) // share]


def regret(scores: dict[str, float], truths: dict[str, float]) -> float:
    """Points of the best of the first five behind the best of all; equal scores in the order of names."""
    first = sorted(scores, key=lambda name: (-scores[name], name))[:5]
    return max(truths[name] for name in scores) - max(truths[name] for name in first)


def text(found: dict[str, Any], columns_of_truth: dict[str, dict[str, float]], seed: int, beside: dict[str, float]) -> str:
    """The table, by the first truth."""
    (_, truths), *others = columns_of_truth.items()
    reference = BOTH if beside else OURS
    ahead = f"{reference} ahead by"
    head = ["score", "networks", "τ, all", ahead, "τ, better half", ahead, "τ, best quarter", "top-5 regret, points"]
    head += [*(f"τ, {name}" for name, _ in others), "images"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    table = columns(found, truths, seed, beside)
    ours = next((scores for name, (scores, _) in table.items() if name.endswith(reference)), {})
    for name, (scores, images) in table.items():
        cells = [str(len(scores))]
        for share in (1, 2, 4):
            names = best_of(scores, truths, share)
            if len(names) < LEAST:
                cells += [""] * (2 if share < 4 else 1)
                continue
            cells.append(f"{tau(scores, truths, names):.2f} ± {numpy.nanstd(sampled(scores, truths, names)):.2f}")
            if share < 4:
                cells.append("" if scores is ours else lead(ours, scores, truths, names))
        cells.append(f"{regret(scores, truths):.2f}")
        for _, other in others:
            names = sorted(scores)
            cells.append(f"{tau(scores, other, names):.2f} ± {numpy.nanstd(sampled(scores, other, names)):.2f}")
        cells.append(f"{images:,}")
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def lead(ours: dict[str, float], scores: dict[str, float], truths: dict[str, float], names: Sequence[str]) -> str:
    """How far one τ is ahead of another, on the networks that have both."""
    names = [name for name in names if name in ours]
    if len(names) < LEAST:
        return ""
    gap = tau(ours, truths, names) - tau(scores, truths, names)
    return f"{gap:+.2f} ± {numpy.nanstd(sampled(ours, truths, names) - sampled(scores, truths, names)):.2f}"


def sampled(scores: dict[str, float], truths: dict[str, float], names: Sequence[str]) -> NDArray[numpy.float64]:
    """τ of samples with replacement, the same for all scores of the same networks."""
    rng = random.Random(0)
    return numpy.array([tau(scores, truths, rng.choices(names, k=len(names))) for _ in range(SAMPLES)])


def draw(found: dict[str, Any], truths: dict[str, float], seed: int, path: Path) -> None:
    """Published accuracy against three scores."""
    from ghn_init.viz.style import COLOURS, figure, finish

    table = columns(found, truths, seed, {})
    shown = {
        RUNGS[0]: "a fitted head on predicted weights, %",
        "default-50 at 0.05": "50 steps from default init, %",
        "naswot": "NASWOT",
    }
    made, panels = figure(10, 3.4, 3, sharey=True)
    for panel, (name, label), colour in zip(panels, shown.items(), COLOURS, strict=False):
        scores, _ = table[name]
        panel.scatter([scores[arch] for arch in scores], [truths[arch] for arch in scores], s=8, color=colour)
        panel.set(xlabel=label, title=f"τ = {tau(scores, truths, list(scores)):.2f}")
    panels[0].set_ylabel("published accuracy, %")
    finish(made, panels, path)


def main() -> None:
    """Measures what is missing; prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("truths", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--space", choices=SPACES, required=True)
    parser.add_argument("--truth", nargs="+", required=True, help="columns of TRUTH.csv, the one that counts first")
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    every = (*SCORES, UNTRAINED, *RUNS)
    parser.add_argument("--scores", nargs="+", choices=every, default=every, help="only these are measured")
    parser.add_argument("--beside", type=Path, help="an OUT of other images: networks that it has too, and means of both")
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with options.truths.open() as file:
        rows = list(csv.DictReader(file))
    all_truths = {name: {row["arch"]: float(row[name]) for row in rows} for name in options.truth}
    truths = all_truths[options.truth[0]]
    jobs = {
        arch: Job(options.space, arch, options.images, options.ghn, options.seed, options.out, tuple(options.scores))
        for arch in drawn(truths, options.count, options.seed)
    }
    beside: dict[str, float] = {}
    if options.beside is not None:
        there = {arch: options.beside / job.file.name for arch, job in jobs.items()}
        theirs = {arch: json.loads(file.read_text())["scores"] for arch, file in there.items() if file.exists()}
        beside = {arch: scores[RUNGS[0]] for arch, scores in theirs.items() if RUNGS[0] in scores}
        jobs = {arch: jobs[arch] for arch in beside}
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for path in pool.map(run, jobs.values()):
                print(path.stem, flush=True)
    done = {arch: json.loads(job.file.read_text()) for arch, job in jobs.items() if job.file.exists()}
    done = {arch: each for arch, each in done.items() if RUNGS[0] in each["scores"]}
    beside = {arch: score for arch, score in beside.items() if arch in done}
    if len(done) < LEAST:
        raise SystemExit(f"{options.out} has the score of the first rung for {len(done)} networks; a table takes {LEAST}.")
    weights = ", ".join(sorted({each["weights"] for each in done.values()}))
    where = (
        f"{len(done)} networks of {options.space} at random (seed {options.seed}), truth `{options.truth[0]}`; {options.ghn}, "
        f"weights {weights}; one thread of an {platform.machine()} CPU per network, torch {torch.__version__.split('+')[0]}."
    )
    result = f"{where}\n\n{text(done, all_truths, options.seed, beside)}\n"
    print(result)
    if options.table:
        options.table.write_text(result)
    if options.picture:
        draw(done, truths, options.seed, options.picture)


if __name__ == "__main__":
    main()

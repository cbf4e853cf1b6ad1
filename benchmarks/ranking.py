"""How well few steps from predicted weights rank networks whose accuracy after full training is published; beside rivals.

    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space nasbench201 --truth cifar10_test [--count 200] [--workers 2]
    python benchmarks/ranking.py IMAGES TRUTH.csv -o OUT --space macro --truth cifar10_test_mean --table FILE --picture FILE

IMAGES is CIFAR-10 as `ghn-init train` takes it; TRUTH has a column `arch` and one of accuracies in percent. `--count` networks
are drawn at random with `--seed`.

Scores of each network, all on the same images: parameters; multiply-accumulates; synflow, NASWOT, jacov, ZiCo (`zero_cost.py`,
in batches of 128); accuracy with predicted weights and head, without training; after 50, 100 steps of 32 from predicted
weights, the head random; with a fitted head before any step and after 50; after 50 steps from default init at each of three
rates, and after 100 (with `--long` 400) at the one in the middle. `rank` is what `ghn_init.rank` would have found: the order
of two rungs, 50 and 100 steps. Networks are trained on training images and judged by 1,000 of the test images: the
hypernetwork knows the former.

The table has Kendall's τ with the truth on all, on the better half and on the best quarter, and the standard errors of 1,000
samples of the networks with replacement; how far the rivals are behind `predicted-50` on the same samples; and the best
accuracy among the five networks with the highest scores, in points behind the best of all.

OUT has a file per network, written after each score: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
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
from ghn_init.ranking.defaults import From
from ghn_init.ranking.measure import FITTED_IMAGES, Look, Settings, judge, look
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
    "predicted+fitted-50": ("predicted+fitted", 50, 0.02),
    "default-50 at 0.02": ("default", 50, 0.02),
    "default-50 at 0.05": ("default", 50, 0.05),
    "default-50 at 0.15": ("default", 50, 0.15),
    "default-100": ("default", 100, 0.05),
    f"default-{LONG}": ("default", LONG, 0.05),
}
"""Name → start, steps, rate."""
TASK = "cifar10"
"""Whose head is predicted where nothing is trained."""
OURS, UNTRAINED = "predicted-50", "predicted, no training"
BATCH, VAL_IMAGES, ZERO_COST_BATCHES, ZERO_COST_BATCH = 32, 1000, 2, 128
RUNGS = (50, 100)
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
    long: bool

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

    def few_steps(start: From, steps: int, rate: float) -> float:
        found = judge(make, steps, data.train, data.val, Settings(ghn, start, rate, BATCH, seed=seed))
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
    runs = {name: partial(few_steps, *how) for name, how in RUNS.items() if job.long or how[1] < LONG}
    return {**named, **runs}


def drawn(truths: dict[str, float], count: int, seed: int) -> list[str]:
    """Architectures at random."""
    return random.Random(seed).sample(sorted(truths), min(count, len(truths)))


def images_of(name: str) -> int:
    """That a score sees."""
    if name in RUNS:
        start, steps, _ = RUNS[name]
        return BATCH * steps + FITTED_IMAGES * (start == "predicted+fitted")
    return {"synflow": 0, "zico": ZERO_COST_BATCHES * ZERO_COST_BATCH, UNTRAINED: 0}.get(name, ZERO_COST_BATCH)


def columns(found: dict[str, Any], truths: dict[str, float], seed: int) -> dict[str, tuple[dict[str, float], int]]:
    """Name of a score → its value of each network, and the images that it saw."""
    table: dict[str, tuple[dict[str, float], int]] = {
        name: ({arch: float(each["look"][name]) for arch, each in found.items()}, 0) for name in ("parameters", "macs")
    }
    scores = {arch: each["scores"] for arch, each in found.items()}
    measured = set.intersection(*map(set, scores.values()))
    for name in (name for name in (*SCORES, UNTRAINED, *RUNS) if name in measured):
        table[name] = ({arch: own[name] for arch, own in scores.items()}, images_of(name))
    rungs = successive_halving(list(scores), RUNGS, one_by_one(lambda arch, steps: scores[arch][f"predicted-{steps}"]))
    farthest = {arch: 1_000 * k + score for k, rung in enumerate(rungs) for arch, score in rung.scores.items()}
    mean_steps = sum(rung.steps * len(rung.scores) for rung in rungs) / len(scores)
    table["rank"] = (farthest, round(BATCH * mean_steps))
    known = random.Random(seed + 1).sample(sorted(found), min(KNOWN, len(found)))
    if len(found) > 2 * KNOWN:
        looks = {
            arch: Look(each["look"]["parameters"], each["look"]["macs"], torch.tensor(each["look"]["embedding"]), "")
            for arch, each in found.items()
        }
        fifty = {arch: own[OURS] for arch, own in scores.items()}
        expected = calibrate(fifty, looks, {arch: truths[arch] for arch in known}).accuracies
        rest = [arch for arch in found if arch not in known]
        table[f"{OURS}, calibrated on {KNOWN}, the other {len(rest)}"] = ({arch: expected[arch] for arch in rest}, BATCH * 50)
        table[f"{OURS}, the same {len(rest)}"] = ({arch: fifty[arch] for arch in rest}, BATCH * 50)
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


def text(found: dict[str, Any], truths: dict[str, float], seed: int) -> str:
    """The table."""
    lines = [
        f"| score | τ, all | behind {OURS} | τ, better half | behind {OURS} | τ, best quarter | top-5 regret, points | "
        "images | seconds |",
        "| --- " * 9 + "|",
    ]
    table = columns(found, truths, seed)
    for name, (scores, images) in table.items():
        seconds = [each["seconds"].get(name, 0.0) for each in found.values()]
        mean = f"{statistics.fmean(seconds):.1f}" if any(seconds) else ""
        cells = []
        for share in (1, 2, 4):
            names = best_of(scores, truths, share)
            taus = sampled(scores, truths, names)
            cells.append(f"{tau(scores, truths, names):.2f} ± {numpy.nanstd(taus):.2f}")
            ours = table[OURS][0]
            if share < 4:
                gap = tau(ours, truths, names) - tau(scores, truths, names)
                error = numpy.nanstd(sampled(ours, truths, names) - taus)
                cells.append("" if name.startswith(OURS) else f"{gap:+.2f} ± {error:.2f}")
        cells += [f"{regret(scores, truths):.2f}", f"{images:,}", mean]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def sampled(scores: dict[str, float], truths: dict[str, float], names: Sequence[str]) -> NDArray[numpy.float64]:
    """τ of samples with replacement, the same for all scores of the same networks."""
    rng = random.Random(0)
    return numpy.array([tau(scores, truths, rng.choices(names, k=len(names))) for _ in range(SAMPLES)])


def draw(found: dict[str, Any], truths: dict[str, float], seed: int, path: Path) -> None:
    """Published accuracy against three scores."""
    from ghn_init.viz.style import COLOURS, figure, finish

    table = columns(found, truths, seed)
    shown = (OURS, "default-50 at 0.05", "macs")
    made, panels = figure(10, 3.4, 3, sharey=True)
    for panel, name, colour in zip(panels, shown, COLOURS, strict=False):
        scores, _ = table[name]
        panel.scatter([scores[arch] for arch in scores], [truths[arch] for arch in scores], s=8, color=colour)
        panel.set(xlabel=name, title=f"τ = {tau(scores, truths, list(scores)):.2f}")
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
    jobs = {
        arch: Job(options.space, arch, options.images, options.ghn, options.seed, options.out, options.long)
        for arch in drawn(truths, options.count, options.seed)
    }
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for path in pool.map(run, jobs.values()):
                print(path.stem, flush=True)
    done = {arch: json.loads(job.file.read_text()) for arch, job in jobs.items() if job.file.exists()}
    wanted = {*SCORES, UNTRAINED, *RUNS} - (set() if options.long else {f"default-{LONG}"})
    done = {arch: each for arch, each in done.items() if wanted <= each["scores"].keys()}
    if len(done) < 8:
        raise SystemExit(f"{options.out} has {len(done)} networks with all scores; a table takes 8 at least.")
    weights = ", ".join(sorted({each["weights"] for each in done.values()}))
    where = (
        f"{len(done)} networks of {options.space} at random (seed {options.seed}), truth `{options.truth}`; {options.ghn}, "
        f"weights {weights}; one thread of an {platform.machine()} CPU per network, torch {torch.__version__.split('+')[0]}."
    )
    result = f"{where}\n\n{text(done, truths, options.seed)}\n"
    print(result)
    if options.table:
        options.table.write_text(result)
    if options.picture:
        draw(done, truths, options.seed, options.picture)


if __name__ == "__main__":
    main()

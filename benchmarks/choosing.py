"""Whether a choice between starts is worth it: the race of `ghn_init.choose`, and a judge without training.

    python benchmarks/choosing.py INTEL FLOWERS DTD -o OUT [--ghn NAME-OR-FOLDER] [--race-steps 40] [--rungs 3] [--workers 2]

Networks, images, rates, fine-tuning and tests are those of `transfer.py`. For each data set, network and seed: the race
chooses a start; the judge without training takes the weights on which a fitted head has the best leave-one-out accuracy, with
that head. Then the model's own init and both picks are fine-tuned, each at the rate that is best on a fifth of the training
images; with `--all` every start is, so that the regret is that against the best start.

OUT has a file per data set, network and seed, written after each run: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.models.batches import Batches
from ghn_init.tasks import Images
from ghn_init.trials.starts import FITTED, Start, starts_for
from transfer import NETWORKS, RATES, STEPS, TEST_IMAGES, TRAIN_IMAGES, TUNING_SEED, batches, network, read, tested, train

OWN = "default"


@dataclass(frozen=True)
class Job:
    """A network on a data set, with one seed."""

    data: str
    network: str
    seed: int
    ghn: str
    rates: tuple[float, ...]
    steps: int
    race: tuple[int, int]
    all_starts: bool
    bf16: bool
    out: Path

    @property
    def file(self) -> Path:
        """Of its runs."""
        return self.out / f"{Path(self.data).name}~{self.network}~{self.seed}.json"


def loader(images: Images, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Images as they are trained on, but for mirroring."""
    return [(images.normalise(images.pixels[part]), images.labels[part]) for part in rows.split(64)]


def begun(job: Job, images: Images, rows: Tensor, seed: int, name: str) -> nn.Module:
    """The network at a start, which knows the training images alone."""
    torch.manual_seed(seed)
    model, contents = network(job.network, images.num_classes, images.pixels.shape[2]), loader(images, rows)
    weights, plus, _ = name.partition(FITTED)
    start = Start(weights, bool(plus))  # type: ignore[arg-type]

    def predict(which: nn.Module, kept: Iterable[str]) -> ghn_init.Prediction:
        return ghn_init.predict(which, job.ghn, contents[0][0][:2], head=False, seed=seed, exclude=list(kept))

    start.write_(predict(model, ()), model, Batches(contents, model, len(rows)), predict)
    return model


def accuracy(job: Job, name: str, rate: float, seed: int, data: tuple[Images, Tensor], judge: tuple[Images, Tensor]) -> float:
    """Of one fine-tuning, in percent."""
    images, rows = data
    model = begun(job, images, rows, seed, name)
    torch.manual_seed(seed)
    train(model.to(memory_format=torch.channels_last), images, rows, rate, seed, job.bf16, job.steps)
    ghn_init.recalibrate_batchnorm(model, itertools.islice(batches(images, rows, seed), 20))
    return tested(model, *judge)


def picks(job: Job, images: Images, rows: Tensor) -> dict[str, Any]:
    """What the race chose and at what cost; leave-one-out accuracies of fitted heads by weights; names of all starts."""
    torch.manual_seed(job.seed)
    model = network(job.network, images.num_classes, images.pixels.shape[2])
    inputs = images.normalise(images.pixels[:2])
    names = [start.name for start in starts_for(ghn_init.predict(model, job.ghn, inputs, head=False))]
    steps, rungs = job.race
    choice = ghn_init.choose(model, loader(images, rows), job.ghn, steps=steps, rungs=rungs, seed=job.seed)
    left_out = {}
    for name in names:
        if name.endswith(FITTED) and name not in choice.unsuited:
            fitted = begun(job, images, rows, job.seed, name.removesuffix(FITTED))
            left_out[name] = ghn_init.fit_head_(fitted, loader(images, rows)).accuracy
    ridge = max(left_out, key=lambda name: left_out[name]) if left_out else OWN
    starts = [name for name in names if name not in choice.unsuited]
    return {"race": choice.chosen, "ridge": ridge, "choice": choice.to_dict(), "left out": left_out, "starts": starts}


def run(job: Job) -> Path:
    """Does what is left of a job."""
    torch.set_num_threads(1)
    images, test = read(job.data)
    rows = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))[:TRAIN_IMAGES]
    fifth = len(rows) // 5
    done = (
        json.loads(job.file.read_text()) if job.file.exists() else {"picks": picks(job, images, rows), "tuning": {}, "test": {}}
    )
    _save(job.file, done)
    found = done["picks"]
    for name in found["starts"] if job.all_starts else dict.fromkeys((OWN, found["race"], found["ridge"])):
        tuning = done["tuning"].setdefault(name, {})
        for rate in job.rates:
            if str(rate) not in tuning:
                data, judge = (images, rows[fifth:]), (images, rows[:fifth])
                tuning[str(rate)] = accuracy(job, name, rate, TUNING_SEED, data, judge)
                _save(job.file, done)
        if name not in done["test"]:
            best = float(max(tuning, key=lambda rate: tuning[rate]))
            judge = (test, torch.arange(min(TEST_IMAGES, len(test.labels))))
            done["test"][name] = accuracy(job, name, best, job.seed, (images, rows), judge)
            _save(job.file, done)
    return job.file


def _save(path: Path, contents: object) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(contents, indent=1) + "\n")
    os.replace(temporary, path)


def table(out: Path, data: list[str], networks: list[str], seeds: int, budget: int) -> str:
    """A row per cell; then what each judge costs."""
    lines = ["| data | network | picks of the race | default | race | ridge | race − default | regret |", "| --- " * 8 + "|"]
    gains: dict[str, list[tuple[float, float]]] = {"race": [], "ridge": []}
    regrets, shares = [], []
    for name, net in itertools.product((Path(d).name for d in data), networks):
        files = [out / f"{name}~{net}~{seed}.json" for seed in range(seeds)]
        runs = [json.loads(file.read_text()) for file in files if file.exists()]
        runs = [run for run in runs if all(run["picks"][judge] in run["test"] for judge in gains) and OWN in run["test"]]
        if not runs:
            continue
        own = [run["test"][OWN] for run in runs]
        picked = {judge: [run["test"][run["picks"][judge]] for run in runs] for judge in gains}
        for judge in gains:
            gains[judge].append(_mean([a - b for a, b in zip(picked[judge], own, strict=True)]))
        regrets.append(statistics.fmean(max(run["test"].values()) for run in runs) - statistics.fmean(picked["race"]))
        shares += [run["picks"]["choice"]["steps"] / budget for run in runs]
        means = [f"{statistics.fmean(values):.1f}" for values in (own, *picked.values())]
        chosen = ", ".join(run["picks"]["race"] for run in runs)
        gain = "{:+.1f} ± {:.1f}".format(*gains["race"][-1])
        lines.append("| " + " | ".join([name, net, chosen, *means, gain, f"{regrets[-1]:.1f}"]) + " |")
    if not regrets:
        return "nothing was run"
    for judge, found in gains.items():
        lost = sum(gain < -1 - error for gain, error in found)
        mean = statistics.fmean(gain for gain, _ in found)
        lines.append(
            f"\n{judge}: {mean:+.1f} points on default; {lost} of {len(found)} cells lose more than a point beyond the error"
        )
    share = f"{100 * statistics.fmean(shares):.0f} % of the fine-tuning's steps"
    lines.append(f"\nmean regret of the race: {statistics.fmean(regrets):.1f} points, at {share}")
    return "\n".join(lines)


def _mean(values: list[float]) -> tuple[float, float]:
    """And its standard error; none of one value."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return statistics.fmean(values), error


def main() -> None:
    """Runs what is left; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the fine-tuning")
    parser.add_argument("--race-steps", type=int, default=40)
    parser.add_argument("--rungs", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="fine-tune from every start")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="fine-tune in bfloat16 where it is faster"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    race = (options.race_steps, options.rungs)
    common = (options.ghn, tuple(options.rates), options.steps, race, options.all, options.bf16, options.out)
    jobs = [Job(*which, *common) for which in itertools.product(options.data, options.networks, range(options.seeds))]
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for path in pool.map(run, jobs):
                print(path.stem, flush=True)
    print(table(options.out, options.data, options.networks, options.seeds, options.steps))


if __name__ == "__main__":
    main()

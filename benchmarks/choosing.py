"""Whether a choice between starts is worth it: the race of `ghn_init.choose`, and a judge without training.

    python benchmarks/choosing.py INTEL FLOWERS DTD -o OUT --grid GRID [--ghn NAME-OR-FOLDER] [--race-steps 40] [--rungs 3]

Networks, images, rates, fine-tuning and tests are those of `transfer.py`. For each data set, network and seed: the race
chooses a start; the judge without training takes the weights on which a fitted head has the best leave-one-out accuracy, with
that head. Then the model's own init and both picks are fine-tuned, each at the rate that `transfer.py` chooses for it. With
`--all` every start is, and the regret can be told: how far a pick is behind the start that is best in the other seeds (the best
of the same seed would be ahead by chance alone).

OUT has a file per data set, network and seed with the picks. GRID is the folder of `transfer.py`: what was fine-tuned there is
not fine-tuned again, and what is added can be read there (not while `transfer.py` writes there too). Interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import ghn_init
import transfer
from ghn_init.saving import save_json
from ghn_init.tasks import Images
from ghn_init.trials.starts import starts_for

OWN = "default"
JUDGES = ("race", "ridge")


@dataclass(frozen=True)
class Job:
    """A network on a data set, with all seeds."""

    data: str
    network: str
    seeds: range
    ghn: str
    rates: tuple[float, ...]
    race: tuple[int, int]
    all_starts: bool
    bf16: bool
    out: Path
    grid: Path

    def file(self, seed: int) -> Path:
        """Of the picks."""
        return self.out / f"{Path(self.data).name}~{self.network}~{seed}.json"

    def tuned(self, start: str, seeds: range) -> transfer.Job:
        """The fine-tuning from a start, as `choose` names them."""
        weights, fitted, _ = start.partition(transfer.FITTED)
        predicted, _, variant = weights.partition("+")
        name = "+".join([Path(self.ghn).name, *([variant] if variant else [])]) if predicted == "predicted" else weights
        ghn = self.ghn if predicted == "predicted" else None
        return transfer.Job(self.data, self.network, name + fitted, ghn, variant, seeds, self.rates, self.grid, self.bf16)


def picks(job: Job, seed: int, images: Images, rows: Tensor) -> dict[str, Any]:
    """What the race chose and at what cost; leave-one-out accuracies of fitted heads by weights; names of all starts."""
    contents = transfer.loader(images, rows)

    def own() -> torch.nn.Module:
        torch.manual_seed(seed)
        return transfer.network(job.network, images.num_classes, images.pixels.shape[2])

    model = own()
    names = [start.name for start in starts_for(ghn_init.predict(model, job.ghn, contents[0][0][:2], head=False))]
    steps, rungs = job.race
    choice = ghn_init.choose(model, contents, job.ghn, steps=steps, rungs=rungs, seed=seed)
    starts = [name for name in names if name not in choice.unsuited]
    left_out = {}
    for name in starts:
        weights, fitted, _ = name.partition(transfer.FITTED)
        if fitted:
            begun = own()
            transfer.write(begun, job.tuned(weights, job.seeds), seed, contents)
            left_out[name] = ghn_init.fit_head_(begun, contents).accuracy
    ridge = max(left_out, key=lambda name: left_out[name]) if left_out else OWN
    return {"race": choice.chosen, "ridge": ridge, "choice": choice.to_dict(), "left out": left_out, "starts": starts}


def run(job: Job) -> str:
    """Does what is left of a job."""
    torch.set_num_threads(1)
    images, _ = transfer.read(job.data)
    rows = transfer.training_rows(images)
    weights = ghn_init.load(job.ghn).fingerprint
    for seed in job.seeds:
        path = job.file(seed)
        if not path.exists():
            save_json(path, {"weights": weights, **picks(job, seed, images, rows)})
        found = json.loads(path.read_text())
        if found["weights"] != weights:
            raise SystemExit(f"{path} is of other weights than {job.ghn}; pass another folder.")
        for start in found["starts"] if job.all_starts else dict.fromkeys((OWN, *(found[judge] for judge in JUDGES))):
            transfer.run(job.tuned(start, range(seed, seed + 1)))
    return f"{Path(job.data).name}, {job.network}"


def outcomes(job: Job) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """By seed: the picks, and accuracies after fine-tuning by start; of seeds of which all that was picked is fine-tuned."""
    found = []
    for seed in job.seeds:
        if job.file(seed).exists():
            picked, tuned = json.loads(job.file(seed).read_text()), {}
            for start in picked["starts"]:
                path = job.tuned(start, job.seeds).file
                runs = json.loads(path.read_text())["test"] if path.exists() else {}
                if str(seed) in runs:
                    tuned[start] = runs[str(seed)]["accuracy"]
            if {OWN, *(picked[judge] for judge in JUDGES)} <= tuned.keys():
                found.append((picked, tuned))
    return found


def table(jobs: list[Job], budget: int) -> str:
    """A row per cell; then what each judge costs."""
    lines = ["| data | network | picks of the race | default | race | ridge | race − default | regret |", "| --- " * 8 + "|"]
    gains: dict[str, list[tuple[float, float]]] = {judge: [] for judge in JUDGES}
    regrets: list[float] = []
    shares = []
    for job in jobs:
        found = outcomes(job)
        if not found:
            continue
        own = [tuned[OWN] for _, tuned in found]
        chosen = {judge: [tuned[picked[judge]] for picked, tuned in found] for judge in JUDGES}
        for judge in JUDGES:
            gains[judge].append(_mean([a - b for a, b in zip(chosen[judge], own, strict=True)]))
        behind = regret(found)
        regrets += [] if behind is None else [behind]
        shares += [picked["choice"]["steps"] / budget for picked, _ in found]
        names = ", ".join(picked["race"] for picked, _ in found)
        means = [f"{statistics.fmean(values):.1f}" for values in (own, *chosen.values())]
        gain = "{:+.1f} ± {:.1f}".format(*gains["race"][-1])
        told = "" if behind is None else f"{behind:+.1f}"
        lines.append("| " + " | ".join([Path(job.data).name, job.network, names, *means, gain, told]) + " |")
    if not shares:
        return "nothing was run"
    for judge, each in gains.items():
        lost = sum(gain < -1 for gain, _ in each)
        surely = sum(gain < -1 - error for gain, error in each)
        mean = statistics.fmean(gain for gain, _ in each)
        lines.append(
            f"\n{judge}: {mean:+.1f} points on default; of {len(each)} cells {lost} lose more than a point, {surely} of them "
            "beyond the standard error"
        )
    lines.append(f"\ncost of the race: {100 * statistics.fmean(shares):.0f} % of {budget} steps")
    if regrets:
        lines.append(f"\nmean regret of the race: {statistics.fmean(regrets):.1f} points, over {len(regrets)} cells")
    return "\n".join(lines)


def regret(found: list[tuple[dict[str, Any], dict[str, float]]]) -> float | None:
    """Points behind the start that is best in the other seeds; None unless all starts are fine-tuned with several seeds."""
    if len(found) < 2 or any(set(picked["starts"]) != set(tuned) for picked, tuned in found):
        return None
    behind = []
    for k, (picked, tuned) in enumerate(found):
        others = [other for j, (_, other) in enumerate(found) if j != k]
        best = max(tuned, key=lambda start: statistics.fmean(other.get(start, 0.0) for other in others))
        behind.append(tuned[best] - tuned[picked["race"]])
    return statistics.fmean(behind)


def _mean(values: list[float]) -> tuple[float, float]:
    """And its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return statistics.fmean(values), error


def main() -> None:
    """Runs what is left; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--grid", type=Path, required=True, help="the folder of transfer.py's runs")
    parser.add_argument("--ghn", default=ghn_init.DEFAULT)
    parser.add_argument("--networks", nargs="+", choices=transfer.NETWORKS, default=list(transfer.NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=transfer.RATES)
    parser.add_argument("--race-steps", type=int, default=40)
    parser.add_argument("--rungs", type=int, default=3)
    parser.add_argument("--all", action="store_true", help="fine-tune from every start")
    parser.add_argument(
        "--bf16", action=argparse.BooleanOptionalAction, default=True, help="fine-tune in bfloat16 where it is faster"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only-table", action="store_true", help="run nothing")
    options = parser.parse_args()
    for folder in (options.out, options.grid):
        folder.mkdir(parents=True, exist_ok=True)
    race = (options.race_steps, options.rungs)
    common = (range(options.seeds), options.ghn, tuple(options.rates), race, options.all, options.bf16)
    which = itertools.product(options.data, options.networks)
    jobs = [Job(data, net, *common, options.out, options.grid) for data, net in which]
    if not options.only_table:
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            for done in pool.map(run, jobs):
                print(done, flush=True)
    print(table(jobs, transfer.STEPS))


if __name__ == "__main__":
    main()

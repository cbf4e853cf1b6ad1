"""Two objectives at equal hours: does a hypernetwork that is trained for fine-tuning help fine-tuning more?

    python benchmarks/objectives.py DATA [-o FILE] [--minutes 8] [--networks 6]

Hypernetworks start from the same random weights. One is trained on the loss of its predictions (`ZeroShot`), one on the loss
after a few steps of SGD with a fresh head (`FineTune`), one half of the time on either: each for the same processor time, on
six of the data's classes and on small networks of DeepNets-1M. Then networks that none has seen are fine-tuned for 100 steps on
the other classes, from PyTorch's own init and from each hypernetwork's predictions, by `ghn_init.compare`: the learning rate is
tuned the same way for each, on other images than the outcome is measured on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import platform
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init import GHN, GHNConfig, comparison, deepnets
from ghn_init.tasks import Images, load_images
from ghn_init.training.objectives import FineTune, Objective, ZeroShot

RECIPE: dict[str, Any] = {
    "steps": 10**6,
    "meta_batch": 4,
    "batch_size": 64,
    "pool": 200,
    "lr": 1e-3,
    "warmup": 50,
    "cooldown": 0.0,
    "save_minutes": 0.2,
}


class TimeIsUpError(Exception):
    """Ends a run after its minutes."""


def small(split: str, count: int) -> list[deepnets.Arguments]:
    """The first networks of a split, with four cells of 16 channels; without those that nothing passes when so short."""
    return list(itertools.islice(filter(_connected, map(_small, itertools.repeat(split), itertools.count())), count))


def _small(split: str, index: int) -> deepnets.Arguments:
    return replace(deepnets.arguments(split, index), n_cells=4, C=16, fc_dim=64, norm=True)


def _connected(arguments: deepnets.Arguments) -> bool:
    with torch.device("meta"), contextlib.suppress(ghn_init.errors.ArchitectureError):
        return deepnets.DeepNet(arguments) is not None
    return False


def trained(
    images: Images, out: Path, objective: Objective, start: GHN, minutes: float, pool: list[deepnets.DeepNet]
) -> tuple[GHN, int]:
    """A hypernetwork after so many minutes of processor time, and its steps; not trained again where `out` has one."""
    begun = time.process_time()

    def stop(progress: ghn_init.Progress) -> None:
        if time.process_time() - begun > 60 * minutes:
            raise TimeIsUpError

    state = out / "state.safetensors"
    if not state.exists():
        with contextlib.suppress(TimeIsUpError):
            ghn_init.train({"old": images}, out, ghn=start, architectures=pool, objective=objective, on_step=stop, **RECIPE)
    with safe_open(state, "pt") as file:
        names = [name for name in file.keys() if name.startswith("average.")]  # noqa: SIM118
        start.load_state_dict({name.removeprefix("average."): file.get_tensor(name) for name in names})
        return start.eval(), int(file.metadata()["step"])


def subset(images: Images, classes: list[int], size: int) -> Images:
    """The images of some classes, renumbered, at another size."""
    rows = torch.isin(images.labels, torch.tensor(classes))
    pixels = torch.nn.functional.interpolate(images.pixels[rows].float(), size=(size, size), mode="area").round().byte()
    labels = torch.tensor([classes.index(int(label)) for label in images.labels[rows]])
    return Images.from_tensors(pixels, labels)


def loader(images: Images, rows: slice, shuffle: bool) -> DataLoader[tuple[torch.Tensor, ...]]:
    """Normalised batches of 64."""
    return DataLoader(TensorDataset(images.normalise(images.pixels[rows]), images.labels[rows]), 64, shuffle)


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--minutes", type=float, default=8, help="of processor time, for each hypernetwork")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=400, help="for fine-tuning, of the new classes together")
    parser.add_argument("--size", type=int, default=16, help="pixels")
    options = parser.parse_args()
    whole = load_images(options.data, "train")
    old, new = subset(whole, list(range(6)), options.size), subset(whole, list(range(6, 10)), options.size)
    with torch.device("meta"):
        pool = [deepnets.DeepNet(own, 6, options.size) for own in small("train", RECIPE["pool"])]
    fine_tune = FineTune(steps=5, lr=0.05, classes=4)
    phases: dict[str, list[Objective]] = {
        "zero-shot": [ZeroShot()],
        "fine-tune": [fine_tune],
        "zero-shot, then fine-tune": [ZeroShot(), fine_tune],
    }
    inits: dict[str, comparison.Init] = {"default": comparison.named("default")}
    steps: dict[str, str] = {}
    for name, objectives in phases.items():
        torch.manual_seed(0)
        ghn = GHN(GHNConfig.ghn2({"old": 6}, max_shape=(64, 64, 7, 7)))
        counts = []
        for k, objective in enumerate(objectives):
            minutes = options.minutes / len(objectives)
            ghn, count = trained(old, options.out / f"{name}-{k}", objective, ghn, minutes, pool)
            counts.append(f"{count:,}")
        steps[name] = " + ".join(counts)
        inits[name] = comparison.predicted(ghn, example_inputs=torch.zeros(2, 3, options.size, options.size))
    finals: dict[str, list[float]] = {name: [] for name in inits}
    train, val = loader(new, slice(0, options.images), True), loader(new, slice(-2000, None), False)
    tuning = (train, loader(new, slice(-4000, -2000), False))
    for own in small("val", options.networks):
        make = partial(deepnets.DeepNet, own, 4, options.size)
        found = ghn_init.compare(
            make,
            train,
            val,
            inits,
            steps=100,
            seeds=options.seeds,
            rates=(0.01, 0.03, 0.1),
            tuning=tuning,
            checks=1,
            on_run=partial(print, flush=True),
        )
        for name in inits:
            finals[name].append(found.mean(name))
    lines = ["| init | accuracy after 100 steps, % | gap to default | meta-training steps |", "| --- | --- | --- | --- |"]
    for name, values in finals.items():
        gaps = [a - b for a, b in zip(values, finals["default"], strict=True)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
        gap = f"{statistics.fmean(gaps):+.1f} ± {error:.1f}" if name != "default" else ""
        lines.append(f"| {name} | {statistics.fmean(values):.1f} | {gap} | {steps.get(name, '')} |")
    command = f"`python benchmarks/objectives.py DATA --minutes {options.minutes:g} --networks {options.networks}`"
    note = f"{torch.get_num_threads()} thread(s) of an {platform.machine()} CPU, images of {options.size} px, seed 0"
    text = f"{command}, {note}; gaps ± standard error over {options.networks} networks.\n\n" + "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text("# Zero-shot or fine-tune\n\n" + text)


if __name__ == "__main__":
    main()

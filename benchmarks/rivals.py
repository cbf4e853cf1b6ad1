"""Whether rivals' inits do here what their sources say of them: small networks of the sources' kind, few steps, CIFAR-10.

    python benchmarks/rivals.py CIFAR10 -o rivals.json [--steps 300] [--only lsuv]

- `lsuv` (Mishkin and Matas, ICLR 2016, arXiv 1511.06422): deep networks without norms train from it; 17 convolutions as their
  FitNet's, a quarter as wide.
- `dirac`, `whitened` (Jordan 2024, arXiv 2404.00498): fewer steps to the same accuracy; airbench94's network, a quarter as
  wide, with ordinary batch norms and a stem that is trained.
- `mimetic` (Trockman and Kolter, ICML 2023, arXiv 2305.09828), `impulse` (Zheng et al. 2025, arXiv 2505.19985): small vision
  transformers learn faster from scratch; 6 blocks of 96 channels, patches of 4 px, no class token.

SGD with momentum, one cycle, batches of 32, flips. The rate of each init is chosen among five on held-out images after a run
that does not count, then three seeds on 1,000 test images (`transfer.py` has the parts). Runs are kept: the same command goes
on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

import ghn_init
import transfer
from ghn_init import comparison
from ghn_init.saving import save_json
from ghn_init.tasks import Images

RATES = (0.0015, 0.005, 0.015, 0.05, 0.15)
SEEDS, IMAGES, JUDGED, FOR_INIT = 3, 20_000, 1_000, 256


def fitnet() -> nn.Module:
    """17 convolutions, three pools, no norms."""
    layers: list[nn.Module] = []
    inputs = 3
    for widths in ((8, 8, 8, 12, 12), (20,) * 6, (32,) * 6):
        for width in widths:
            layers += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def airbench() -> nn.Module:
    """A stem of 2×2 kernels and three blocks of two convolutions."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
    inputs = 24
    for width in (16, 64, 64):
        layers += [nn.Conv2d(inputs, width, 3, 1, 1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(width), nn.GELU()]
        layers += [nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.GELU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, 10, bias=False))


def transformer() -> nn.Module:
    """A vision transformer for 32 px."""
    size = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 6, "num_heads": 3}
    return VisionTransformer(num_classes=10, class_token=False, global_pool="avg", **size)


CLAIMS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "lsuv": (fitnet, ("default", "orthogonal", "lsuv")),
    "airbench": (airbench, ("default", "dirac", "whitened")),
    "transformers": (transformer, ("default", "mimetic", "impulse")),
}
"""Of what network, and which inits are raced."""


@dataclass(frozen=True)
class Race:
    """Steps, images to train on and to tune by, test images; what was measured before, and where that is kept."""

    steps: int
    train: tuple[Images, Tensor]
    held_out: tuple[Images, Tensor]
    test: tuple[Images, Tensor]
    done: dict[str, float]
    file: Path

    def accuracy(self, claim: str, init: str, rate: float, seed: int) -> float:
        """In percent, of a run that is there or is made; on held-out images with the seed that does not count."""
        key = f"{claim} {init} {self.steps} {rate} {seed}"
        if key not in self.done:
            self.done[key] = self._run(CLAIMS[claim][0], init, rate, seed)
            save_json(self.file, self.done)
            print(key, self.done[key], flush=True)
        return self.done[key]

    def _run(self, make: Callable[[], nn.Module], init: str, rate: float, seed: int) -> float:
        images, rows = self.train
        torch.manual_seed(seed)
        model = make()
        comparison.named(init, images=images.normalise(images.pixels[rows[:FOR_INIT]]))(model, seed)
        model.to(memory_format=torch.channels_last)
        transfer.train(model, images, rows, rate, seed, True, self.steps)
        ghn_init.recalibrate_batchnorm(model, itertools.islice(transfer.batches(images, rows, seed), 20))
        return transfer.tested(model, *(self.held_out if seed == transfer.TUNING_SEED else self.test))


def main() -> None:
    """Runs what is left; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=CLAIMS, default=list(CLAIMS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    images, test = transfer.read(options.data)
    rows = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))[: IMAGES + JUDGED]
    judged = torch.arange(JUDGED)
    race = Race(options.steps, (images, rows[JUDGED:]), (images, rows[:JUDGED]), (test, judged), done, options.out)
    lines = ["| network | init | rate | accuracy, % |", "| --- | --- | --- | --- |"]
    for claim in options.only:
        for init in CLAIMS[claim][1]:
            tuned = {rate: race.accuracy(claim, init, rate, transfer.TUNING_SEED) for rate in RATES}
            best = max(tuned, key=lambda rate: tuned[rate])
            found = [race.accuracy(claim, init, best, seed) for seed in range(SEEDS)]
            error = statistics.stdev(found) / math.sqrt(SEEDS)
            lines.append(f"| {claim} | {init} | {best:g} | {statistics.fmean(found):.1f} ± {error:.1f} |")
    print(f"{options.steps} steps; one thread of an {platform.machine()} CPU, torch {torch.__version__.split('+')[0]}.")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

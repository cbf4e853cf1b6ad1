"""timm models before training on little data: timm's own init, predicted parameters, and conditioned ones.

    python examples/timm_finetuning.py [--model resnet10t] [--steps 40] [--rates 0.02 0.1] [--seeds 1]

200 of scikit-learn's digits, no download. Each way has the same learning rates to choose from.
"""

from __future__ import annotations

import argparse
import statistics

import timm
import torch
from torch import nn

import ghn_init
from before_finetuning import finetune, split

WAYS = {
    "timm": None,
    "predicted": "none",
    "noise": "noise",
    "orthogonal+noise": "orthogonal+noise",
    "orthogonal+noise, scale kept": ghn_init.Conditioning("orthogonal+noise", keep_scale=True),
}


def build(name: str, condition: str | ghn_init.Conditioning | None, ghn: ghn_init.GHN, seed: int) -> nn.Module:
    """A network of ten classes for 32 px images; the classes are new ones, so its head keeps its random weights."""
    model = ghn_init.adapt_stem_(timm.create_model(name, num_classes=10))
    if condition is not None:
        ghn_init.initialize(model, ghn, torch.zeros(2, 3, 32, 32), head=False, seed=seed, condition=condition)
    return model


def main() -> None:
    """Prints mean accuracies of all ways, each at its best learning rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.1])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test-images", type=int, default=500)
    args = parser.parse_args()
    *train, test_images, test_labels = split()
    data = (*train, test_images[: args.test_images], test_labels[: args.test_images])
    ghn = ghn_init.load()
    for way, condition in WAYS.items():
        results: dict[float, list[float]] = {}
        for lr in args.rates:
            for seed in range(args.seeds):
                torch.manual_seed(seed)
                model = build(args.model, condition, ghn, seed)
                results.setdefault(lr, []).append(finetune(model, data, lr, args.steps, seed))
        best = max(results, key=lambda lr: statistics.fmean(results[lr]))
        values = ", ".join(f"{value:.1f}" for value in results[best])
        print(f"{way:28} {statistics.fmean(results[best]):.1f} % (learning rate {best}, seeds: {values})")


if __name__ == "__main__":
    main()

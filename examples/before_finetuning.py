"""Predicted against default initialisation, before training on little data: 200 of scikit-learn's digits, no download.

    python examples/before_finetuning.py [--steps 40] [--rates 0.02 0.1] [--seeds 1]

Both get the same learning rates to choose from: one that is fixed for both would decide the race by itself.
"""

from __future__ import annotations

import argparse
import statistics

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import ghn_init
from digits import digits


def split(train: int = 200) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images, (n, 3, 32, 32) float32 normalised, with (n,) labels."""
    pixels, labels = digits()
    images = (pixels.float() - pixels.float().mean()) / pixels.float().std()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    return images[:train], labels[:train], images[train:], labels[train:]


def small_resnet() -> nn.Module:
    """torchvision's ResNet of four basic blocks, with a stem for small images."""
    model = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model


def finetune(model: nn.Module, data: tuple[Tensor, Tensor, Tensor, Tensor], lr: float, steps: int, seed: int) -> float:
    """Accuracy on the test images, in percent, after SGD with a one-cycle schedule."""
    images, labels, test_images, test_labels = data
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    model.train()
    for _ in range(steps):
        batch = torch.randint(len(images), (32,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(test_images.split(256), test_labels.split(256), strict=True)
        )
    return 100 * right / len(test_labels)


def main() -> None:
    """Prints mean accuracies of both initialisations, each at its best learning rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.1])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test-images", type=int, default=500)
    args = parser.parse_args()
    *train, test_images, test_labels = split()
    data = (*train, test_images[: args.test_images], test_labels[: args.test_images])
    ghn = ghn_init.load()
    for name in ("default", "predicted"):
        results: dict[float, list[float]] = {}
        for lr in args.rates:
            for seed in range(args.seeds):
                torch.manual_seed(seed)
                model = small_resnet()
                if name == "predicted":
                    # The classes are new ones: the head keeps its random weights.
                    ghn_init.initialize(model, ghn, torch.zeros(2, 3, 32, 32), head=False, seed=seed)
                results.setdefault(lr, []).append(finetune(model, data, lr, args.steps, seed))
        best = max(results, key=lambda lr: statistics.fmean(results[lr]))
        values = ", ".join(f"{value:.1f}" for value in results[best])
        print(f"{name:10} {statistics.fmean(results[best]):.1f} % (learning rate {best}, seeds: {values})")


if __name__ == "__main__":
    main()

"""A network for images of your own: predicted, its head fitted in closed form, then fine-tuned.

    python examples/your_own_images.py [DATA] [--model resnet10t] [--image-size 32] [--steps 60] [--rate 0.02]

DATA is a folder with a folder per class in `train` and in `test`, or a hub data set; without it, 400 of scikit-learn's digits,
no download.
"""

from __future__ import annotations

import argparse
import time

import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from digits import digits
from ghn_init.tasks import Images, load_images


def read(data: str | None, image_size: int) -> tuple[Images, Images]:
    """Training and test images."""
    if data is not None:
        train = load_images(data, "train", image_size=image_size)
        return train, load_images(data, "test", like=train)
    pixels, labels = digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train = Images.from_tensors(pixels[order[:400]], labels[order[:400]])
    return train, Images.from_tensors(pixels[order[400:]], labels[order[400:]], like=train)


def loader(images: Images, shuffle: bool) -> DataLoader[tuple[torch.Tensor, ...]]:
    """(images, labels), as the network is initialised, trained and tested with them."""
    return DataLoader(TensorDataset(images.normalise(images.pixels), images.labels), 32, shuffle)


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    """In percent."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in loader(test, shuffle=False))
    return 100 * right / len(test.labels)


def finetune(model: nn.Module, train: Images, steps: int, rate: float) -> None:
    """A moderate rate without warm-up: the head has been fitted, so nothing has to wait for it (docs/your_data.md)."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for step in range(steps):
        pixels, labels = train.batch(step, 32, seed=0)  # augmented
        optimizer.zero_grad()
        F.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    """Prints what is known of the network before and after training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rate", type=float, default=0.02)
    args = parser.parse_args()
    torch.manual_seed(0)
    train, test = read(args.data, args.image_size)
    model = timm.create_model(args.model, num_classes=train.num_classes)
    reports: list[ghn_init.Report] = []
    ghn_init.initialize(model, data=loader(train, shuffle=True), on_report=reports.append)
    print(reports[0].fit)
    print(f"test accuracy before training: {accuracy(model, test):.1f} %")
    started = time.perf_counter()
    finetune(model, train, args.steps, args.rate)
    print(f"after {args.steps} steps, {time.perf_counter() - started:.0f} s: {accuracy(model, test):.1f} %")


if __name__ == "__main__":
    main()

"""From a folder of images to a trained network: choose a network, choose where it starts, train it.

    python examples/choose_a_network.py [FOLDER] [--models resnet10t mobilenetv3_small_050] [--image-size 32] [--steps 40]

FOLDER has a folder per class in `train` and in `test`; without it, one of shapes is drawn into a temporary place.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ghn_init
from ghn_init.tasks import Images, load_images

SHAPES = ("ellipse", "rectangle", "line")


def draw_shapes(folder: Path, train: int, test: int) -> None:
    """So many images of each shape, of random colours and places, as PNG files in a folder per class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for shape in SHAPES:
            (folder / split / shape).mkdir(parents=True)
            for k in range(count):
                ground, colour = (tuple(map(int, rng.integers(0, 256, 3))) for _ in range(2))
                image = Image.new("RGB", (32, 32), ground)
                left, top, width, height = map(int, (*rng.integers(2, 14, 2), *rng.integers(10, 16, 2)))
                options = {"fill": colour, **({"width": 3} if shape == "line" else {})}
                getattr(ImageDraw.Draw(image), shape)((left, top, left + width, top + height), **options)
                image.save(folder / split / shape / f"{k}.png")


def loader(images: Images, shuffle: bool = False) -> DataLoader[tuple[torch.Tensor, ...]]:
    """(images, labels), as networks are ranked, started, trained and tested with them."""
    return DataLoader(TensorDataset(images.normalise(images.pixels), images.labels), 32, shuffle)


def halves(images: Images) -> tuple[Images, Images]:
    """Four fifths to train on and a fifth to judge by: the test images decide nothing."""
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(0))
    cut = len(order) * 4 // 5
    first, second = (
        Images.from_tensors(images.pixels[rows], images.labels[rows], images) for rows in (order[:cut], order[cut:])
    )
    return first, second


def train(model: nn.Module, images: Images, steps: int, rate: float) -> None:
    """A short fine-tuning."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for step in range(steps):
        pixels, labels = images.batch(step, 32, seed=0)
        optimizer.zero_grad()
        F.cross_entropy(model(pixels), labels).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, test: Images) -> float:
    """In percent."""
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in loader(test))
    return 100 * right / len(test.labels)


def main() -> None:
    """Prints a ranking, a choice and an accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--models", nargs="+", default=["resnet10t", "mobilenetv3_small_050", "test_vit"])
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--drawn", type=int, default=100, help="images per shape, where they are drawn")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "shapes"
        if args.folder is None:
            draw_shapes(folder, args.drawn, args.drawn // 2)
        images = load_images(folder, "train", image_size=args.image_size)
        test = load_images(folder, "test", like=images)

    few = max(args.steps // 2, 2)
    ranking = ghn_init.rank(args.models, *map(loader, halves(images)), steps=few)
    print(ranking)

    torch.manual_seed(0)
    model = timm.create_model(ranking.best, num_classes=images.num_classes)
    choice = ghn_init.choose(model, loader(images, shuffle=True), steps=few, rungs=2)
    print(choice)

    train(model, images, args.steps, args.rate)
    print(f"{ranking.best} from {choice.chosen} after {args.steps} steps: {accuracy(model, test):.1f} % of the test images")


if __name__ == "__main__":
    main()

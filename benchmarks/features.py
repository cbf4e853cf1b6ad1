"""What is left of predicted features after conditioning: accuracy of a linear classifier on them, before any training.

    python benchmarks/features.py PHOTOGRAPHS [--seeds 3] [--images 1500]

For networks of `benchmarks/transfer.py` and each init: batch norms recalibrated on the images, the head fitted to them in
closed form (`ghn_init.fit_head_`), its leave-one-out accuracy; mean of the seeds and the standard error.
"""

from __future__ import annotations

import argparse
import platform
from statistics import fmean, stdev
from typing import Any

import torch

import ghn_init
import transfer
from ghn_init import Conditioning, comparison
from ghn_init.tasks import load_images

NETWORKS = ("deepnets-0", "deepnets-1", "mobilenet-v3", "efficientnet", "ghostnet", "vit")
INITS: dict[str, Any] = {
    "default": None,
    "orthogonal": "orthogonal",
    "predicted": "auto",
    "predicted, orthogonal+noise": "orthogonal+noise",
    "the same, weights alone": Conditioning("orthogonal+noise", vectors=False),
}


def accuracy(name: str, init: str, seed: int, images: ghn_init.Images) -> float:
    """Leave-one-out, in percent."""
    torch.manual_seed(seed)
    model = transfer.network(name, images.num_classes, images.pixels.shape[2])
    if init == "orthogonal":
        comparison.orthogonal(model, seed)
    elif init != "default":
        inputs = torch.zeros(2, *images.pixels.shape[1:])
        ghn_init.initialize(model, example_inputs=inputs, head=False, seed=seed, condition=INITS[init])
    pairs = zip(images.normalise(images.pixels).split(50), images.labels.split(50), strict=True)
    return ghn_init.fit_head_(model, list(pairs)).accuracy


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_images(options.data, "train", image_size=transfer.SIDE, limit=options.images)
    print("| network | " + " | ".join(INITS) + " |\n" + "| --- " * (len(INITS) + 1) + "|")
    for name in NETWORKS:
        cells = []
        for init in INITS:
            found = [accuracy(name, init, seed, images) for seed in range(options.seeds)]
            cells.append(f"{fmean(found):.1f} ± {stdev(found) / len(found) ** 0.5:.1f}")
        print("| " + " | ".join([name, *cells]) + " |", flush=True)
    print(f"\n{len(images.labels)} images, {options.seeds} seeds; one thread, {platform.machine()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()

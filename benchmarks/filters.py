"""Draws the first layer's filters of a ResNet-56 for CIFAR-10: as it is made, as predicted, and as trained.

    python benchmarks/filters.py resnet56.safetensors -o docs/pictures/filters.png

Prints the root mean squares, which the picture doesn't show.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

import ghn_init
from ghn_init.viz.filters import draw
from meta_training import ResNet56

NAME = "conv1.weight"


def main() -> None:
    """Draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="a safetensors file of the same network")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = ResNet56()
    predicted = ghn_init.predict(model, example_inputs=torch.zeros(2, 3, 32, 32)).tensors[NAME]
    weights = {"default init": model.get_parameter(NAME), "predicted": predicted, "trained": load_file(options.trained)[NAME]}
    draw(weights, options.out)
    for title, weight in weights.items():
        print(title, f"{weight.detach().float().square().mean().sqrt():.3f}")


if __name__ == "__main__":
    main()

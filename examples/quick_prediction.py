"""How well is an architecture covered, and how fast, without training it? Runs on a CPU.

    python examples/quick_prediction.py [resnet50 convnext_tiny ...]

Models are built on the meta device, so that nothing is spent on random weights that would be overwritten.
"""

from __future__ import annotations

import sys
import time

import timm
import torch

import ghn_init


def main(names: list[str]) -> None:
    """A line per timm model."""
    ghn = ghn_init.load()
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=10)
        started = time.perf_counter()
        prediction = ghn_init.predict(model, ghn)
        seconds = time.perf_counter() - started
        weight = next(tensor for tensor in prediction.tensors.values() if tensor.dim() == 4)
        print(f"{name}: {prediction.report.summary}, {seconds:.2f} s; first kernel {tuple(weight.shape)}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["resnet18", "mobilenetv3_small_100", "vit_tiny_patch16_224"])

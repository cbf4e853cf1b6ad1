"""Images that need no download: scikit-learn's handwritten digits, for examples and benchmarks."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F


def digits() -> tuple[Tensor, Tensor]:
    """1,797 digits of 8 × 8 pixels, enlarged and in colour: (n, 3, 32, 32) uint8, and (n,) labels."""
    data = load_digits()
    grey = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    pixels = F.interpolate(grey, size=(32, 32), mode="bilinear").round().byte()
    return pixels.repeat(1, 3, 1, 1), torch.from_numpy(data.target)

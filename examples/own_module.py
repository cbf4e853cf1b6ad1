"""Your own architecture, for which no pretrained weights exist: what is predicted, what is kept, and why.

python examples/own_module.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ghn_init


class TwoViews(nn.Module):
    """Takes an image and a vector; mixes them with a learned gate that no primitive covers."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU())
        self.vector = nn.Linear(16, 64)
        self.gate = nn.Parameter(torch.ones(64))
        self.norm = nn.LayerNorm(64)
        self.head = nn.Linear(64, classes)

    def forward(self, image: Tensor, vector: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) images and (B, 16) vectors → (B, classes) logits."""
        features = self.image(image).mean((2, 3)) + self.gate * self.vector(vector)
        return {"logits": self.head(self.norm(features))}


def main() -> None:
    """Prints the report, writes the prediction, runs the model."""
    model = TwoViews()
    inputs = {"image": torch.zeros(2, 3, 32, 32), "vector": torch.zeros(2, 16)}
    prediction = ghn_init.predict(model, example_inputs=inputs)
    print(prediction.report)
    for name, reason in prediction.kept.items():
        print(f"kept: {name}: {reason}")
    prediction.apply_()
    logits = model(torch.randn(4, 3, 32, 32), torch.randn(4, 16))["logits"]
    print(f"logits of four random inputs have standard deviation {logits.std().item():.2f}")


if __name__ == "__main__":
    main()

"""The heads: what a hypernetwork knows of each task alone. Everything before them serves all tasks."""

# Axes: n nodes, O/I output/input channels, M0 the decoder's largest number of output channels

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.hypernetwork.config import GHNConfig
from ghn_init.hypernetwork.decoder import ConvDecoder, Cuts


class Head(nn.Module):
    """Makes the last layer of the networks that solve one task.

    Source: the classification layer's decoder of GHN-1 and GHN-2 (`class_layer_predictor`, `bias_class`).
    """

    def __init__(self, config: GHNConfig, outputs: int) -> None:
        super().__init__()
        M0, M1 = config.max_shape[:2]
        self.outputs = outputs
        self.to_weight = nn.Linear(M0, outputs)
        self.to_bias = nn.Linear(max(M0, M1), outputs)

    def weight(self, decoder: ConvDecoder, h: Tensor, cuts: Cuts, in_channels: int) -> Tensor:
        """(n, D) → (n, outputs, I): the decoder's 1×1 tensor, ReLU, then a linear map over its M0 axis."""
        kernels = decoder(h, cuts, decoder.out_channels, in_channels, (1, 1))[..., 0, 0]
        return self.to_weight(F.relu(kernels).transpose(1, 2)).transpose(1, 2)

    def bias(self, decoded: Tensor) -> Tensor:
        """(max(M0, M1),) → (outputs,)."""
        return self.to_bias(F.relu(decoded))

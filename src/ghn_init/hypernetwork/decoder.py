"""Decoders: node embedding → the largest tensor that the hypernetwork produces, of which only what is needed is computed."""

# Axes: n nodes, D hidden, O/I output/input channels, H/W kernel, M0/M1/S the decoder's largest output/input channels/kernel

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.hypernetwork.blocks import Block, blocks
from ghn_init.hypernetwork.config import GHNConfig


class Cuts(NamedTuple):
    """The parts of a decoder's first and last layer that some sizes need: weights and biases by block."""

    first: dict[Block, tuple[Tensor, Tensor]]
    last: dict[Block, tuple[Tensor, Tensor]]


class ConvDecoder(nn.Module):
    """D → (M0, M1, S, S): a linear layer makes 4D features for each of S × S positions, two 1×1 convolutions the channels."""

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        hid = config.hid
        self.out_channels, self.in_channels, self.kernel, _ = config.max_shape
        self.centred = config.layers > 0
        self.fc = nn.Sequential(nn.Linear(hid, 4 * hid * self.kernel**2), nn.ReLU())
        # The published 1×1 convolutions, stored as linear maps.
        self.conv = nn.Sequential(
            nn.Linear(4 * hid, 8 * hid), nn.ReLU(), nn.Linear(8 * hid, self.out_channels * self.in_channels)
        )

    def cut(self, sizes: Iterable[tuple[int, int, int, int]]) -> Cuts:
        """What `forward` needs for tensors of these sizes (O, I, H, W)."""
        sizes, S = list(sizes), self.kernel
        first, last = cast(nn.Linear, self.fc[0]), cast(nn.Linear, self.conv[2])
        kernels = [self._kernel((H, W)) for _, _, H, W in sizes]
        channels = [Block(0, 0, out, into) for out, into, _, _ in sizes]
        weights = blocks(first.weight.view(-1, S, S, first.in_features).permute(1, 2, 0, 3), kernels)
        biases = blocks(first.bias.view(-1, S, S).permute(1, 2, 0), kernels)
        last_weights = blocks(last.weight.view(self.out_channels, self.in_channels, -1), channels)
        last_biases = blocks(last.bias.view(self.out_channels, self.in_channels), channels)
        return Cuts(
            {block: (weights[block], biases[block]) for block in weights},
            {block: (last_weights[block], last_biases[block]) for block in last_weights},
        )

    def forward(self, h: Tensor, cuts: Cuts, out_channels: int, in_channels: int, kernel: tuple[int, int]) -> Tensor:
        """(n, D) → (n, O, I, H, W), O ≤ M0, I ≤ M1; interpolated where the kernel exceeds S."""
        (H, W), block = kernel, self._kernel(kernel)
        weight, bias = cuts.first[block]
        features = F.relu(F.linear(h, weight.reshape(-1, weight.shape[-1]), bias.reshape(-1)))
        features = self.conv[1](self.conv[0](features.view(h.shape[0], block.rows, block.columns, -1)))
        weight, bias = cuts.last[Block(0, 0, out_channels, in_channels)]
        kernels = F.linear(features, weight.flatten(0, 1), bias.flatten())
        kernels = kernels.view(h.shape[0], block.rows, block.columns, out_channels, in_channels).permute(0, 3, 4, 1, 2)
        if (block.rows, block.columns) != (H, W):
            kernels = F.interpolate(kernels.flatten(0, 1), size=(H, W), mode="bilinear").view(*kernels.shape[:3], H, W)
        return kernels

    def _kernel(self, kernel: tuple[int, int]) -> Block:
        """Its positions: smaller kernels are the top left corner of the S × S grid, a GHN-3's are its centre."""
        S = self.kernel
        rows, columns = kernel if max(kernel) <= S else (S, S)
        return Block(*(S // 2 - rows // 2, S // 2 - columns // 2) if self.centred else (0, 0), rows, columns)


class VectorDecoder(nn.Module):
    """D → (2, max(M0, M1)): row 0 is a norm's weight, row 1 any bias."""

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        hid = config.hid
        self.length = max(config.max_shape[:2])
        self.fc = nn.Sequential(nn.Linear(hid, 2 * hid), nn.ReLU(), nn.Linear(2 * hid, 2 * self.length))

    def forward(self, h: Tensor) -> Tensor:
        """(n, D) → (n, 2, max(M0, M1))."""
        return self.fc(h).view(-1, 2, self.length)

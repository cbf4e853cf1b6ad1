"""The operations of the search space as modules: (B, C, H, W) → (B, C', H', W').

Inside a convolution operation the order is ReLU, convolution without bias, norm.
"""

# Axes: B images, N positions, C channels, H/W space

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def operation(name: str, channels: int, stride: int, norm: bool) -> nn.Module:
    """The module of an operation's name (not `none`); channels stay as they are."""
    kind, _, kernel = name.rpartition("_")
    match name:
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, norm)
        case "msa":
            return SelfAttention(channels, stride)
        case "cse":
            return SqueezeExcite(channels, stride)
        case "conv_7x1_1x7":
            return relu_conv_norm(channels, channels, norm, [(1, 7), (7, 1)], stride)
    size = int(kernel[0])
    match kind:
        case "max_pool":
            return nn.MaxPool2d(size, stride, size // 2)
        case "avg_pool":
            return nn.AvgPool2d(size, stride, size // 2, count_include_pad=False)
        case "conv":
            return relu_conv_norm(channels, channels, norm, [(size, size)], stride)
        case "sep_conv":
            return nn.Sequential(*_separable(channels, size, stride, norm), *_separable(channels, size, 1, norm))
        case "dil_conv":
            return _separable(channels, size, stride, norm, dilation=2)
    raise KeyError(name)


def batch_norm(channels: int, norm: bool) -> nn.Module:
    """A batch norm that uses the batch's statistics always, since running ones are not predicted; or nothing."""
    return nn.BatchNorm2d(channels, track_running_stats=False) if norm else nn.Identity()


def relu_conv_norm(i: int, o: int, norm: bool, kernels: list[tuple[int, int]] | None = None, stride: int = 1) -> nn.Sequential:
    """ReLU, one convolution for each kernel, a 1×1 one by default, norm; a 1-D kernel strides along its own axis."""
    layers: list[nn.Module] = [nn.ReLU()]
    kernels = kernels or [(1, 1)]
    for position, kernel in enumerate(kernels):
        last = position == len(kernels) - 1
        strides = tuple(stride if k > 1 or len(kernels) == 1 else 1 for k in kernel)
        padding = (kernel[0] // 2, kernel[1] // 2)
        layers.append(nn.Conv2d(i, o if last else i, kernel, (strides[0], strides[1]), padding, bias=False))
    return nn.Sequential(*layers, batch_norm(o, norm))


def _separable(channels: int, size: int, stride: int, norm: bool, dilation: int = 1) -> nn.Sequential:
    """ReLU, depthwise and pointwise convolution, norm."""
    padding = dilation * (size // 2)
    depthwise = nn.Conv2d(channels, channels, size, stride, padding, dilation, groups=channels, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 1, bias=False), batch_norm(channels, norm))


class FactorizedReduce(nn.Module):
    """Halves the resolution: two strided 1×1 convolutions, one of them shifted by a pixel, side by side, then the norm."""

    def __init__(self, i: int, o: int, norm: bool) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(i, o // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(i, o // 2, 1, 2, bias=False)
        self.bn = batch_norm(o, norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', ⌈H/2⌉, ⌈W/2⌉); beyond an odd side the shifted convolution reads zeros."""
        x = F.relu(x)
        shifted = x[:, :, 1:, 1:]
        right, below = x.shape[3] % 2, x.shape[2] % 2
        if right or below:
            shifted = F.pad(shifted, (0, right, 0, below))
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(shifted)], dim=1))


class Subsample(nn.Module):
    """Every second pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, ⌈H/2⌉, ⌈W/2⌉)."""
        return x[:, :, ::2, ::2]


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that is computed from their means; the gate is a hard swish, as published."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 2)
        self.fc2 = nn.Linear(channels // 2, channels)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/stride, W/stride)."""
        gate = F.hardswish(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))
        return (x * gate[:, :, None, None])[:, :, :: self.stride, :: self.stride]


class SelfAttention(nn.Module):
    """Pre-norm self-attention of 8 heads over all positions and a feed-forward part, both with a residual."""

    HEADS = 8

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.ff = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/stride, W/stride)."""
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.to_qkv(self.ln1(tokens)).unflatten(2, (3, self.HEADS, -1)).permute(2, 0, 3, 1, 4)
        tokens = tokens + self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        tokens = tokens + self.ff(self.ln2(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])[:, :, :: self.stride, :: self.stride]


class Positions(nn.Module):
    """Adds a learned embedding to each position."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, channels, size, size))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return x + self.weight

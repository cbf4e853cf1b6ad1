"""Networks of two benchmarks whose accuracies after full training are published: NAS-Bench-201 and NAS-Bench-Macro.

Sources: Dong and Yang, ICLR 2020 (arXiv 2001.00326), section 2: 3 stages of 5 cells of 16, 32, 64 channels, each edge of a cell
one of 5 operations. Su et al., CVPR 2021 (arXiv 2103.11922), appendix: 8 layers, each identity or one of 2 inverted residuals.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS, CELLS = (16, 32, 64), 5
MACRO = ((64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1), (256, 1))
"""Output channels and stride of each layer."""


def relu_conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """What the benchmark calls `nor_conv`."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs))


def operation(name: str, channels: int) -> nn.Module | None:
    """An edge; None for `none`, which is left out of the graph."""
    if name == "none":
        return None
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return relu_conv_norm(channels, channels, int(name[-1]))


class Cell(nn.Module):
    """Four nodes, each the sum of operations on those before it."""

    def __init__(self, arch: str, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        self.places: list[list[int]] = []
        for node, part in enumerate(arch.split("+"), 1):
            self.places.append([])
            for edge in part.strip("|").split("|"):
                name, _, source = edge.partition("~")
                made = operation(name, channels)
                if made is not None:
                    self.edges[f"{source}-{node}"] = made
                    self.places[-1].append(int(source))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        nodes = [x]
        for node, sources in enumerate(self.places, 1):
            values = [self.edges[f"{source}-{node}"](nodes[source]) for source in sources]
            nodes.append(sum(values[1:], values[0]) if values else torch.zeros_like(x))
        return nodes[-1]


class Reduction(nn.Module):
    """A residual block of stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(relu_conv_norm(inputs, outputs, 3, 2), relu_conv_norm(outputs, outputs, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H / 2, W / 2)."""
        return self.shortcut(x) + self.body(x)


def nasbench201(arch: str, classes: int) -> nn.Module:
    """A network, from `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`."""
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(CHANNELS[0])]
    for k, channels in enumerate(CHANNELS):
        if k:
            layers.append(Reduction(CHANNELS[k - 1], channels))
        layers += [Cell(arch, channels) for _ in range(CELLS)]
    end = [nn.BatchNorm2d(CHANNELS[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], classes)]
    return nn.Sequential(*layers, *end)


class Inverted(nn.Module):
    """An inverted residual, as MobileNetV2 has them."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.body = nn.Sequential(
            *conv_norm(inputs, hidden, 1), nn.ReLU(),
            *conv_norm(hidden, hidden, kernel, stride, hidden), nn.ReLU(),
            *conv_norm(hidden, outputs, 1),
        )  # fmt: skip
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        return x + self.body(x) if self.residual else self.body(x)


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its norm."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]


def macro(arch: str, classes: int) -> nn.Module:
    """A network, from eight digits: 0 identity, 1 expansion 3 and kernel 3, 2 expansion 6 and kernel 5."""
    layers: list[nn.Module] = [*conv_norm(3, 32, 3), nn.ReLU()]
    inputs = 32
    for digit, (outputs, stride) in zip(arch, MACRO, strict=True):
        if digit != "0":
            layers.append(Inverted(inputs, outputs, stride, *((3, 3) if digit == "1" else (6, 5))))
        elif stride > 1 or inputs != outputs:
            layers += conv_norm(inputs, outputs, 1, stride)
        inputs = outputs
    end = [*conv_norm(inputs, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, classes)]
    return nn.Sequential(*layers, *end)


SPACES = {"nasbench201": nasbench201, "macro": macro}

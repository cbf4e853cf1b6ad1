"""Random convolutional architectures: (split, index) → blueprint → module.

Blueprints are drawn deterministically, so a split needs no files: `blueprint("test", 7)` is the same network everywhere.
Splits: `train`; `test`, unseen draws from the same distribution; `wide`, twice the channels; `deep`, 2.5 times the blocks.
"""

# Axes: B images, N tokens, C channels, H/W space

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

SPLITS = ("train", "test", "wide", "deep")
BLOCKS = {
    "basic": 0.25,
    "bottleneck": 0.17,
    "plain": 0.13,
    "inverted": 0.13,
    "separable": 0.1,
    "dense": 0.06,
    "inception": 0.05,
    "convnext": 0.06,
    "transformer": 0.05,
}


@dataclass(frozen=True)
class Stage:
    """`depth` blocks of one kind; the first one has the stride."""

    block: str
    width: int
    depth: int
    kernel: int
    stride: int
    gate: bool


@dataclass(frozen=True)
class Blueprint:
    """Everything that tells one random network from another. `norm` is bn, gn or none; `hidden` 0 means a linear head."""

    stem_kernel: int
    stem_stride: int
    stem_pool: bool
    norm: str
    activation: str
    stages: tuple[Stage, ...]
    grid: int
    hidden: int


def blueprint(split: str, index: int, seed: int = 0) -> Blueprint:
    """The `index`-th network of a split.

    Raises:
        ValueError: The split is unknown.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}.")
    family = "train" if split == "train" else "test"
    rng = random.Random(f"{seed}/{family}/{index}")
    drawn = _draw(rng)
    if split == "wide":
        return replace(drawn, stages=tuple(replace(s, width=2 * s.width) for s in drawn.stages))
    if split == "deep":
        return replace(drawn, stages=tuple(replace(s, depth=round(2.5 * s.depth)) for s in drawn.stages))
    return drawn


def _draw(rng: random.Random) -> Blueprint:
    stem_kernel, stem_stride = rng.choices([(3, 1), (5, 1), (3, 2), (7, 2), (4, 4)], [0.3, 0.05, 0.35, 0.15, 0.15])[0]
    # A step's time goes into the widest maps: narrow networks at full resolution, wide ones below.
    widths = {1: [16, 16, 24, 32], 2: [24, 32, 48, 64], 4: [48, 64, 96]}
    width = rng.choice(widths[stem_stride])
    stem_pool = stem_stride < 4 and rng.random() < 0.15
    stages, small = [], stem_stride * (2 if stem_pool else 1)
    main = _draw_block(rng)
    for number in range(rng.choices([2, 3, 4], [0.2, 0.65, 0.15])[0]):
        stride = 2 if number and small < 8 else 1
        small *= stride
        block = main if rng.random() < 0.7 else _draw_block(rng)
        if small < _LEAST_STRIDE.get(block, 1) or (block == "transformer" and small > 8):
            block = "basic"
        kernel = 7 if block == "convnext" else rng.choices([3, 5, 1, 7], [0.8, 0.12, 0.04, 0.04])[0]
        kernel = min(kernel, 3) if small < 2 else kernel
        depth = rng.choices([1, 2, 3], [0.45, 0.4, 0.15])[0]
        stages.append(Stage(block, width, depth, kernel, stride, rng.random() < 0.2))
        width = min(width * rng.choices([1, 2], [0.25, 0.75])[0], 128)
    blocks = sum(stage.depth for stage in stages)
    norm = rng.choices(["bn", "gn", "none"], [0.9, 0.05, 0.05])[0]
    return Blueprint(
        stem_kernel=stem_kernel,
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        norm="bn" if norm == "none" and blocks > 4 else norm,
        activation=rng.choices(["relu", "silu", "gelu"], [0.7, 0.15, 0.15])[0],
        stages=tuple(stages),
        grid=1 if rng.random() < 0.9 else 2,
        hidden=rng.choice([64, 128, 256]) if rng.random() < 0.25 else 0,
    )


def _draw_block(rng: random.Random) -> str:
    return rng.choices(list(BLOCKS), list(BLOCKS.values()))[0]


class RandomNet(nn.Module):
    """The network of a blueprint: stem, stages, pooling, head. (B, 3, H, W) → (B, classes).

    Batch norms use batch statistics always, as the evaluation of predicted parameters does.
    """

    def __init__(self, plan: Blueprint, num_classes: int, image_size: int = 32) -> None:
        super().__init__()
        parts = _Parts(plan)
        width = plan.stages[0].width
        padding = 0 if plan.stem_kernel == plan.stem_stride else plan.stem_kernel // 2
        stem = [nn.Conv2d(3, width, plan.stem_kernel, plan.stem_stride, padding, bias=plan.norm == "none")]
        self.stem = nn.Sequential(*stem, parts.norm(width), parts.activation())
        size = (image_size + 2 * padding - plan.stem_kernel) // plan.stem_stride + 1
        if plan.stem_pool:
            self.stem.append(nn.MaxPool2d(3, 2, 1))
            size = (size + 1) // 2
        stages: list[nn.Module] = []
        for stage in plan.stages:
            size = -(-size // stage.stride)
            stages.append(parts.stage(width, stage, size))
            width = stage.width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(plan.grid)
        features = width * plan.grid**2
        hidden = [nn.Linear(features, plan.hidden), nn.ReLU()] if plan.hidden else []
        self.head = nn.Sequential(*hidden, nn.Linear(plan.hidden or features, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.pool(self.stages(self.stem(x))).flatten(1))


class _Parts:
    """Makes blocks in a blueprint's norm and activation."""

    def __init__(self, plan: Blueprint) -> None:
        self.plan = plan

    def norm(self, width: int) -> nn.Module:
        if self.plan.norm == "bn":
            return nn.BatchNorm2d(width, track_running_stats=False)
        return nn.GroupNorm(min(8, width // 4), width) if self.plan.norm == "gn" else nn.Identity()

    def activation(self) -> nn.Module:
        return {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}[self.plan.activation]()

    def conv(self, i: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
        """Convolution, norm, activation; every third grouped convolution of odd size is dilated."""
        dilation = 2 if groups > 1 and kernel == 3 and o % 3 == 0 else 1
        padding = dilation * (kernel // 2)
        layer = nn.Conv2d(i, o, kernel, stride, padding, dilation, groups, bias=self.plan.norm == "none")
        return nn.Sequential(layer, self.norm(o), *([self.activation()] if act else []))

    def stage(self, i: int, stage: Stage, size: int) -> nn.Sequential:
        first: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)] if stage.block in _POOLED and stage.stride > 1 else []
        if stage.block in _POOLED and i != stage.width:
            first.append(self.conv(i, stage.width))
            i = stage.width
        if stage.block == "transformer":
            first.append(Positions(size, stage.width))
        blocks = []
        for number in range(stage.depth):
            stride = 1 if number or stage.block in _POOLED else stage.stride
            blocks.append(self.block(i, stage, stride))
            i = stage.width
        return nn.Sequential(*first, *blocks)

    def block(self, i: int, stage: Stage, stride: int) -> nn.Module:
        o, k, act = stage.width, stage.kernel, self.activation
        gate = [Gate(o, self.activation())] if stage.gate else []
        match stage.block:
            case "plain":
                return nn.Sequential(self.conv(i, o, k, stride), *gate)
            case "separable":
                return nn.Sequential(self.conv(i, i, k, stride, groups=i), self.conv(i, o), *gate)
            case "basic":
                body = nn.Sequential(self.conv(i, o, k, stride), self.conv(o, o, k, act=False), *gate)
            case "bottleneck":
                inner = max(o // 2, 8)
                body = nn.Sequential(self.conv(i, inner), self.conv(inner, inner, k, stride), self.conv(inner, o, act=False))
                body.extend(gate)
            case "inverted":
                inner = 2 * i
                gate = [Gate(inner, self.activation())] if stage.gate else []
                depthwise = self.conv(inner, inner, k, stride, groups=inner)
                body = nn.Sequential(self.conv(i, inner), depthwise, *gate, self.conv(inner, o, act=False))
                return Residual(body, nn.Identity()) if stride == 1 and i == o else body
            case "dense":
                return nn.Sequential(Concat(nn.Identity(), self.conv(i, 24, k)), self.conv(i + 24, o), *gate)
            case "inception":
                pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), self.conv(i, o // 4))
                spatial = nn.Sequential(self.conv(i, o // 2), self.conv(o // 2, o // 2, k))
                return nn.Sequential(Concat(self.conv(i, o // 4), spatial, pooled), *gate)
            case "convnext":
                return ConvNeXt(o, k)
            case _:
                return Transformer(o)
        shortcut = nn.Identity() if stride == 1 and i == o else self.conv(i, o, 1, stride, act=False)
        return nn.Sequential(Residual(body, shortcut), act())


_LEAST_STRIDE = {"transformer": 4, "convnext": 2, "inverted": 2}
"""Blocks whose cost at full resolution would take most of a step."""

_POOLED = frozenset({"dense", "inception", "convnext", "transformer"})
"""Blocks that can't change the resolution: a pool and a 1×1 convolution before them do."""


class Residual(nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W')."""
        return self.body(x) + self.shortcut(x)


class Concat(nn.Module):
    """Branches side by side along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class Gate(nn.Module):
    """Squeeze-and-excite."""

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        inner = max(width // 4, 8)
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), activation, nn.Conv2d(inner, width, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return x * self.layers(x)


class ConvNeXt(nn.Module):
    """Depthwise convolution, layer norm, two linear layers, residual."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return x + self.mlp(self.depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Positions(nn.Module):
    """Adds a learned embedding to each position."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, size * size, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return (x.flatten(2).transpose(1, 2) + self.embedding).transpose(1, 2).unflatten(2, x.shape[2:])


class Transformer(nn.Module):
    """Pre-norm self-attention and MLP over all positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // 16, 1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(attended)
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])

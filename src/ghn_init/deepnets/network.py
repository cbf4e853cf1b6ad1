"""A network of the distribution: stem → n cells → head, as an ordinary module."""

# Axes: B images, C channels, H/W space

from __future__ import annotations

import torch
from torch import Tensor, nn

from ghn_init.deepnets.arguments import Arguments
from ghn_init.deepnets.genotype import Edge
from ghn_init.deepnets.operations import FactorizedReduce, Positions, Subsample, batch_norm, operation, relu_conv_norm
from ghn_init.deepnets.wiring import CellWiring, wire
from ghn_init.errors import ArchitectureError


class DeepNet(nn.Module):
    """The network of `arguments`: (B, 3, H, W) → (B, classes). What cannot reach the output is not built.

    Args:
        arguments: What to build.
        num_classes: Outputs.
        image_size: H = W in pixels; above 32 the stem strides as published for ImageNet, by 4 or by patches of 16.

    Raises:
        ArchitectureError: Nothing arrives at the output.
    """

    def __init__(self, arguments: Arguments, num_classes: int = 10, image_size: int = 32) -> None:
        super().__init__()
        genotype = arguments.genotype
        reductions = {arguments.n_cells // 3, 2 * arguments.n_cells // 3} - {0}
        halves = {
            False: (genotype.normal, genotype.normal_concat),
            True: (genotype.reduce, genotype.reduce_concat),
        }
        plans = [halves[k in reductions] for k in range(arguments.n_cells)]
        wirings = wire(plans)
        if wirings is None:
            raise ArchitectureError(f"no path leads through the cells of {genotype}; draw another genotype.")
        self.arguments = arguments
        self.stem = Stem(arguments, image_size, needs_second=any(_uses_last(wirings, k) for k in (0, 1)))
        (before, last), width = self.stem.channels, arguments.C
        size = self.stem.size
        self.cells = nn.ModuleList()
        halved = not genotype.attention and arguments.stem_type == 1  # the two inputs of a cell differ in resolution
        for k, wiring in enumerate(wirings):
            reduction = k in reductions
            width *= arguments.C_mult if reduction else 1
            edges, concat = plans[k]
            stride = 2 if reduction and not genotype.attention else 1
            if wiring is None:
                self.cells.append(nn.Identity())
            else:
                self.cells.append(Cell(arguments, edges, concat, wiring, before, last, width, halved, stride))
            before, last = last, len(concat) * width
            size = -(-size // stride)
            halved = stride == 2
        self.unused = frozenset(k for k, wiring in enumerate(wirings) if wiring is None)
        features = last * (1 if arguments.glob_avg else size**2)
        self.pool = nn.AdaptiveAvgPool2d(1) if arguments.glob_avg else nn.Identity()
        hidden = [nn.Linear(features, arguments.fc_dim), nn.ReLU(), nn.Dropout(0.5)] if arguments.fc_layers > 1 else []
        features = arguments.fc_dim if arguments.fc_layers > 1 else features
        self.classifier = nn.Sequential(*hidden, nn.Linear(features, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        s0, s1 = self.stem(x)
        for k, cell in enumerate(self.cells):
            s0, s1 = s1, None if k in self.unused else cell(s0, s1)
        return self.classifier(self.pool(s1).flatten(1))


def _uses_last(wirings: list[CellWiring | None], k: int) -> bool:
    """Whether cell `k` reads the stem's second output: the last one for cell 0, the one before for cell 1."""
    wiring = wirings[k] if k < len(wirings) else None
    return wiring is not None and wiring.inputs[1 - k]


class Stem(nn.Module):
    """(B, 3, H, W) → the two inputs of the first cell; the same tensor twice but for the ImageNet-style stem.

    Attributes:
        channels: Of both outputs.
        size: Height and width of the second output.
    """

    def __init__(self, arguments: Arguments, image_size: int, needs_second: bool) -> None:
        super().__init__()
        C, ks, norm, large = arguments.C, arguments.ks, arguments.norm, image_size > 32
        self.second: nn.Module | None = None
        self.channels: tuple[int, int]
        if arguments.genotype.attention:
            patch, padding = (16, 0) if large else (3, 1)
            self.size = (image_size + 2 * padding - patch) // patch + 1
            self.first = nn.Sequential(nn.Conv2d(3, C, patch, patch, padding, bias=False), Positions(C, self.size))
            self.channels = (C, C)
        elif arguments.stem_type == 0:
            width = 3 * C if arguments.preproc and not large else C
            stride = 4 if large else 1
            self.first = nn.Sequential(nn.Conv2d(3, width, ks, stride, ks // 2, bias=False), batch_norm(width, norm))
            self.size = -(-image_size // stride)
            if arguments.stem_pool:
                self.first.append(nn.MaxPool2d(3, 2, 1))
                self.size = -(-self.size // 2)
            self.channels = (width, width)
        else:
            stride = 2 if large else 1
            layers = [nn.Conv2d(3, C // 2, ks, stride, ks // 2, bias=False), batch_norm(C // 2, norm), nn.ReLU()]
            self.first = nn.Sequential(*layers, nn.Conv2d(C // 2, C, 3, stride, 1, bias=False), batch_norm(C, norm))
            self.size = -(-image_size // (2 * stride**2))
            self.channels = (C, C)
            if needs_second:
                self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, 2, 1, bias=False), batch_norm(C, norm))
        self.twice = arguments.genotype.attention or arguments.stem_type == 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The two outputs; the second is None where no cell reads it."""
        first = self.first(x)
        if self.twice:
            return first, first
        return first, None if self.second is None else self.second(first)


class Cell(nn.Module):
    """Sums of two operations each, concatenated. Inputs have C channels of the cell, after the 1×1 convolutions if any."""

    def __init__(
        self,
        arguments: Arguments,
        edges: tuple[Edge, ...],
        concat: tuple[int, ...],
        wiring: CellWiring,
        before: int,
        last: int,
        width: int,
        halved: bool,
        stride: int,
    ) -> None:
        super().__init__()
        norm = arguments.norm
        self.preprocess: nn.ModuleDict = nn.ModuleDict()
        if wiring.inputs[0]:
            if arguments.preproc:
                self.preprocess["0"] = FactorizedReduce(before, width, norm) if halved else relu_conv_norm(before, width, norm)
            elif halved:
                self.preprocess["0"] = Subsample()
        if wiring.inputs[1] and arguments.preproc:
            self.preprocess["1"] = relu_conv_norm(last, width, norm)
        self.ops = nn.ModuleDict()
        for position in wiring.edges:
            name, state = edges[position]
            self.ops[str(position)] = operation(name, width, stride if state < 2 else 1, norm)
        self.edges = tuple((position, edges[position][1], 2 + position // 2) for position in wiring.edges)
        self.concat = tuple((state, state in wiring.states) for state in concat)
        self.inputs = wiring.inputs

    def forward(self, s0: Tensor | None, s1: Tensor | None) -> Tensor:
        """(B, C, H, W) twice → (B, C', H', W')."""
        states: dict[int, Tensor] = {}
        for index, (value, used) in enumerate(zip((s0, s1), self.inputs, strict=True)):
            if used:
                assert value is not None
                key = str(index)
                states[index] = self.preprocess[key](value) if key in self.preprocess else value
        for position, source, target in self.edges:
            y = self.ops[str(position)](states[source])
            states[target] = states[target] + y if target in states else y
        present = [states[state] for state, exists in self.concat if exists]
        if len(present) == len(self.concat):
            return torch.cat(present, dim=1) if len(present) > 1 else present[0]
        # Sums without operands are zeros, so that the channels are as many as the next cell expects.
        zeros = torch.zeros_like(present[0])
        return torch.cat([states[state] if exists else zeros for state, exists in self.concat], dim=1)

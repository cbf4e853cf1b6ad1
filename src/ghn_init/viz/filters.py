"""A layer's filters as small images, those of several networks side by side. Needs the extra `viz`."""

# Axes: O filters, I input channels, H/W kernel

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ghn_init.viz.style import figure

MOST = 64
"""Filters that are drawn of each."""


def draw(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Draws a panel for each weight: filters of three inputs in colour, others as the norm over their inputs.

    All are scaled by the largest value of their own panel, so that shapes can be compared, and not sizes: those are
    in `Explanation`.

    Args:
        weights: Title → (O, I, H, W) weight of a convolution, or the core that was decoded for one.
        path: Of the picture.

    Raises:
        ValueError: There is none, or a weight has another number of axes, or no values.
    """
    if not weights:
        raise ValueError("there are no weights to draw; expected a title and a weight, or several.")
    made, panels = figure(2.4 * len(weights), 2.7, panels=len(weights))
    made.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    for axes, (title, weight) in zip(panels, weights.items(), strict=True):
        axes.imshow(tiles(weight.detach().float().cpu()).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize="medium")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    made.savefig(path, dpi=150)


def tiles(weight: Tensor) -> Tensor:
    """Filters in rows and columns, white lines between them: (rows, columns, 3) or (rows, columns), 0 to 1."""
    if weight.dim() != 4 or not weight.numel():
        raise ValueError(f"the weight is of shape {tuple(weight.shape)}; expected (filters, inputs, height, width).")
    weight = weight[:MOST]
    if weight.shape[1] == 3:
        images = 0.5 + 0.5 * weight / weight.abs().amax().clamp_min(1e-12)
    else:
        norms = weight.norm(dim=1, keepdim=True)
        images = norms / norms.amax().clamp_min(1e-12)
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    framed = F.pad(images, (0, 1, 0, 1), value=1.0)
    channels, H, W = framed.shape[1:]
    grid = torch.ones(rows * columns, channels, H, W)
    grid[: len(framed)] = framed
    picture = grid.view(rows, columns, channels, H, W).permute(0, 3, 1, 4, 2).reshape(rows * H, columns * W, channels)
    return picture[:-1, :-1].squeeze(2)

"""A wider hypernetwork that predicts what a given one does: training goes on from there with more capacity."""

# Axes: D hidden, R how many times as wide

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork

Parts = Callable[[Tensor], Tensor]

_DECODED = ("decoder.conv.2.", "decoder_1d.fc.2.")
"""Layers whose outputs are no hidden units."""


def widen_(wide: GraphHyperNetwork, narrow: GraphHyperNetwork, seed: int = 0, asymmetry: float = 0.5) -> None:
    """Gives a hypernetwork R times as wide weights with which it predicts what the narrow one does, but for rounding.

    Each hidden unit is there R times. Those who read it get a part of the old weight from each copy, and random parts that
    cancel, by which the copies come to differ in training.

    Source: Net2WiderNet (Chen, Goodfellow, Shlens, ICLR 2016, arXiv 1511.05641), section 2.3.

    Args:
        wide: Like `narrow` but for `hid`; a GHN-1 or a GHN-2.
        narrow: The one to begin with.
        seed: Of the random parts.
        asymmetry: Their standard deviation as a share of the old weights'.

    Raises:
        CheckpointError: They differ in more than `hid`, or it is no multiple.
    """
    times, rest = divmod(wide.config.hid, narrow.config.hid)
    if rest or times < 1 or replace(narrow.config, hid=wide.config.hid) != wide.config or narrow.config.layers:
        raise CheckpointError(
            f"hid is {wide.config.hid}; expected a multiple of {narrow.config.hid}, all else alike, and a GHN-1 or a GHN-2."
        )
    parts, positions = _parts(times, asymmetry, seed), narrow.config.max_shape[2] ** 2
    own = wide.state_dict()
    for name, tensor in narrow.state_dict().items():
        heads = name.startswith("heads.")  # they read what is decoded
        own[name].copy_(tensor if heads else _widened(name, tensor, times, positions, parts))


def _widened(name: str, tensor: Tensor, times: int, positions: int, parts: Parts) -> Tensor:
    if name.startswith(("embed.", "shape_enc.")):
        return tensor.repeat_interleave(times, 1)
    if tensor.dim() == 2:
        tensor = parts(tensor)
    if name.startswith(_DECODED):
        return tensor
    repeated = positions if name.startswith("decoder.fc.0.") else 1  # its outputs are units × positions
    return tensor.unflatten(0, (-1, repeated)).repeat_interleave(times, 0).flatten(0, 1)


def _parts(times: int, asymmetry: float, seed: int) -> Parts:
    """(O, I) → (O, R I): a unit's weight falls to its copies, with noise whose sum over them is zero."""
    generator = torch.Generator().manual_seed(seed)

    def parts(weight: Tensor) -> Tensor:
        noise = torch.randn(*weight.shape, times, generator=generator) * asymmetry * weight.std()
        return ((weight.unsqueeze(2) + noise - noise.mean(2, keepdim=True)) / times).flatten(1)

    return parts

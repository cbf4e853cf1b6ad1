"""Devices by name, whether they are there, and what one lacks."""

from __future__ import annotations

import torch
from torch import Tensor

from ghn_init.errors import DeviceError


def found(device: torch.device | str, *, computes: bool = False) -> torch.device:
    """The device of a name.

    Args:
        device: It, or its name.
        computes: Refuse the meta device, whose tensors have no values.

    Raises:
        DeviceError: PyTorch knows none of that name, or can't use it.
    """
    try:
        named = torch.device(device)
        torch.empty(0, device=named)
    except Exception as error:  # a name, a driver or a build: PyTorch raises RuntimeError, AssertionError and others
        there = [
            "cpu",
            *(["cuda"] if torch.cuda.is_available() else []),
            *(["mps"] if torch.backends.mps.is_available() else []),
        ]
        reason = str(error).partition("\n")[0].removesuffix(".")
        raise DeviceError(f"device is {str(device)!r}, which can't be used ({reason}); there is {', '.join(there)}.") from error
    if computes and named.type == "meta":
        raise DeviceError("device is 'meta', on which nothing is computed; pass 'cpu', say.")
    return named


def in_float64(tensor: Tensor) -> Tensor:
    """The same numbers in float64, which MPS lacks: from there they come to the CPU."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()

"""With which sizes timm makes a model for small images; tried, as not all that a class takes its entry point passes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ghn_init.tracing.untouched import untouched

PATCH = 2
"""Pixels of the smallest patch."""
FEW_PATCHES = 8
"""A side, with which a model that takes no other number is left as it is."""


def sizes_for(model: nn.Module, patch: int, channels: int, image_size: int) -> str:
    """`img_size=…`, with `patch_size=…` where that makes smaller patches, with which a model runs; "" where nothing does.

    Args:
        model: Of timm, else nothing is found.
        patch: Pixels of its patches, 0 for models without.
        channels: Of the images.
        image_size: Their height and width, in pixels.
    """
    configuration = getattr(model, "pretrained_cfg", None)
    architecture = configuration.get("architecture") if isinstance(configuration, Mapping) else None
    if not architecture:
        return ""
    smaller = max(PATCH, image_size // FEW_PATCHES)
    tried = [{"img_size": image_size, "patch_size": smaller}] if smaller < patch else []
    for sizes in [*tried, {"img_size": image_size}]:
        if _runs(architecture, sizes, channels, image_size):
            return ", ".join(f"{name}={size}" for name, size in sizes.items())
    return ""


def _runs(architecture: str, sizes: Mapping[str, Any], channels: int, image_size: int) -> bool:
    """Whether timm makes the model, and the model takes such images; without data."""
    import timm

    try:
        with untouched(nn.Module()), torch.device("meta"), torch.no_grad():  # constructors draw random numbers
            made = timm.create_model(architecture, in_chans=channels, **sizes).eval()
            made(torch.empty(2, channels, image_size, image_size))
    except Exception:  # whatever a constructor or a forward raises
        return False
    return True

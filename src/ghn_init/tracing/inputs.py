"""What to run a model on: its own configuration knows, or the first layer tells."""

# Axes: B batch, C channels, H/W/L space and time

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.tracing.holders import mapped, plain

BATCH = 2
"""Two examples, so that batch norm in training mode has something to normalise over."""

# ImageNet's first; a size that doesn't fit fails, at a linear layer or a positional embedding, and costs milliseconds on meta.
_IMAGE_SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512)
_TOKENS = 16


@dataclass(frozen=True)
class Inputs:
    """Arguments of one forward pass and where they come from."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    origin: str

    def __str__(self) -> str:
        parts = [_describe(arg) for arg in self.args] + [f"{key}={_describe(arg)}" for key, arg in self.kwargs.items()]
        return f"({', '.join(parts)}) from {self.origin}"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor) and value.is_nested:  # its shape can't be asked for
        return f"{str(value.dtype).removeprefix('torch.')} nested of {value.size(0)}"
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_describe(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_describe(item)}" for key, item in value.items()) + "}"
    if isinstance(value, np.ndarray):
        return f"numpy {value.dtype}{list(value.shape)}"
    return repr(value)


def wanted(given: Inputs) -> str:
    """What should have been given, in words."""
    args = [*given.args, *given.kwargs.values()]
    if any(isinstance(arg, np.ndarray) for arg in args):
        return "example_inputs=torch.from_numpy(array), in the dtype of the model's parameters"
    if len(args) > 1 and all(isinstance(arg, int) for arg in args):
        return f"for images of this shape example_inputs=torch.zeros({', '.join(map(str, args))})"
    return "example_inputs=tensor, a tuple of positional or a dict of keyword arguments"


def candidates(model: nn.Module, example_inputs: Any = None) -> Iterator[Inputs]:
    """Inputs to try, the likeliest first; only the user's own where they were given.

    Args:
        model: The user's model; its floating inputs get the dtype of its parameters.
        example_inputs: A tensor, a tuple of positional or a dict of keyword arguments.
    """
    if example_inputs is not None:
        yield _given(example_inputs)
        return
    dtype = next(p.dtype for p in model.parameters())
    timm_config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if timm_config is not None:
        yield from _from_timm(model, timm_config, dtype)
    config = getattr(model, "config", None)
    if hasattr(model, "main_input_name") and config is not None:
        yield from _from_transformers(model, config, dtype)
        return
    yield from _from_first_layer(model, dtype)


def _given(example_inputs: Any) -> Inputs:
    example_inputs = mapped(plain, example_inputs)
    if isinstance(example_inputs, Mapping):
        return Inputs((), dict(example_inputs), "example_inputs")
    args = tuple(example_inputs) if isinstance(example_inputs, tuple | list) else (example_inputs,)
    return Inputs(args, {}, "example_inputs")


def _image(channels: int, *size: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(BATCH, channels, *size, dtype=dtype, device="meta")


def _from_timm(model: nn.Module, config: Any, dtype: torch.dtype) -> Iterator[Inputs]:
    """The configuration's input size, with the channels and the image size that the model was really built for."""
    get = config.get if isinstance(config, Mapping) else lambda key, default=None: getattr(config, key, default)
    size = tuple(get("input_size") or (3, 224, 224))
    channels, space = size[0], size[1:]
    first = get("first_conv")
    name = next(iter(first), None) if isinstance(first, tuple | list) else first
    weights = dict(model.named_parameters())
    if name and f"{name}.weight" in weights and weights[f"{name}.weight"].dim() == 4:
        channels = max(weights[f"{name}.weight"].shape[1], 1)
    built_for = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if built_for is not None:
        yield Inputs((_image(channels, *built_for, dtype=dtype),), {}, "the model's patch_embed.img_size")
    yield Inputs((_image(channels, *space, dtype=dtype),), {}, "the model's timm configuration")


def _from_transformers(model: nn.Module, config: Any, dtype: torch.dtype) -> Iterator[Inputs]:
    vision = getattr(config, "vision_config", None) or config
    text = getattr(config, "text_config", None) or config
    size = getattr(vision, "image_size", None) or 224
    space = tuple(size) if isinstance(size, tuple | list) else (size, size)
    image = _image(getattr(vision, "num_channels", 3) or 3, *space, dtype=dtype)
    # Within the vocabulary, since a real run looks them up.
    tokens = torch.arange(BATCH * _TOKENS).view(BATCH, _TOKENS) % max(getattr(text, "vocab_size", 2) or 2, 2)
    main = getattr(model, "main_input_name", "input_ids")
    origin = "the model's transformers configuration"
    if main == "pixel_values":
        yield Inputs((), {"pixel_values": image}, origin)
    elif main in ("input_values", "input_features"):
        # Whisper takes spectrograms of 30 seconds, 3000 frames, and no others; waves are a second at 16 kHz.
        features = getattr(config, "num_mel_bins", None)
        wave = _image(features, 3000, dtype=dtype) if features else torch.empty(BATCH, 16_000, dtype=dtype, device="meta")
        decoder = {"decoder_input_ids": tokens} if getattr(config, "is_encoder_decoder", False) else {}
        yield Inputs((), {main: wave, **decoder}, origin)
    elif getattr(config, "vision_config", None) is not None:
        yield Inputs((), {"input_ids": tokens, "pixel_values": image}, origin)
    elif getattr(config, "is_encoder_decoder", False):
        yield Inputs((), {"input_ids": tokens, "decoder_input_ids": tokens}, origin)
    yield Inputs((), {"input_ids": tokens}, origin)


def _from_first_layer(model: nn.Module, dtype: torch.dtype) -> Iterator[Inputs]:
    """A 3-channel 224 px image, then what the first layer's weight allows."""
    yield Inputs((_image(3, 224, 224, dtype=dtype),), {}, "the default, a 3-channel 224 px image")
    origin = "a guess from the first layer"
    first = next((m for m in model.modules() if isinstance(m, _FIRST_LAYERS)), None)
    if isinstance(first, nn.Embedding):
        tokens = torch.arange(BATCH * _TOKENS).view(BATCH, _TOKENS) % first.num_embeddings
        yield Inputs((tokens,), {}, origin)
    elif isinstance(first, nn.Linear):
        for shape in ((BATCH, first.in_features), (BATCH, _TOKENS, first.in_features)):
            yield Inputs((torch.empty(shape, dtype=dtype, device="meta"),), {}, origin)
    elif isinstance(first, nn.Conv1d):
        for length in (1024, 16_000):
            yield Inputs((_image(first.in_channels, length, dtype=dtype),), {}, origin)
    elif isinstance(first, nn.Conv3d):
        for space in ((16, 112, 112), (16, 224, 224), (32, 64, 64)):
            yield Inputs((_image(first.in_channels, *space, dtype=dtype),), {}, origin)
    channels = first.in_channels if isinstance(first, nn.Conv2d) else 3
    for size in _IMAGE_SIZES:
        if (channels, size) != (3, 224):
            yield Inputs((_image(channels, size, size, dtype=dtype),), {}, origin)


_FIRST_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding)

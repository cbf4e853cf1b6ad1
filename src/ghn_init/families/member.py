"""One member of a family: which constructor, with which arguments. Readable, storable as JSON, and built when asked for."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ghn_init.errors import ArchitectureError
from ghn_init.models.stem import adapt_stem_

CLASSES, SIZE = "$classes", "$size"
"""Values that stand for the number of outputs and for the side of the images in pixels."""
NAME = "@"
"""The first character of a dotted name that stands for what it names; as a key of a mapping, what the others are passed to."""
LIBRARIES = ("timm", "torchvision", "transformers")


@dataclass(frozen=True)
class Recipe:
    """What a family draws.

    Attributes:
        constructor: Dotted name of a class or function.
        arguments: Its keyword arguments, of what JSON has. `"@torch.nn.GELU"` stands for that class, `{"@": "torch.nn.Conv2d",
            "kernel_size": 3}` for what calling it gives, `"$classes"` and `"$size"` for the number of outputs and of pixels.
        small_stem: Whether the stem is then fitted to small images: a 3×3 convolution of stride 1, no pool.
    """

    constructor: str
    arguments: Mapping[str, Any]
    small_stem: bool = False


@dataclass(frozen=True)
class Member(Recipe):
    """A recipe and where it comes from.

    Attributes:
        family: Name in `FAMILIES`.
        library: The package that has the constructor: timm, torchvision or transformers.
    """

    family: str = ""
    library: str = ""

    @classmethod
    def of(cls, family: str, recipe: Recipe) -> Member:
        """A family's drawing; its library is the one that it names."""
        text = json.dumps([recipe.constructor, recipe.arguments])
        library = next(name for name in LIBRARIES if f"{name}." in text)
        return cls(recipe.constructor, recipe.arguments, recipe.small_stem, family, library)

    def __hash__(self) -> int:
        return hash(self.digest)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def module(self, num_classes: int = 10, image_size: int = 32) -> nn.Module:
        """The network, (B, 3, H, W) → (B, classes), with the start values that its constructor draws from torch's global state.

        Raises:
            ArchitectureError: The library is missing, or this version of it can't build the member.
        """
        try:
            importlib.import_module(self.library)
        except ImportError as error:
            raise ArchitectureError(
                f"{self.library}, which has this {self.family}, is not installed ({error}); pip install {self.library}."
            ) from error
        called = {NAME: self.constructor, **self.arguments}
        try:
            model = _made(called, {CLASSES: num_classes, SIZE: image_size})
            return adapt_stem_(model, image_size) if self.small_stem else model
        except Exception as error:  # whatever the constructor raises
            version = importlib.import_module(self.library).__version__
            raise ArchitectureError(
                f"{self.library} {version} can't build the {self.family} {self.constructor}({dict(self.arguments)}) for "
                f"{num_classes} classes and {image_size} px ({type(error).__name__}: {error}); sizes are 24, 32, 48 or 64 px."
            ) from error


def _made(value: Any, standing: Mapping[str, int]) -> Any:
    """A value of a recipe with names and calls replaced by what they stand for."""
    if isinstance(value, str):
        return _named(value[1:]) if value.startswith(NAME) else standing.get(value, value)
    if isinstance(value, list):
        return [_made(one, standing) for one in value]
    if isinstance(value, dict):
        made = {key: _made(one, standing) for key, one in value.items() if key != NAME}
        return _named(value[NAME])(**made) if NAME in value else made
    return value


def _named(dotted: str) -> Any:
    """`timm.models.resnet.ResNet` → the class."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)

"""Names in timm's registry, so that programs which call `timm.create_model` get predicted parameters."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ghn_init.errors import ModelSpecError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models.spec import check_timm_name
from ghn_init.timm import ghn_models
from ghn_init.timm.create import create_model

PREFIX = "ghn_"
_NO_WEIGHTS: dict[str, Any] = {"url": None, "file": None, "hf_hub_id": None, "hf_hub_filename": None, "custom_load": False}


@dataclass(frozen=True)
class _Registered:
    """What a registered name makes."""

    model_name: str
    ghn: GraphHyperNetwork | str | os.PathLike[str] | None = None
    ghn_kwargs: Mapping[str, Any] = field(default_factory=dict)


_registered: dict[str, _Registered] = {}


def register(
    model_name: str, ghn: GraphHyperNetwork | str | os.PathLike[str] | None = None, ghn_kwargs: Mapping[str, Any] | None = None
) -> str:
    """Registers `ghn_NAME` with timm: `timm.create_model("ghn_resnet50")` makes an initialised ResNet-50.

    For training scripts that take a model's name. Tags, arguments and saved configurations are those of the architecture
    (`timm.create_model("ghn_resnet50.a1_in1k", num_classes=10)`); `pretrained=True` changes nothing. Registering again replaces
    the hypernetwork.

    Args:
        model_name: timm's architecture, without a tag.
        ghn: A hypernetwork, or what `ghn_init.load` takes; by default the bundled one. Loaded when a model is made.
        ghn_kwargs: More arguments of `ghn_init.initialize`. What a call of `timm.create_model` gives under these two names
            comes before.

    Returns:
        The new name.

    Raises:
        ModelSpecError: timm is missing, or has no such architecture, or the name has a tag or a source.

    Example:
        >>> import ghn_init, timm
        >>> timm.create_model(ghn_init.timm.register("resnet18"), num_classes=10).num_classes
        10
    """
    name = PREFIX + model_name
    if not model_name.isidentifier():
        raise ModelSpecError(
            f"{model_name!r} can't be registered; register the architecture, {model_name.partition('.')[0]!r}, and give tag or "
            f"source when you make a model."
        )
    if model_name in _registered:
        raise ModelSpecError(f"{model_name!r} is a name that register made; register {_registered[model_name].model_name!r}.")
    check_timm_name(model_name)
    known = name in _registered
    _registered[name] = _Registered(model_name, ghn, dict(ghn_kwargs or {}))
    if not known:
        _enter(name, model_name)
    return name


def _enter(name: str, model_name: str) -> None:
    """timm's own registration; it reads the entry point's name and the configurations in its module."""
    from timm.models import generate_default_cfgs, get_arch_pretrained_cfgs, register_model

    configurations: dict[str, Any] = {
        PREFIX + tagged: dataclasses.replace(cfg, **_NO_WEIGHTS) for tagged, cfg in get_arch_pretrained_cfgs(model_name).items()
    }
    ghn_models.default_cfgs.update(generate_default_cfgs(configurations))
    entry_point = _entry_point(name)
    setattr(ghn_models, name, entry_point)
    register_model(entry_point)


def _entry_point(name: str) -> Callable[..., nn.Module]:
    def make(pretrained: bool = False, pretrained_cfg: Any = None, **kwargs: Any) -> nn.Module:
        wish = _registered[name]
        if isinstance(pretrained_cfg, Mapping):  # a configuration that was looked up under the registered name
            pretrained_cfg = {**pretrained_cfg, "architecture": wish.model_name}
        elif dataclasses.is_dataclass(pretrained_cfg) and not isinstance(pretrained_cfg, type):
            pretrained_cfg = dataclasses.replace(pretrained_cfg, architecture=wish.model_name)
        # whoever asks for pretrained weights under this name, as timm's validate.py always does, asks for predicted ones
        own = {**wish.ghn_kwargs, **(kwargs.pop("ghn_kwargs", None) or {})}
        ghn = kwargs.pop("ghn", wish.ghn)
        return create_model(wish.model_name, False, pretrained_cfg, ghn=ghn, ghn_kwargs=own, **kwargs)

    make.__name__ = make.__qualname__ = name
    make.__module__ = ghn_models.__name__
    return make

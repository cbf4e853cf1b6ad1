"""`timm:NAME`, `torchvision:NAME`, `transformers:NAME` or `module:callable` → a model with random weights."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ghn_init.connection import cached_if_cut_off
from ghn_init.errors import ModelSpecError
from ghn_init.models.kinds import KINDS
from ghn_init.tracing.untouched import untouched

_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


def build(spec: str, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Builds the model that a command line names.

    Args:
        spec: `timm:resnet50`, `torchvision:resnet50`, `transformers:google/vit-base-patch16-224` (a hub id or a folder, of
            which the configuration alone is read), or `package.module:callable`, where calling gives a module; modules in the
            working directory are found.
        num_classes: Passed on as `num_classes` where given, to transformers as `num_labels`.
        arguments: Passed on as well, to transformers' configuration.

    Raises:
        ModelSpecError: No such library, module, or name, or the callable fails or gives something else.
    """
    library, separator, name = spec.partition(":")
    if not separator or not library or not name:
        others = _libraries_with(spec)
        hint = f"did you mean {' or '.join(others)}? " if others else ""
        raise ModelSpecError(f"{spec!r} names no model; {hint}expected {KINDS}.")
    options = {**arguments, **({} if num_classes is None else {"num_classes": num_classes})}
    if library == "timm":
        return build_timm(name, options)
    if library == "torchvision":
        return _torchvision(name, options)
    if library == "transformers":
        return _transformers(name, num_classes, arguments)
    return _own(spec, library, name, options)


def build_timm(name: str, options: Mapping[str, Any]) -> nn.Module:
    """`timm.create_model`, with one clear error.

    Args:
        name: Architecture with or without a tag, `hf-hub:` or `local-dir:` and a place.
        options: Keyword arguments.

    Raises:
        ModelSpecError: timm is missing, has no such model, or can't make it.
    """
    timm = library("timm")
    if ":" not in name:
        check_timm_name(name)
    create = cached_if_cut_off()(timm.create_model) if name.startswith("hf-hub:") else timm.create_model
    return _called(f"timm:{name}", functools.partial(create, name), options)


def without_storage(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, on the meta device where the constructor allows it; RegNets compute their widths with tensors.

    Raises:
        ModelSpecError: As `build`.
    """
    try:
        with torch.device("meta"):
            return build()
    except ModelSpecError:
        return build()


def check_timm_name(name: str) -> None:
    """Refuses an architecture that timm doesn't have.

    Raises:
        ModelSpecError: timm is missing or has no such model; names those that are near.
    """
    timm = library("timm")
    if not timm.is_model(name.partition(".")[0]):
        raise ModelSpecError(_unknown(name, "timm", timm.list_models()))


def _torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    models = library("torchvision").models
    if name not in models.list_models():
        raise ModelSpecError(_unknown(name, "torchvision", models.list_models()))
    if name in ("googlenet", "inception_v3"):
        options = {**options, "init_weights": False}  # their own init takes minutes and is overwritten anyway
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options = {**options, "weights_backbone": None}  # else a backbone is downloaded
    return _called(f"torchvision:{name}", functools.partial(models.get_model, name, weights=None), options)


def _transformers(name: str, num_classes: int | None, arguments: Mapping[str, Any]) -> nn.Module:
    transformers = library("transformers")
    options = {**arguments, **({} if num_classes is None else {"num_labels": num_classes})}
    try:
        with cached_if_cut_off():
            config = transformers.AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split())
        raise ModelSpecError(
            f"transformers has no configuration of {name!r} ({told}); expected a hub id that can be reached, or a folder with "
            f"config.json."
        ) from error
    if not config.architectures:
        return _called(f"transformers:{name}", transformers.AutoModel.from_config, {"config": config})
    kind = getattr(transformers, config.architectures[0], None)
    if kind is None:
        raise ModelSpecError(
            f"transformers {transformers.__version__} has no {config.architectures[0]}, which {name!r} is; build it by "
            f"yourself and pass module:callable."
        )
    return _called(f"transformers:{name}", kind, {"config": config})


def library(name: str) -> Any:
    """An optional dependency.

    Raises:
        ModelSpecError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelSpecError(f"{name} is not installed ({error}); pip install {name}.") from error


def _libraries_with(name: str) -> list[str]:
    """Models of that name, as specs."""
    specs = []
    if find_spec("timm") is not None and library("timm").is_model(name.partition(".")[0]):
        specs.append(f"timm:{name}")
    if find_spec("torchvision") is not None and name in library("torchvision").models.list_models():
        specs.append(f"torchvision:{name}")
    return specs


def _unknown(name: str, library: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"see {library}.list_models()."
    return f"{library} has no model {name!r}; {hint}"


def _own(spec: str, module: str, name: str, options: dict[str, Any]) -> nn.Module:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with untouched(nn.Module()):  # what a first import draws is not the model's: after a seed all calls give the same
            factory: Any = importlib.import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise ModelSpecError(f"{spec!r} can't be imported ({type(error).__name__}: {error}); expected {KINDS}.") from error
    model = _called(spec, factory, options) if not isinstance(factory, nn.Module) else factory
    if not isinstance(model, nn.Module):
        raise ModelSpecError(f"{spec!r} gives a {type(model).__name__}; expected a callable that returns a torch.nn.Module.")
    return model


def _called(spec: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    try:
        return factory(**options)
    except Exception as error:
        name = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if name is not None and name[1] in options:
            given = ", ".join(f"{key}={reprlib.repr(value)}" for key, value in options.items() if value is not None)
            raise ModelSpecError(
                f"{spec!r} takes no {name[1]} ({error}), and was called with {given}: {_instead(spec, name[1])}."
            ) from error
        raise ModelSpecError(f"{spec!r} failed when called: {type(error).__name__}: {error}.") from error


def _instead(spec: str, argument: str) -> str:
    """What to do where a model has no such argument."""
    library, _, name = spec.partition(":")
    if library == "torchvision" and argument == "in_chans":
        others = [other for other in _libraries_with(name) if other.startswith("timm:")] or ["a model of timm"]
        return (
            f"models of torchvision are made for 3 channels; take {others[0]}, or change the first layer in a function of your "
            f"own and pass module:callable"
        )
    return "leave it out" if library in ("timm", "torchvision", "transformers") else f"let it take {argument}"

"""A timm model as a folder that timm loads by itself."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from ghn_init.errors import ModelSpecError, UnsupportedModelError
from ghn_init.models.spec import build_timm, library, without_storage
from ghn_init.tracing.unwrap import check_values, taken_off

_NOT_OURS = frozenset({"tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes"})
"""What timm's configuration says about trained weights, which these are not."""

_NO_ANSWERS = re.compile(r"(, )?(inplace=\w+|momentum=[^,)]+)|^Sync(?=BatchNorm)|(?<=^BatchNorm)[123]d|(?<=^BatchNormAct)2d")
"""What a layer's answers don't depend on: where it writes, its pace in training, statistics of several processes."""


def export(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    model_args: Mapping[str, Any] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `config.json` and `model.safetensors`, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads.

    timm adapts them as it does with trained weights: other `num_classes`, `in_chans`, `img_size`, `features_only`.

    Args:
        model: A model that timm made, initialised or trained; also compiled, or in a DataParallel.
        folder: Made where it is missing; files of these two names in it are replaced.
        model_args: Arguments that the model was made with (`img_size`, …); by default those that timm wrote down.
        origin: Written to `config.json` under `ghn_init`, where timm doesn't look.

    Returns:
        The folder.

    Raises:
        ModelSpecError: timm is missing, or can't write the model's arguments, or makes another model of them.
        UnsupportedModelError: Not a timm classifier, or on the meta device.
        OSError: The folder can't be written.

    Example:
        >>> import ghn_init, tempfile
        >>> model = ghn_init.timm.create_model("resnet18", num_classes=10)
        >>> sorted(file.name for file in ghn_init.timm.export(model, tempfile.mkdtemp()).iterdir())
        ['config.json', 'model.safetensors']
    """
    save_for_hf = library("timm").models.save_for_hf
    model, _ = taken_off(model)
    if not hasattr(model, "pretrained_cfg") or not hasattr(model, "num_classes"):
        raise UnsupportedModelError(
            f"{type(model).__name__} is no classifier that timm made, timm could not make it from a configuration; save its "
            f"state dict instead. (Of features_only=True export the classifier: timm takes the features out of it.)"
        )
    check_values(model)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    unshared = model.register_state_dict_post_hook(_unshare)
    try:
        with tempfile.TemporaryDirectory(dir=target) as temporary:
            written = None if model_args is None else dict(model_args)
            save_for_hf(model, temporary, model_args=written, safe_serialization=True)
            _sign(Path(temporary) / "config.json", origin)
            _check(temporary, model)
            for file in ("model.safetensors", "config.json"):
                os.replace(Path(temporary) / file, target / file)
    except SafetensorError as error:
        raise OSError(f"{target}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelSpecError(
            f"timm can't write the configuration of {type(model).__name__} ({error}); pass model_args= that JSON can hold."
        ) from error
    finally:
        unshared.remove()
    return target


def _sign(config: Path, origin: Mapping[str, Any] | None) -> None:
    """Says where the weights come from, and no longer where those of the same name do."""
    content = json.loads(config.read_text())
    for key in _NOT_OURS & content["pretrained_cfg"].keys():
        del content["pretrained_cfg"][key]
    config.write_text(json.dumps({**content, "ghn_init": dict(origin or {})}, indent=2) + "\n")


def _check(folder: str, model: nn.Module) -> None:
    """Refuses a folder from which timm would make another model: a timm that doesn't write arguments down, a changed model."""
    again = _description(without_storage(lambda: build_timm(f"local-dir:{folder}", {})))
    own = _description(model)
    for name in own | again:
        made, there = again.get(name, "nothing"), own.get(name, "nothing")
        if made != there:
            raise ModelSpecError(
                f"timm would make {made} of its configuration for '{name}', which is {there} in the model; pass the arguments "
                f"that the model was made with: model_args={{'in_chans': …, 'img_size': …}}. A model that was changed after "
                f"timm made it can't be exported."
            )


def _description(model: nn.Module) -> dict[str, str]:
    """Shapes of all tensors, and classes and settings of all layers: an activation, a stride or a pool shows in no tensor."""
    tensors = {name: str(tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    layers = {name: module for name, module in model.named_modules() if _is_layer(module)}
    return tensors | {name: _NO_ANSWERS.sub("", repr(module)) for name, module in layers.items()}


def _is_layer(module: nn.Module) -> bool:
    """Whether it makes answers by settings of its own; dropout and identities leave those of a trained model as they are."""
    if isinstance(module, nn.Identity | nn.ParameterList | nn.ParameterDict) or "Drop" in type(module).__name__:
        return False
    return hasattr(module, "kernel_size") or next(module.children(), None) is None


def _unshare(_: nn.Module, state_dict: dict[str, Tensor], prefix: str, __: Any) -> None:
    """Copies of tied and of permuted tensors, as safetensors wants them."""
    seen: set[int] = set()
    for name, tensor in state_dict.items():
        if name.startswith(prefix):
            storage = tensor.untyped_storage().data_ptr()
            state_dict[name] = tensor.clone() if storage in seen else tensor.contiguous()
            seen.add(storage)

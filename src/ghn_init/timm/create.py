"""`timm.create_model` with predicted parameters in the place of random ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ghn_init.api import initialize
from ghn_init.errors import ModelSpecError, UnsupportedModelError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.models.batches import unlabelled
from ghn_init.models.spec import build_timm

_OF_FEATURES = ("features_only", "out_indices", "feature_cls")
"""Arguments that choose features of a model; the classifier that they come from knows nothing of them."""
_OF_INITIALIZE = ("data", "choose", "max_images", "example_inputs", "only", "exclude", "overwrite", "condition", "strict")
"""Of `ghn_init.initialize`; no model has such."""


def create_model(
    model_name: str,
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    checkpoint_path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    scriptable: bool | None = None,
    exportable: bool | None = None,
    no_jit: bool | None = None,
    *,
    ghn: GraphHyperNetwork | str | os.PathLike[str] | None = None,
    ghn_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Makes a timm model and initialises it. Arguments are `timm.create_model`'s, and two more.

    Args:
        model_name: As for timm. A tag (`resnet50.a1_in1k`) and the sources `hf-hub:` and `local-dir:` give the architecture
            and its configuration (input size, normalisation, classes); their weights are not loaded.
        pretrained: Must be false, as must `checkpoint_path`: trained weights would take the place of all predicted ones.
        pretrained_cfg: Passed to timm, as all that follow.
        pretrained_cfg_overlay: Likewise.
        checkpoint_path: See `pretrained`.
        cache_dir: Likewise, as the next three.
        scriptable: Likewise.
        exportable: Likewise.
        no_jit: Likewise.
        ghn: A hypernetwork, or what `ghn_init.load` takes; by default the bundled one.
        ghn_kwargs: More arguments of `ghn_init.initialize`, such as `{"head": False, "seed": 1}`, or `{"data": loader}` to fit
            batch norms and head to images of your own.
        kwargs: Of the model: `num_classes`, `in_chans`, `img_size`, `drop_rate`, …. With `features_only` the classifier is
            initialised and its tensors are carried over; labels of `data` are not looked at.

    Raises:
        ModelSpecError: timm is missing, knows no such model, or can't make it of these arguments; or trained weights are asked
            for.
        UnsupportedModelError: The features hold tensors that the classifier doesn't have.
        GHNInitError: As in `ghn_init.initialize`.

    Example:
        >>> import ghn_init
        >>> model = ghn_init.timm.create_model("resnet18", num_classes=10)
        >>> model.num_classes
        10
    """
    for argument, value in (("pretrained", pretrained), ("checkpoint_path", checkpoint_path)):
        if value:
            raise ModelSpecError(
                f"{argument}={value!r} would put trained weights in the place of all that is predicted for {model_name!r}; "
                f"leave it out, or call timm.create_model, which needs no hypernetwork for that."
            )
    misplaced = [name for name in _OF_INITIALIZE if name in kwargs]
    if misplaced:
        raise ModelSpecError(
            f"{misplaced[0]} is an argument of ghn_init.initialize, not of {model_name!r}; pass "
            f"ghn_kwargs={{{misplaced[0]!r}: …}}."
        )
    options = {
        **kwargs,
        "pretrained_cfg": pretrained_cfg,
        "pretrained_cfg_overlay": pretrained_cfg_overlay,
        "cache_dir": cache_dir,
        "scriptable": scriptable,
        "exportable": exportable,
        "no_jit": no_jit,
    }
    if not options.get("features_only"):
        return initialize(build_timm(model_name, options), ghn, **(ghn_kwargs or {}))
    features = build_timm(model_name, options)
    for name in _OF_FEATURES:
        options.pop(name, None)
    wishes = dict(ghn_kwargs or {})
    if wishes.get("data") is not None:
        wishes["data"] = unlabelled(wishes["data"])
    classifier = initialize(build_timm(model_name, options), ghn, **wishes)
    _carry_over(classifier.state_dict(), features)
    return features


def _carry_over(tensors: Mapping[str, Tensor], features: nn.Module) -> None:
    """Copies a classifier's tensors to the features that timm cut out of the same architecture.

    timm's wrappers put `model.` or `body.` before names, or make `stages.0` a `stages_0`.
    """
    flat = {name.replace(".", "_"): tensor for name, tensor in tensors.items()}
    found, missing = {}, []
    for name, tensor in features.state_dict().items():
        own = name.replace(".", "_")
        source = next((flat[n] for n in (own, own.removeprefix("model_"), own.removeprefix("body_")) if n in flat), None)
        if source is None or source.shape != tensor.shape:
            missing.append(f"'{name}' {tuple(tensor.shape)}")
        else:
            found[name] = source
    if missing:
        raise UnsupportedModelError(
            f"{type(features).__name__} holds {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}, which the "
            f"classifier does not have; make the features with timm.create_model and call ghn_init.initialize on them."
        )
    features.load_state_dict(found)

"""A classification head in closed form: find it → see what it sees → regress → write."""

# Axes: N images, D features, K classes

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn

from ghn_init.errors import HeadError, RecalibrationError
from ghn_init.heads.features import class_numbers, collect
from ghn_init.heads.places import find_heads, frozen_beside
from ghn_init.heads.regression import Regression
from ghn_init.heads.result import HeadFit
from ghn_init.models.batch_norm import recalibrate_, unfrozen_norms
from ghn_init.models.batches import Batches, check_loader, labels_of, traced_on
from ghn_init.models.generators import generators_kept
from ghn_init.models.modes import check_modes
from ghn_init.models.restored import buffers_kept, restored_on_failure
from ghn_init.progress import watched
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import check_one_process, check_values, unwrap

MAX_IMAGES = 4000


class NothingToFitError(HeadError):
    """All heads that could be fitted are left out."""


def fit_head_(model: nn.Module, loader: Iterable[Any], *, max_images: int = MAX_IMAGES, recalibrate: bool = True) -> HeadFit:
    """Fits a model's classification head to labelled images in closed form, in place: ridge regression, no training.

    The head is found by its place in the model's graph: the linear layer, 1×1 convolution, or layers whose results add up, that
    makes the first output; a ReLU, means over positions, a softmax may follow. One that is all zero beside others stays: an
    adapter's. Outputs of the same width are fitted too; other outputs keep their heads, as do those whose heads are frozen
    beside trainable parameters: a teacher's. The regression's targets are ±1, its intercept is free, features are standardised
    (which the written weights make up for); its strength is that of least leave-one-out error, its scores are divided by the
    temperature of least leave-one-out cross-entropy. Computed in float64 on the CPU: N images and D features take the
    eigenvalues of a matrix of the smaller number, a second for a thousand, and about 30 · N · D bytes.

    Everything else stays: modes, gradients, random states, `requires_grad` (the first output's head is written though it is
    frozen: what is frozen is left out of training, and this is none).

    Args:
        model: Any module that gives (images, classes). Wrappers are looked into. Its state is the one that it will be
            fine-tuned from, in eval mode: no dropout.
        loader: Yields (images, labels), or mappings with `label` or `labels` beside the forward's arguments. Images as the
            model will be trained on them; labels are whole numbers from 0 to K − 1, each of which occurs. Read twice, once
            more for each further output, or held in memory where it is an iterator.
        max_images: The first so many are used. One that comes again with the same label is left out.
        recalibrate: First recompute the running statistics of batch norms on these images, as `recalibrate_batchnorm` does, but
            for those that are frozen beside trainable parameters. False keeps those that the model was trained with.

    Returns:
        Leave-one-out accuracy, strength, temperature and more; `print` it.

    Raises:
        HeadError: No batch or labels; labels that are no class numbers, or beyond the head's outputs; one class; outputs
            without images; features that are not finite; no head that was found, or one that can't be fitted. The model is then
            as before, bit for bit, as it is where the loader or the forward raises an error of its own.
        TraceError: The forward fails on the images.
        UnsupportedModelError: As `ghn_init.trace`, or the model is on the meta device, a program of `torch.export`, or
            distributed over several processes.
        ValueError: `max_images` is no whole number, or below 1.

    Example:
        >>> import ghn_init, torch
        >>> images, labels = torch.randn(60, 3, 8, 8), torch.arange(60) % 3
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 3))
        >>> fit = ghn_init.fit_head_(model, [(images, labels)])
        >>> fit.images, fit.heads
        (60, ('2.weight', '2.bias'))
    """
    check_one_process(model)
    inner, prefix = unwrap(model)
    check_values(inner)
    check_modes(inner)
    try:
        check_loader(loader)
        with untouched(inner), generators_kept(loader):
            norms = unfrozen_norms(inner) if recalibrate else []
            return fit_on(Batches(watched(loader), inner, max_images), prefix, norms)
    except RecalibrationError as error:
        raise HeadError(str(error)) from error


def fit_on(
    batches: Batches, prefix: str, norms: Sequence[nn.Module], keep: Collection[str] = (), overwrite: Collection[str] = ()
) -> HeadFit:
    """As `fit_head_`, on batches of a model without wrappers; heads of which a parameter is in `keep` are left out.

    Args:
        batches: Which know the model.
        prefix: That wrappers put before its parameters' names.
        norms: Whose statistics are to be recomputed first.
        keep: Dotted names, with the prefix.
        overwrite: Likewise, of what is written though it is frozen.

    Raises:
        NothingToFitError: All are left out.
        HeadError: As `fit_head_`.
    """
    started = time.perf_counter()
    model = batches.model
    class_numbers(labels_of(batches.first), len(batches.first_inputs))
    few = batches.first_inputs.few()
    with traced_on(model, few):
        found = find_heads(model, few)
    parameters = dict(model.named_parameters())
    places = [place for place in found if not any(prefix + name in keep for name in place.parameters)]
    frozen = [p for p in frozen_beside(places, parameters) if not any(prefix + name in overwrite for name in p.parameters)]
    places = [place for place in places if place not in frozen]
    if not places:
        raise NothingToFitError(f"the head '{prefix}{found[0].heads[0].weight}' is left out; there is no other to fit.")
    names = [name for place in places for name in place.parameters]
    tensors = [*model.buffers(), *(parameters[name] for name in names)]
    with restored_on_failure(tensors), buffers_kept(model, norms):
        recalibrate_(model, norms, batches.contents)
        model.eval()
        weights = {head.weight: parameters[head.weight] for place in places for head in place.heads}
        fits = {}
        for place in sorted(places, key=lambda place: (place.last, -place.output)):  # a head may see what one before it gives
            features = collect(batches, weights, places[0])
            fits[place.output] = Regression(batches, place, features, weights).write_(parameters), features
    first, features = fits[places[0].output]
    labels = features.labels
    return HeadFit(
        heads=tuple(prefix + name for name in names),
        accuracy=100 * float((first.left_out.argmax(1) == labels).double().mean()),
        majority=100 * int(labels.bincount().max()) / len(labels),
        strength=first.strength,
        temperature=first.temperature,
        images=len(labels),
        classes=places[0].classes,
        features=first.features,
        seconds=time.perf_counter() - started,
        copies=features.copies,
        frozen=tuple(prefix + name for place in frozen for name in place.parameters if name not in names),
    )

"""What heads see of the user's images, and the labels that go with it."""

# Axes: B images of a batch, N of all, D features

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import HeadError
from ghn_init.heads.places import Place
from ghn_init.heads.watch import NOT_FITTED, Watch
from ghn_init.models.batches import SINGLE, Batches, Inputs, forward, is_one_label, labels_of
from ghn_init.models.copies import Seen
from ghn_init.tracing.alone import eagerly
from ghn_init.tracing.record import output_tensors


@dataclass(frozen=True)
class Features:
    """All images as the heads see them, in the order of the loader, each once.

    Attributes:
        of: Dotted name of a head's weight → (N, D), in the model's own precision, on the CPU.
        flipped: Dotted name → whether the weight is stored (in, out).
        labels: (N,) int64.
        copies: How many were left out, since the same image with the same label had come before.
    """

    of: Mapping[str, Tensor]
    flipped: Mapping[str, bool]
    labels: Tensor
    copies: int


def run(model: nn.Module, inputs: Inputs, watch: Watch) -> list[Tensor]:
    """One forward pass under observation; the tensors that it returns."""
    plain = torch.autocast(next(model.parameters()).device.type, enabled=False)  # which would round what is fitted
    with plain, torch.no_grad(), eagerly(), watch:
        return list(output_tensors(forward(model, inputs)))


def collect(batches: Batches, weights: Mapping[str, Tensor], place: Place) -> Features:
    """Runs the model, which is in eval mode, on all images.

    Args:
        batches: Of labelled images.
        weights: Dotted name → each head's weight.
        place: Where the first output comes from, which labels have to fit.

    Raises:
        HeadError: Labels are no class numbers, or not one per image, or of one class, or a class has no image; a head is not
            run in eval mode, or sees no batch of images, or values that are not finite.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in weights}
    labels: list[Tensor] = []
    seen, read = Seen(), 0
    for content, inputs in batches:
        numbers = class_numbers(labels_of(content), len(inputs))
        counted = seen.new(inputs, numbers)
        counted[batches.max_images - read :] = False
        labels.append(numbers[counted])
        read = min(read + len(inputs), batches.max_images)
        watch = Watch(weights)
        run(batches.model, inputs, watch)
        for name, part in parts.items():
            part.append(_checked(watch, name, len(inputs)).cpu()[counted])
    of = {name: torch.cat(part) for name, part in parts.items()}
    numbers = torch.cat(labels)
    found = Features(of, watch.flipped, numbers, read - len(numbers))
    _check_classes(found.labels, place, full=read == batches.max_images)
    for name, features in found.of.items():
        broken = int((~features.isfinite()).any(1).sum())
        if broken:
            strange = sum(inputs.not_finite() for _, inputs in batches)
            cause = f"images that are not finite themselves: {strange}" if strange else "look at the weights before it"
            raise HeadError(f"what the head '{name}' sees of {broken} of {len(features)} images is not finite; {cause}.")
    return found


def class_numbers(labels: Any, count: int) -> Tensor:
    """(B,) int64 labels of a batch.

    Args:
        labels: As the loader yields them.
        count: B.

    Raises:
        HeadError: They are something else.
    """
    wanted = f"expected whole class numbers from 0, one for each of {count} images"
    if labels is None:
        raise HeadError("the loader yields images without labels; yield (images, labels), or mappings with 'label'.")
    if is_one_label(labels):
        raise HeadError(SINGLE)
    try:
        numbers = torch.as_tensor(labels, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise HeadError(f"the labels are a {type(labels).__name__} such as {str(labels)[:40]!r}; {wanted}.") from error
    if numbers.is_floating_point() or numbers.is_complex() or tuple(numbers.shape) != (count,):
        raise HeadError(f"the labels are {numbers.dtype} of shape {tuple(numbers.shape)}; {wanted}{_way(numbers, count)}.")
    return numbers.detach().long()


def _way(labels: Tensor, count: int) -> str:
    """How other labels may become class numbers, or what is to be done with those that are none."""
    if labels.shape[:1] != (count,):
        return ""
    if labels.dim() == 2 and labels.shape[1] > 1 and _one_hot(labels):
        return ": if they are one-hot, yield labels.argmax(1)"
    if labels.numel() == count and not labels.is_complex() and torch.equal(labels, labels.long().to(labels.dtype)):
        return ": yield labels.long()" if labels.dim() == 1 else ": yield labels.flatten().long()"
    return '. To data without classes no head is fitted: initialize(…, exclude="<head>.*") leaves it out, as images alone do'


def _one_hot(labels: Tensor) -> bool:
    ones, others = (labels == 1).sum(1), (labels != 0).sum(1)
    return bool((ones == 1).all() and (others == 1).all())


def _checked(watch: Watch, name: str, count: int) -> Tensor:
    features = watch.features.get(name)
    if features is None:
        raise HeadError(
            f"no linear layer or convolution has '{name}' itself for its weight in eval mode (it may be reparametrised); "
            f"{NOT_FITTED}."
        )
    if features.dim() != 2 or len(features) != count:
        raise HeadError(f"the head '{name}' sees {tuple(features.shape)} of {count} images; expected one row per image.")
    return features


def _check_classes(labels: Tensor, place: Place, full: bool) -> None:
    """Every output has its images; `full`: the loader may have more of them than counted."""
    (head, *_), K = place.heads, place.classes
    first = ""
    if place.outputs > 1:
        first = (
            f" The first of the model's {place.outputs} outputs is what counts: let the forward return its classes first, or "
            f"leave the heads out (exclude)."
        )
    seen = labels.unique().tolist()
    if K < 2:
        raise HeadError(f"the head '{head.weight}' has {K} output; expected one for each class, two at least.{first}")
    if seen[0] < 0 or seen[-1] >= K:
        raise HeadError(
            f"the labels go from {seen[0]} to {seen[-1]}; the head '{head.weight}' has classes 0 to {K - 1}.{first}"
        )
    if len(seen) == 1:
        raise HeadError(f"all {len(labels)} images are of class {seen[0]}; a classifier needs images of two classes at least.")
    if missing := without_images(labels, K):
        others = ""
        if full:
            others = ", shuffle them, or let more than the first of them count: pass max_images=…"
        raise HeadError(
            f"the head '{head.weight}' has {K} outputs, but none of {len(labels)} images is of class {missing}; make the model "
            f"with an output for each class of the data{others}.{first}"
        )


def without_images(labels: Tensor, classes: int) -> str:
    """Classes that have none of the labels: `3, 4, 5 and 2 more`; empty where each has one."""
    missing = sorted(set(range(classes)) - set(labels.unique().tolist()))
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return ", ".join(map(str, missing[:3])) + more

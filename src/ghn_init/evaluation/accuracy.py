"""Accuracy of one model on predicted parameters, without any training of it.

As published, batch norms use the statistics of the batch (64 images) at hand, since running statistics are not predicted.
Source: GHN-2 (arXiv 2110.13100), section 5.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ghn_init.errors import EvaluationError
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.prediction.functional import Functional, functional
from ghn_init.prediction.precision import mixed_precision
from ghn_init.tasks.image_data import Images
from ghn_init.tracing.record import output_tensors

BATCH = 64
"""Images whose statistics a batch norm uses."""


@torch.inference_mode()
def accuracy(
    ghn: GraphHyperNetwork,
    module: nn.Module,
    images: Images,
    task: str | None = None,
    batch_size: int = BATCH,
    bf16: bool = False,
) -> float:
    """Top-1 accuracy in percent of `module` on parameters that `ghn` predicts; those that it can't predict keep their values.

    Args:
        ghn: The hypernetwork.
        module: (B, 3, H, W) → (B, classes); it is left as it is. It may be on the meta device where all of it is predicted.
        images: What it is tested on; shuffled where their classes come in runs.
        task: Whose head is predicted; None: the module's head is decoded like other layers.
        batch_size: Images whose statistics a batch norm uses.
        bf16: Run the network in bfloat16 where it is faster.

    Raises:
        EvaluationError: It has not an output for each class.
        UnsupportedModelError: As `ghn_init.trace`, or it has parts that keep values which it has not.
        TraceError: As `ghn_init.trace`.
    """
    return predicted_top1(ghn, form_of(module, images), images.mixed(), task, batch_size, bf16)


def form_of(module: nn.Module, images: Images) -> Functional:
    """The functional form of a network that classifies such images.

    Raises:
        EvaluationError: It has not an output for each class.
        UnsupportedModelError: As `functional`.
        TraceError: Likewise.
    """
    inputs = image_inputs(images)
    form, found = functional(module, inputs)
    shape, wanted = found.record.outputs[0].shape, (len(inputs), images.num_classes)
    if shape != wanted:
        raise EvaluationError(
            f"{type(module).__name__} returns a tensor of shape {shape} for {len(inputs)} images of {images.num_classes} "
            f"classes; expected {wanted}: pass networks with an output for each class."
        )
    return form


def image_inputs(images: Images) -> Tensor:
    """Two images on the meta device, as `trace` takes them."""
    return torch.empty(2, *images.pixels.shape[1:], device="meta")


def predicted_top1(
    ghn: GraphHyperNetwork, form: Functional, images: Images, task: str | None, batch_size: int = BATCH, bf16: bool = False
) -> float:
    """Top-1 accuracy in percent of a model's functional form on predicted parameters."""
    (cores,) = ghn([form.graph], [form.slots], [task])
    return top1(form, form.fill(cores), images, batch_size, bf16)


def top1(
    form: Functional, parameters: Mapping[str, Tensor], images: Images, batch_size: int = BATCH, bf16: bool = False
) -> float:
    """Top-1 accuracy in percent of a network on given parameters; an answer that is no number is wrong."""
    correct = 0
    sizes = _batches(len(images.labels), batch_size)
    for pixels, labels in zip(images.pixels.split(sizes), images.labels.split(sizes), strict=True):
        with mixed_precision(pixels.device, bf16):
            logits = next(output_tensors(form(parameters, images.normalise(pixels))))
        correct += int(((logits.argmax(1) == labels) & logits.isfinite().all(1)).sum())
    return 100 * correct / len(images.labels)


def _batches(count: int, size: int) -> list[int]:
    """Sizes of the batches; the last image is not left alone, of which a batch norm has no variance."""
    sizes = [min(size, count - begun) for begun in range(0, count, size)]
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return sizes

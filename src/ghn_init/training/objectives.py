"""What a hypernetwork is trained for: the loss of a network's predicted parameters, as they are or after some fine-tuning."""

# Axes: B examples

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ghn_init.errors import TrainingError
from ghn_init.tasks.task import Batch, Task
from ghn_init.training.networks import Network
from ghn_init.training.numbers import real, whole

Run = Callable[[Mapping[str, Tensor], tuple[Tensor, ...]], Tensor]
"""Parameters and a batch's inputs → outputs in float32."""


class Objective(Protocol):
    """Judges predicted parameters."""

    @property
    def batches(self) -> int:
        """How many batches it uses for a network."""

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[Batch], seed: int
    ) -> tuple[Tensor, float]:
        """Loss, differentiable with respect to `parameters`, and accuracy.

        Args:
            network: Whose parameters; `network.task` has the loss.
            run: Runs it.
            parameters: All parameters by name, predicted and kept.
            batches: Inputs and targets, `self.batches` times.
            seed: Of what is random.
        """


@dataclass(frozen=True)
class ZeroShot:
    """The task's loss of the predicted parameters, without any training of the network, as published."""

    @property
    def batches(self) -> int:
        """One."""
        return 1

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[Batch], seed: int
    ) -> tuple[Tensor, float]:
        """Loss and accuracy on the one batch."""
        ((inputs, targets),) = batches
        outputs = run(parameters, inputs)
        return network.task.loss(outputs, targets), network.task.accuracy(outputs, targets)


@dataclass(frozen=True)
class FineTune:
    """The task's loss after a few steps of SGD with a fresh head on some of the classes: what users do with predictions.

    For tasks whose targets are classes, (B,), and whose first input is a batch. First order, as in FOMAML (Finn et al., ICML
    2017, arXiv 1703.03400, section 5.2): the gradient at the fine-tuned parameters is taken for the gradient at the predicted
    ones. The head's classes are drawn and renumbered for each network, so that the hypernetwork can't know them; the head
    itself is random and is not predicted.

    Attributes:
        steps: Of SGD, each on a batch of its own.
        lr: Their learning rate.
        classes: How many classes a network has, drawn of those that the batches show; the others' examples are left out, and
            batches that keep fewer than two. Where all do, their examples make the one batch that judges the predictions.
    """

    steps: int = 5
    lr: float = 0.05
    classes: int = 3

    def __post_init__(self) -> None:
        """Refuses what says nothing of predictions.

        Raises:
            TrainingError: A value is no number, or out of its range.
        """
        steps, lr, classes = whole("steps", self.steps), real("lr", self.lr), whole("classes", self.classes)
        if steps < 0:
            raise TrainingError(f"steps is {steps}; FineTune expects 0 at least.")
        if not 0 < lr < math.inf:
            raise TrainingError(f"lr is {lr}; FineTune expects a finite number above 0.")
        if classes < 2:
            raise TrainingError(
                f"classes is {classes}; FineTune expects 2 at least: of one class the loss is 0, whatever is predicted."
            )
        for name, value in {"steps": steps, "lr": lr, "classes": classes}.items():
            object.__setattr__(self, name, value)

    @property
    def batches(self) -> int:
        """One for each step, and one to judge the outcome by."""
        return self.steps + 1

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[Batch], seed: int
    ) -> tuple[Tensor, float]:
        """Loss, whose gradient is the one after fine-tuning, and the fine-tuned network's accuracy on the last batch."""
        for _, labels in batches:
            _check_classes(labels, network.task)
        generator = torch.Generator().manual_seed(seed)
        heads = [slot.name for slot in network.slots if slot.head]
        tuned = {name: p.detach().requires_grad_() for name, p in parameters.items() if p.is_floating_point()}
        fixed = {name: p for name, p in parameters.items() if name not in tuned}
        for name in heads:
            fan_in = tuned[name].shape[1] if tuned[name].dim() > 1 else 0
            fresh = torch.randn(tuned[name].shape, generator=generator) * (fan_in**-0.5 if fan_in else 0.0)
            tuned[name] = fresh.to(tuned[name]).requires_grad_()
        shown = torch.cat([labels for _, labels in batches]).unique()
        chosen = shown[torch.randperm(len(shown), generator=generator).to(shown.device)][: self.classes]
        parts = [_of_classes(inputs, labels, chosen) for inputs, labels in batches]
        together = tuple(map(torch.cat, zip(*(inputs for inputs, _ in parts), strict=True))), torch.cat([t for _, t in parts])
        *support, query = [part for part in parts if len(part[1]) > 1] or [together]
        for inputs, labels in support:
            loss = network.task.loss(run({**fixed, **tuned}, inputs)[:, : self.classes], labels)
            gradients = torch.autograd.grad(loss, list(tuned.values()), allow_unused=True)
            with torch.no_grad():
                tuned = {
                    name: (p - self.lr * g if g is not None else p).requires_grad_()
                    for (name, p), g in zip(tuned.items(), gradients, strict=True)
                }
        logits = run({**fixed, **tuned}, query[0])[:, : self.classes]
        loss = network.task.loss(logits, query[1])
        gradients = torch.autograd.grad(loss, list(tuned.values()), allow_unused=True)
        # A surrogate with the loss's value and, at the predicted parameters, the fine-tuned ones' gradient.
        pulls = [
            (parameters[name] * g.detach()).sum()
            for name, g in zip(tuned, gradients, strict=True)
            if g is not None and name not in heads and name not in network.kept
        ]
        if not pulls:
            raise TrainingError(
                f"of a network of the task {network.task.name!r} the head alone is predicted, which FineTune draws anew; leave "
                f"such networks out, or train with ZeroShot."
            )
        surrogate = torch.stack(pulls).sum()
        return surrogate - surrogate.detach() + loss.detach(), network.task.accuracy(logits, query[1])


def _check_classes(labels: Tensor, task: Task) -> None:
    if labels.dim() != 1 or labels.is_floating_point():
        raise TrainingError(
            f"the targets of the task {task.name!r} are {labels.dtype} of shape {tuple(labels.shape)}; FineTune takes one "
            f"class number for each example, (B,): train with ZeroShot."
        )


def _of_classes(inputs: tuple[Tensor, ...], labels: Tensor, chosen: Tensor) -> Batch:
    """The examples of the chosen classes, which are renumbered in the order of choice."""
    matches = labels[:, None] == chosen.to(labels)[None]
    rows = matches.any(1)
    return tuple(x[rows] for x in inputs), matches[rows].int().argmax(1)

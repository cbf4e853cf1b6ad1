"""What a hypernetwork is trained for: the loss of a network's predicted parameters, as they are or after some fine-tuning."""

# Axes: B images

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ghn_init.training.networks import Network

Run = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""Parameters and pixels → logits."""


class Objective(Protocol):
    """Judges predicted parameters."""

    @property
    def batches(self) -> int:
        """How many batches of images it uses for a network."""

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], seed: int
    ) -> tuple[Tensor, float]:
        """Loss, differentiable with respect to `parameters`, and accuracy.

        Args:
            network: Whose parameters.
            run: Runs it.
            parameters: All predicted parameters by name.
            batches: (B, 3, H, W) pixels and (B,) labels, `self.batches` times.
            seed: Of what is random.
        """


@dataclass(frozen=True)
class ZeroShot:
    """Cross-entropy of the predicted parameters, without any training of the network, as published.

    Attributes:
        label_smoothing: Share of the target that is spread over all classes.
    """

    label_smoothing: float = 0.0

    @property
    def batches(self) -> int:
        """One."""
        return 1

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], seed: int
    ) -> tuple[Tensor, float]:
        """Loss and accuracy on the one batch."""
        ((pixels, labels),) = batches
        logits = run(parameters, pixels)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing), accuracy


@dataclass(frozen=True)
class FineTune:
    """Cross-entropy after a few steps of SGD with a fresh head on some of the classes: what users do with predictions.

    First order, as in FOMAML (Finn et al., ICML 2017, arXiv 1703.03400, section 5.2): the gradient at the fine-tuned
    parameters is taken for the gradient at the predicted ones. The head's classes are drawn and renumbered for each network, so
    that the hypernetwork can't know them; the head itself is random and is not predicted.

    Attributes:
        steps: Of SGD, each on a batch of its own.
        lr: Their learning rate.
        classes: How many classes a task has, drawn of those that the batches show; the others' images are left out, and
            batches that keep fewer than two. Where all do, their images make the one batch that judges the predictions.
        label_smoothing: As in `ZeroShot`.
    """

    steps: int = 5
    lr: float = 0.05
    classes: int = 3
    label_smoothing: float = 0.0

    @property
    def batches(self) -> int:
        """One for each step, and one to judge the outcome by."""
        return self.steps + 1

    def __call__(
        self, network: Network, run: Run, parameters: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], seed: int
    ) -> tuple[Tensor, float]:
        """Loss, whose gradient is the one after fine-tuning, and the fine-tuned network's accuracy on the last batch."""
        generator = torch.Generator().manual_seed(seed)
        heads = [slot.name for slot in network.slots if slot.kind in ("classifier_weight", "classifier_bias")]
        tuned = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        for name in heads:
            fan_in = tuned[name].shape[1] if tuned[name].dim() > 1 else 0
            fresh = torch.randn(tuned[name].shape, generator=generator) * (fan_in**-0.5 if fan_in else 0.0)
            tuned[name] = fresh.to(tuned[name]).requires_grad_()
        shown = torch.cat([labels for _, labels in batches]).unique()
        chosen = shown[torch.randperm(len(shown), generator=generator).to(shown.device)][: self.classes]
        tasks = [_of_classes(pixels, labels, chosen) for pixels, labels in batches]
        together = torch.cat([pixels for pixels, _ in tasks]), torch.cat([labels for _, labels in tasks])
        *support, query = [task for task in tasks if len(task[1]) > 1] or [together]
        for pixels, labels in support:
            gradients = torch.autograd.grad(self._loss(run(tuned, pixels), labels), list(tuned.values()), allow_unused=True)
            with torch.no_grad():
                tuned = {
                    name: (p - self.lr * g if g is not None else p).requires_grad_()
                    for (name, p), g in zip(tuned.items(), gradients, strict=True)
                }
        logits = run(tuned, query[0])
        loss = self._loss(logits, query[1])
        gradients = torch.autograd.grad(loss, list(tuned.values()), allow_unused=True)
        # A surrogate with the loss's value and, at the predicted parameters, the fine-tuned ones' gradient.
        pulls = [
            (parameters[name] * g.detach()).sum()
            for name, g in zip(tuned, gradients, strict=True)
            if g is not None and name not in heads
        ]
        surrogate = torch.stack(pulls).sum()
        accuracy = (logits[:, : self.classes].argmax(1) == query[1]).float().mean().item()
        return surrogate - surrogate.detach() + loss.detach(), accuracy

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits[:, : self.classes], labels, label_smoothing=self.label_smoothing)


def _of_classes(pixels: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The images of the chosen classes, which are renumbered in the order of choice."""
    matches = labels[:, None] == chosen.to(labels)[None]
    rows = matches.any(1)
    return pixels[rows], matches[rows].int().argmax(1)

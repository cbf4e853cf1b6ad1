"""One model on its way through a race: so many steps of training, then judged on held-out images."""

# Axes: B images, K classes

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ghn_init.errors import ComparisonError
from ghn_init.models.batches import Inputs
from ghn_init.tracing.record import output_tensors
from ghn_init.tracing.untouched import seed_torch
from ghn_init.trials.pool import Pool

MakeOptimizer = Callable[[Iterable[nn.Parameter], float, float], torch.optim.Optimizer]
"""Parameters, peak learning rate, weight decay → optimiser."""

WEIGHT_DECAY = 5e-4
CLIP = 5.0
"""Largest norm of a step's gradients: a fitted head's first ones are large."""


def sgd(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """With momentum 0.9."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=weight_decay)


def optimizer_of(
    make: MakeOptimizer, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser that is made of them. One of PyTorch's classes gets the numbers by their names: its places are others.

    Args:
        make: A function of the three, one of PyTorch's classes, or a partial of one, whose own keywords stay.
        parameters: Which are trained.
        lr: Peak learning rate.
        weight_decay: Likewise.

    Raises:
        ComparisonError: None is made.
    """
    kind = make.func if isinstance(make, partial) else make
    way = "pass a function such as lambda parameters, lr, weight_decay: torch.optim.SGD(parameters, lr=lr, momentum=0.9)"
    try:
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            keywords = {"lr": lr, "weight_decay": weight_decay, **getattr(make, "keywords", {})}
            made: object = make(parameters, **keywords)  # type: ignore[call-arg]
        else:
            made = make(parameters, lr, weight_decay)
    except Exception as error:  # whatever the function raises
        raise ComparisonError(
            f"the optimizer {getattr(kind, '__name__', repr(kind))} can't be made of parameters, lr and weight_decay "
            f"({type(error).__name__}: {error}); {way}."
        ) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ComparisonError(f"the optimizer is a {type(made).__name__}; {way}.")
    return made


def rates_of(name: str, rates: object) -> tuple[Any, ...]:
    """Those of a list, an array, a tensor, or of what yields them once.

    Raises:
        ComparisonError: It is one number in the place of several.
    """
    plain = rates.tolist() if isinstance(rates, np.ndarray | Tensor) else rates
    if not isinstance(plain, Iterable) or isinstance(plain, str):
        raise ComparisonError(f"{name} is {plain!r}; expected several to choose from: pass [{plain!r}].")
    return tuple(plain)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """Each group's learning rate rises to what it is now and falls to almost nothing; momentum stays as it is."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=max(steps, 2), cycle_momentum=False)


def outputs_of(model: nn.Module, inputs: Inputs) -> object:
    """What the model gives.

    Raises:
        ComparisonError: Its forward fails.
    """
    try:
        return model(*inputs.args, **inputs.kwargs)
    except Exception as error:  # whatever the model's forward raises
        first = next((v for v in (*inputs.args, *inputs.kwargs.values()) if isinstance(v, Tensor)), torch.empty(0))
        way = "make it for their size, or resize them"
        if len(inputs) == 1:
            way = f"norms need two images: pass larger batches, or drop_last=True; if that isn't it, {way}"
        raise ComparisonError(
            f"{type(model).__name__} fails on images of shape {tuple(first.shape)} ({type(error).__name__}: {error}); {way}."
        ) from error


def logits_of(model: nn.Module, inputs: Inputs) -> Tensor:
    """(B, K), the first tensor that the model gives.

    Raises:
        ComparisonError: Its forward fails, or gives something else.
    """
    logits = next(output_tensors(outputs_of(model, inputs)), None)
    if logits is None or logits.dim() != 2 or len(logits) != len(inputs):
        shape = "nothing" if logits is None else f"a tensor of shape {tuple(logits.shape)}"
        raise ComparisonError(f"{type(model).__name__} gives {shape} for {len(inputs)} images; expected (images, classes).")
    return logits


def descend_(optimizer: torch.optim.Optimizer, loss: Tensor, clip: float | None = None) -> bool:
    """One step down a loss; where that isn't finite there is none, and the answer is False."""
    optimizer.zero_grad()
    if not torch.isfinite(loss):
        return False
    loss.backward()
    if clip is not None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()
    return True


class Contestant:
    """A model that is trained in place.

    Args:
        model: Which may be changed.
        rate: Peak learning rate.
        optimizer: Makes one of (parameters, peak learning rate, weight decay).

    Attributes:
        steps: Of training so far.
        milliseconds: Of an image's forward pass when it was judged last: the median of the batches after the first, where
            there are several.

    Raises:
        ComparisonError: All parameters are frozen, or there is no such optimiser.
    """

    def __init__(self, model: nn.Module, rate: float, optimizer: MakeOptimizer = sgd) -> None:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ComparisonError(f"all parameters of {type(model).__name__} are frozen; there is nothing to train.")
        self.model, self.rate, self.steps, self.milliseconds = model, rate, 0, 0.0
        self._optimizer = optimizer_of(optimizer, trainable, rate, WEIGHT_DECAY)
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        self._device = trainable[0].device

    @torch.enable_grad()
    def train(self, pool: Pool, until: int, batch_size: int, seed: int) -> None:
        """Trains to that many steps in all, in one cycle of the learning rate, so that it is judged when the rate is low.

        Going on is a warm restart (Loshchilov and Hutter, ICLR 2017, arXiv 1608.03983): periods may double and what was learnt
        stays.
        """
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak
            group.pop("initial_lr", None)
        schedule = one_cycle(self._optimizer, until - self.steps)
        seed_torch(seed + self.steps)  # dropout, alike for all
        self.model.train()
        for number in range(self.steps, until):
            batch = pool.batch(number, batch_size, seed)
            logits = logits_of(self.model, batch.to(self._device).inputs)
            check_labels(self.model, logits, batch.labels)
            if descend_(self._optimizer, F.cross_entropy(logits.float(), batch.labels.to(logits.device)), CLIP):
                schedule.step()
        self.model.zero_grad()  # many wait for their next rung, each with gradients as large as its weights
        self.steps = until

    def judge(self, held_out: Pool) -> Tensor:
        """(N,) bool, on the CPU: which images are told rightly."""
        right, milliseconds = [], []
        with torch.no_grad(), batch_statistics(self.model):
            for part in held_out.parts():
                begun = time.perf_counter()
                logits = logits_of(self.model, part.to(self._device).inputs)
                check_labels(self.model, logits, part.labels)
                told = logits.argmax(1).cpu() == part.labels
                right.append(told & ~logits.isnan().any(1).cpu())  # argmax would take NaN for the first class
                milliseconds.append(1000 * (time.perf_counter() - begun) / len(part))
        self.milliseconds = statistics.median(milliseconds[1:] or milliseconds)
        return torch.cat(right)


class batch_statistics:  # noqa: N801
    """Eval mode, but for batch norms, which use the batch's statistics.

    After few steps running ones are still those of the start, or of weights that are gone, and would decide in the weights'
    place. The model is the contestant's own: its running statistics may change.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._model.eval()
        for module in self._model.modules():
            if isinstance(module, _BatchNorm):
                module.training = True

    def __exit__(self, *failure: object) -> None:
        self._model.train()


def check_classifier(model: nn.Module) -> None:
    """Refuses a model that says of itself that it has no classes: its last layer is one like the others.

    Raises:
        ComparisonError: It does.
    """
    if getattr(model, "num_classes", None) == 0:  # timm's mark
        raise ComparisonError(f"{type(model).__name__} has no classes (num_classes is 0); only a classifier can be judged.")


def check_labels(model: nn.Module, logits: Tensor, labels: Tensor) -> None:
    """Refuses labels that a model, which gave (B, K) logits, has no class for.

    Raises:
        ComparisonError: They are.
    """
    check_range(model, logits.shape[1], labels)


def check_range(model: nn.Module, classes: int, labels: Tensor) -> None:
    """As `check_labels`, of a model that has so many classes."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        raise ComparisonError(
            f"the labels go from {least} to {most}, and {type(model).__name__} has classes 0 to {classes - 1}; make it with an "
            f"output for each class of the data."
        )

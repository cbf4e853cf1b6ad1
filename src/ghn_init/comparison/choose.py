"""The start that is best for a model on the user's data, and never worse than its own init as far as that can be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ghn_init.api import Hypernetwork, prediction_for
from ghn_init.errors import ComparisonError
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import check_one_process, taken_off
from ghn_init.trials import choose as race
from ghn_init.trials.anew import Made
from ghn_init.trials.choice import Choice
from ghn_init.trials.contestant import MakeOptimizer, sgd
from ghn_init.trials.pool import seeded
from ghn_init.trials.predicting import copied, predicting

OPTIONS = ("device", "strict", "only", "exclude", "overwrite", "condition")
"""Keywords of `predict` that a choice leaves to the caller."""


def choose(
    model: nn.Module | Callable[[], nn.Module],
    loader: Iterable[Any],
    ghn: Hypernetwork = None,
    example_inputs: Any = None,
    *,
    steps: int = race.STEPS,
    rungs: int = race.RUNGS,
    rates: Sequence[float] = race.RATES,
    batch_size: int = race.BATCH_SIZE,
    held_out: float = race.HELD_OUT,
    max_images: int = race.RACED_IMAGES,
    optimizer: MakeOptimizer = sgd,
    seed: int = 0,
    **options: Any,
) -> Choice:
    """Starts a model as it learns your data best, in a short race that its own init wins unless another start is surely ahead.

    Starts: the model's own init, orthogonal weights, predicted parameters, predicted weights alone (biases and norms keep the
    model's own values), each with the model's own head and with one fitted in closed form. All see the same images in the same
    order. After each rung they are judged on images held out of yours, with batch statistics; the better half of the others
    goes on with twice the steps, the own init and predicted parameters always. The best of the last rung is chosen where the
    exact sign test on the held-out images says that it is ahead of the own init (95 %, for all starts together); else the own
    init is. Predicted parameters that are surely ahead of it too are taken before a best that isn't surely ahead of them.

    Then the model is what it would have been before the first step: as it was, or as `initialize(model, data=loader)` writes
    it, for predicted parameters with a fitted head bit for bit. Random states, modes and gradients stay as they were.

    Args:
        model: Any that gives (images, classes), which is written to; or a function that makes one, which is seeded.
        loader: Yields (images, labels), or mappings, as `fit_head_` takes them, of one size. Read up to four times, or
            held in memory where it is an iterator.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        example_inputs: As for `initialize`; by default from the loader.
        steps: Of training, of those that come to the last rung; each rung before it has half as many. Eight starts in three
            rungs take 5.25 times as many steps in all.
        rungs: How often the field is judged.
        rates: Peak learning rates; each start is tried with each.
        batch_size: Images of a step.
        held_out: Share of each class that judges, rounded down.
        max_images: The first so many race, and are held in memory.
        optimizer: (parameters, learning rate, weight decay) → optimiser; by default SGD with momentum 0.9.
        seed: Of the held-out images, the order, and what `predict` draws.
        options: Further keywords of `predict`: `device`, `strict`, `only`, `exclude`, `overwrite`, `condition`.

    Returns:
        What was chosen, why, at what cost; `choice.model` is the model.

    Raises:
        ComparisonError: One class, none of some of the model's, too few images, images of several sizes, labels beyond the
            model's classes, settings that no race can have, a model that can't be copied, has no classes, is frozen, or whose
            forward fails. The model is then as before, as it is where the loader raises an error of its own.
        HeadError: No labels, or labels that are no class numbers.
        GHNInitError: As `predict`.
        ValueError: `seed` or `max_images` is no whole number, or too small, or as `predict`.
        TypeError: Another keyword, such as `head`: the model's own is raced, and one that is fitted.

    Example:
        >>> import ghn_init, torch
        >>> images, labels = torch.randn(60, 3, 8, 8), torch.arange(60) % 3
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 3))
        >>> choice = ghn_init.choose(model, [(images, labels)], steps=2, rungs=2)
        >>> choice.chosen, choice.held_out, choice.model is model  # noise: nothing is better than anything
        ('default', 15, True)
    """
    strange = sorted(options.keys() - OPTIONS)
    if strange:
        raise TypeError(f"choose() has no keyword {strange[0]!r}; of predict's it takes {', '.join(OPTIONS)}.")
    settings = race.Settings(steps, rungs, rates, batch_size, held_out, max_images, optimizer, seed).checked()
    with untouched(nn.Module()), torch.inference_mode(False):  # random states stay; contestants learn
        made, copies = _made(model, settings.seed)
        check_one_process(made)
        starting = predicting(prediction_for, made, ghn, example_inputs, {**options, "seed": settings.seed})
        return race.choose_(made, loader, starting, copies, settings)


def _made(model: nn.Module | Callable[[], nn.Module], seed: int) -> tuple[nn.Module, Callable[[], nn.Module]]:
    """The model, and what makes others that are equal to it."""
    if isinstance(model, nn.Module):
        return model, partial(copied, model)

    def made() -> nn.Module:
        seeded(seed)
        found = model()
        if not isinstance(found, nn.Module):
            raise ComparisonError(f"what makes the model gives a {type(found).__name__}; expected a torch.nn.Module.")
        return found

    first = made()
    so_far = Made()
    for one in (first, made()):
        so_far.check("the function", one)
    return first, lambda: taken_off(made())[0]

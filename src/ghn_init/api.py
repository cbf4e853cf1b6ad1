"""The user's verbs: trace → select → embed → decode → apply."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ghn_init.checkpoints.pretrained import given
from ghn_init.confidence.confidence import Expecting
from ghn_init.devices import found as device_found
from ghn_init.errors import CheckpointError
from ghn_init.graph import Graph
from ghn_init.heads.fit import MAX_IMAGES
from ghn_init.heads.start import start_, why_not_fitted
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.slots import Slot, slots_of
from ghn_init.models.batches import Batches, check_loader, traced_on
from ghn_init.models.generators import generators_kept
from ghn_init.models.modes import check_modes
from ghn_init.prediction.balance import adding_up, balanced
from ghn_init.prediction.cautions import cautions
from ghn_init.prediction.clues import clues, side
from ghn_init.prediction.conditioning import Condition, Conditioning, chosen
from ghn_init.prediction.parametrized import COMPUTED, NO_INVERSE, computed_weights, invertible, parametrizations
from ghn_init.prediction.prediction import Prediction, padding_rows, predicted_norms
from ghn_init.prediction.report import Report
from ghn_init.prediction.selection import Head, Patterns, select
from ghn_init.prediction.twins import NOTE, told_apart, twins, warning
from ghn_init.progress import watched
from ghn_init.tracing.trace import read
from ghn_init.tracing.untouched import untouched
from ghn_init.tracing.unwrap import check_one_process, unwrap
from ghn_init.trials.choose import Settings, choose_
from ghn_init.trials.pool import seeded
from ghn_init.trials.predicting import copied, predicting
from ghn_init.whole import whole_seed

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)
Hypernetwork = GraphHyperNetwork | str | os.PathLike[str] | None
"""A hypernetwork, or what `load` takes; None: the bundled one."""


def initialize(
    model: Model,
    ghn: Hypernetwork = None,
    example_inputs: Any = None,
    *,
    head: Head = "auto",
    device: torch.device | str = "auto",
    seed: int = 0,
    strict: bool = False,
    only: Patterns | None = None,
    exclude: Patterns = (),
    overwrite: Patterns = (),
    condition: Condition | Conditioning = "auto",
    data: Iterable[Any] | None = None,
    max_images: int | None = None,
    choose: bool = False,
    on_report: Callable[[Report], None] | None = None,
) -> Model:
    """Predicts a model's parameters and writes them, in place: `predict` and then `Prediction.apply_`.

    With `data` of your own it starts nearer to them: batch norms get these images' statistics, and the classification head is
    fitted to their labels in closed form, see `fit_head_`: a classifier before any training, in seconds.

    Args:
        model: Any `torch.nn.Module`.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        example_inputs: What one forward pass takes, see `trace`.
        head: The classification head. `auto` and False keep the model's own: as many classes are not the same classes. The
            name of a task predicts that task's, whose classes `ghn.config.classes` names in their order where they are known;
            True predicts it always, that of the only task with as many outputs, else like other layers. A model whose
            `num_classes` is 0 has none.
        device: Where the hypernetwork computes; `auto`: where the model's parameters live.
        seed: Of the random rows (class tokens of positional embeddings), of `condition`'s noise, and of what `data` draws: the
            order of a loader that shuffles; everything else is deterministic.
        strict: Refuse models of which a parameter would be kept or approximated, unless you left it out yourself.
        only: Patterns of dotted parameter names (`fnmatch`: `backbone.*`); what matches none of them is kept.
        exclude: Patterns of dotted parameter names that are kept.
        overwrite: Patterns of dotted parameter names whose present values count for nothing. By default frozen parameters
            beside trainable ones, weights of layers that start at zero and rows of padding are kept, and frozen copies stay
            copies; `overwrite="*"` predicts them all like any others.
        condition: What is done to predicted parameters, but the head's, before fine-tuning: `balanced` (scales, so that a
            random head starts calmly: `prediction/balance.py`; noise where parallel layers are alike: `prediction/twins.py`),
            `none`, `orthogonal` (which erases most of the predicted features), `noise`, `orthogonal+noise`, or a `Conditioning`
            with settings. `auto` is `balanced` where the head is not predicted, and `none` where it is.
        data: A loader of the images that the model will be trained on: as for `recalibrate_batchnorm`, where labels go with
            them as for `fit_head_`. `example_inputs` come from it. The head is fitted unless there are no labels, the model
            has none, `only` or `exclude` leave it out, or `head` asks for the predicted one (True or a task's name). All
            parameters are copied, so that a failure leaves everything as it was.
        max_images: The first so many of `data` are used: by default 4,000, of which 2,000 race where there is a choice. A head
            that is fitted needs an image of each class: for 1,000 classes pass 10,000 or more.
        choose: Race starts against the model's own init on `data` first, and write the one that is surely ahead, or nothing:
            see `ghn_init.choose`, which has settings. The report says what was chosen, why, and at what cost.
        on_report: Called with the report, `print` for example, when all is written.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: Sharded, offloaded, quantised, lazy or no parameters, or complex ones that would be written; with
            `data`, a model that is already distributed over several processes, or a program of `torch.export`.
        TraceError: The forward pass fails on the inputs.
        CheckpointError: The hypernetwork can't be read, or predicts values that are not finite.
        DeviceError: There is no such device.
        StrictError: With `strict`, if a parameter would be kept or approximated.
        ShapeMismatchError: The model is on the meta device.
        HeadError: As `fit_head_`, of `data` with labels.
        RecalibrationError: `data` are no loader, or without a batch, or the model can't be given one, or what a norm sees is
            not finite.
        ComparisonError: With `choose`, as `ghn_init.choose`.
        ValueError: `head`, `seed` or `condition` is something else, `head` is ambiguous or names a task that doesn't fit the
            model, a pattern matches no parameter, `choose` or `max_images` goes without `data`, or `choose` with a predicted
            head.
        TypeError: `ghn` is something else.

    Example:
        >>> import ghn_init, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
        >>> ghn_init.initialize(model) is model
        True
    """
    seed = whole_seed(seed, ValueError)
    options: dict[str, Any] = {
        "device": device,
        "seed": seed,
        "strict": strict,
        "only": only,
        "exclude": exclude,
        "overwrite": overwrite,
        "condition": condition,
    }
    if data is None and max_images is not None:
        raise ValueError(f"max_images={max_images} is of data, which isn't given; pass data=, a loader of (images, labels).")
    if data is not None:
        check_loader(data)
        check_one_process(model)
        check_modes(model)
    if choose:
        report = _chosen(model, ghn, example_inputs, head, data, max_images, options)
        log.info("%s: %s", type(model).__name__, "; ".join(report.data_lines))
    elif data is None:
        prediction = predict(model, ghn, example_inputs, head=head, **options)
        prediction.apply_()
        report = prediction.report
        if report.noise:
            _say_that_statistics_are_of_noise()
    else:
        inner, _ = unwrap(model)
        with untouched(inner), generators_kept(data):
            seeded(seed, data)  # a loader's order
            batches = Batches(watched(data), inner, MAX_IMAGES if max_images is None else max_images)
            why_not = why_not_fitted(batches, head)
            fits = not why_not
            few = batches.first_inputs.few()
            with traced_on(inner, few) if example_inputs is None else nullcontext():
                inputs = few if example_inputs is None else example_inputs
                prediction = prediction_for(model, ghn, inputs, head=False if fits else head, fits_head=fits, **options)
            report = start_(prediction, batches, why_not)
        log.info("%s: %s", type(model).__name__, "; ".join(report.data_lines))
    if not choose:  # which may have written nothing
        log.info("%s: optimizer states and weight averages made before hold the former values", type(model).__name__)
    if report.harm and not choose:  # a choice has measured it
        log.warning("%s: %s", type(model).__name__, report.harm)
    if on_report is not None:
        on_report(report)
    return model


@lru_cache(maxsize=1)  # said once in a process
def _say_that_statistics_are_of_noise() -> None:
    log.warning(
        "running statistics of batch norms are those of noise: before eval mode take them from your data, by "
        "initialize(model, data=loader) or recalibrate_batchnorm(model, loader)"
    )


def predict(
    model: nn.Module,
    ghn: Hypernetwork = None,
    example_inputs: Any = None,
    *,
    head: Head = "auto",
    device: torch.device | str = "auto",
    seed: int = 0,
    strict: bool = False,
    only: Patterns | None = None,
    exclude: Patterns = (),
    overwrite: Patterns = (),
    condition: Condition | Conditioning = "auto",
) -> Prediction:
    """Predicts a model's parameters; nothing is written. Arguments and errors as in `initialize`.

    Example:
        >>> import ghn_init, torch
        >>> p = ghn_init.predict(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()))
        >>> p.tensors["0.weight"].shape
        torch.Size([8, 3, 3, 3])
    """
    wishes: dict[str, Any] = {"only": only, "exclude": exclude, "overwrite": overwrite, "condition": condition}
    return prediction_for(model, ghn, example_inputs, head=head, device=device, seed=seed, strict=strict, **wishes)


def prediction_for(
    model: nn.Module,
    ghn: Hypernetwork,
    example_inputs: Any,
    *,
    head: Head = "auto",
    device: torch.device | str = "auto",
    seed: int = 0,
    strict: bool = False,
    condition: Condition | Conditioning = "auto",
    fits_head: bool = False,
    **patterns: Any,
) -> Prediction:
    """As `predict`, with its patterns; `fits_head`: the head gets other values later, so that its own count for nothing."""
    seed = whole_seed(seed, ValueError)
    source = given(ghn)
    conditioning = Conditioning.of(condition)
    found = read(model, example_inputs)
    graph = found.graph
    parameters = dict(model.named_parameters())
    hypernetwork = _on_device(source, parameters, device)
    selection = select(model, graph, hypernetwork.config, head=head, conditioning=conditioning, **patterns)
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    own = slots_of(graph, shapes, {*selection.kept, *selection.copies})
    own = [replace(slot, padding=None) if slot.name in selection.overwritten else slot for slot in own]
    slots = {slot.name: slot for slot in own}
    slots |= {name: slots[original] for name, original in selection.copies.items()}
    calms = condition == "balanced" or (condition == "auto" and selection.task is None and head is not True)
    adds_up = adding_up(graph, slots, hypernetwork) if calms else {}
    kept = {**selection.kept, **adds_up}
    own = [slot for slot in own if slot.name not in adds_up]
    slots = {name: slot for name, slot in slots.items() if name not in adds_up}
    conditioned = chosen(conditioning, graph, parameters, slots)
    report = Report.of(graph, parameters, slots, kept, hypernetwork, selection.task)
    if conditioning is not None:
        report = report.with_conditioning(conditioned, conditioning.note)
    inverses, through = _inverses(model, slots)
    report = report.with_conditioning((computed_weights(graph) & slots.keys()) - {*inverses, *through}, COMPUTED)
    report = report.with_notes(dict.fromkeys(through, NO_INVERSE)).with_warnings(cautions(model, parameters, slots))
    cores, embeddings = _decode(hypernetwork, graph, own, selection.task)
    if calms:
        scales = balanced(graph, slots, cores, {} if fits_head else parameters)
        cores |= {name: cores[name] * scale for name, scale in scales.items()}
        report = report.with_scales(scales)
    _, prefix = unwrap(model)
    called = frozenset((prefix + name).rpartition(".")[0] for name in found.record.statistics)
    report = report.with_norms(len(predicted_norms(model, slots, called)))
    expecting = None
    if hypernetwork.confidence is not None and (pixels := side(found.inputs)) is not None:
        numel = sum(parameter.numel() for parameter in parameters.values())
        told = clues(graph, slots, cores, numel, embeddings, pixels)
        expecting = Expecting(hypernetwork.confidence, told, selection.task)
        report = report.with_expected(expecting.without_a_batch())
    noisy = conditioned if conditioning is not None and "noise" in conditioning.kind else frozenset()
    alike = {name: other for name, other in twins(graph, own, cores).items() if name not in noisy}
    report = report.with_warnings(warning(alike, apart=calms))
    if calms:
        cores |= told_apart(cores, alike, seed)
        report = report.with_conditioning(alike, NOTE)
    meaning = padding_rows(slots, parameters), inverses
    wish = seed, selection.task, conditioning, conditioned
    names = called, selection.overwritten
    prediction = Prediction(
        model, hypernetwork, graph, kept, report, slots, cores, found.inputs, *wish, *meaning, expecting, *names
    ).reached()
    if strict:
        prediction.report.refuse(selection.chosen)
    log.info("%s: %s", type(model).__name__, "; ".join([prediction.report.summary, *prediction.report.warnings]))
    return prediction


def _chosen(
    model: nn.Module,
    ghn: Hypernetwork,
    inputs: Any,
    head: Head,
    data: Iterable[Any] | None,
    max_images: int | None,
    options: dict[str, Any],
) -> Report:
    """Writes the start that is best on the data; its report."""
    if data is None:
        raise ValueError("choose=True needs images to choose on; pass data=, a loader of (images, labels).")
    if head not in ("auto", False):
        raise ValueError(f"head={head!r} asks for a predicted head, and choose=True compares random and fitted ones; pass one.")
    settings = Settings(seed=options["seed"])
    if max_images is not None:
        settings = replace(settings, max_images=max_images)
    with torch.inference_mode(False):  # contestants learn
        starting = predicting(prediction_for, model, ghn, inputs, options)
        return choose_(model, data, starting, partial(copied, model), settings).report


def _inverses(model: nn.Module, slots: Container[str]) -> tuple[dict[str, ParametrizationList], list[str]]:
    """Parametrizations through which predicted weights are written, and names of what has one without an inverse."""
    found = {name: part for name, part in parametrizations(model).items() if name in slots}
    inverses = {name: part for name, part in found.items() if invertible(part)}
    return inverses, [name for name in found if name not in inverses]


def _on_device(ghn: GraphHyperNetwork, parameters: dict[str, nn.Parameter], device: torch.device | str) -> GraphHyperNetwork:
    """The hypernetwork, in float32, where it is to compute; the caller's own is never moved."""
    where = device_found(device, computes=True) if device != "auto" else next(iter(parameters.values())).device
    if where.type == "meta":
        where = torch.device("cpu")
    weight = ghn.embed.weight
    if weight.device == where and weight.dtype == torch.float32:
        return ghn
    return copy.deepcopy(ghn).to(where, torch.float32)


@torch.no_grad()
def _decode(ghn: GraphHyperNetwork, graph: Graph, slots: Sequence[Slot], task: str | None) -> tuple[dict[str, Tensor], Tensor]:
    """Decoded cores by name, in topological order, and the nodes' embeddings."""
    with torch.autocast(ghn.embed.weight.device.type, enabled=False):
        embeddings = ghn.embed_nodes([ghn.as_read(graph, slots)])
        (cores,) = ghn.decode([slots], embeddings, [task])
    broken = [name for name, core in cores.items() if not torch.isfinite(core).all()]
    if broken:
        raise CheckpointError(
            f"the hypernetwork predicts values that are not finite for {broken[:3]}; its tensors are damaged."
        )
    return cores, embeddings[0]

"""The user's verbs: trace → embed → decode → apply."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.checkpoints.load import DEFAULT, load
from ghn_init.errors import CheckpointError, StrictError
from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.ghn import GHN
from ghn_init.hypernetwork.slots import Slot, slots_of
from ghn_init.prediction.conditioning import Condition, Conditioning, own_vectors
from ghn_init.prediction.conditioning import chosen as chosen_weights
from ghn_init.prediction.prediction import Prediction
from ghn_init.prediction.report import Report, Row
from ghn_init.prediction.selection import Head, Patterns, left_out, other_head, unwritable
from ghn_init.tracing.trace import trace

log = logging.getLogger(__name__)


def initialize(
    model: nn.Module,
    ghn: GHN | str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    head: Head = "auto",
    device: torch.device | str = "auto",
    seed: int = 0,
    strict: bool = False,
    only: Patterns | None = None,
    exclude: Patterns = (),
    condition: Condition | Conditioning = "none",
) -> nn.Module:
    """Predicts a model's parameters and writes them, in place: `predict` and then `Prediction.apply_`.

    Args:
        model: Any `torch.nn.Module`.
        ghn: A hypernetwork, or what `load` takes; by default the bundled one.
        example_inputs: What one forward pass takes, see `trace`.
        head: `auto` predicts the classification head when it has the hypernetwork's number of classes and else keeps the
            model's own; True predicts it always, False never. A model whose `num_classes` is 0 has none.
        device: Where the hypernetwork computes; `auto`: where the model's parameters live.
        seed: Of the random rows (class tokens of positional embeddings) and of `condition`'s noise; everything else is
            deterministic.
        strict: Refuse models of which a parameter would be kept or approximated, unless you left it out yourself.
        only: Patterns of dotted parameter names (`fnmatch`: `backbone.*`); what matches none of them is kept.
        exclude: Patterns of dotted parameter names that are kept.
        condition: What is done to predicted weights, but the head's, before fine-tuning: `none`, `orthogonal`, `noise`,
            `orthogonal+noise`, or a `Conditioning` with settings.

    Returns:
        The same model.

    Raises:
        UnsupportedModelError: Sharded, quantised, complex, lazy or no parameters.
        TraceError: The forward pass fails on the inputs.
        CheckpointError: The hypernetwork can't be read, or predicts values that are not finite.
        StrictError: With `strict`, if a parameter would be kept or approximated.
        ShapeMismatchError: The model is on the meta device.
        ValueError: `head`, `seed` or `condition` is something else, or a pattern matches no parameter.

    Example:
        >>> import ghn_init, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
        >>> ghn_init.initialize(model) is model
        True
    """
    return predict(model, ghn, example_inputs, head, device, seed, strict, only, exclude, condition).apply_()


def predict(
    model: nn.Module,
    ghn: GHN | str | os.PathLike[str] | None = None,
    example_inputs: Any = None,
    head: Head = "auto",
    device: torch.device | str = "auto",
    seed: int = 0,
    strict: bool = False,
    only: Patterns | None = None,
    exclude: Patterns = (),
    condition: Condition | Conditioning = "none",
) -> Prediction:
    """Predicts a model's parameters; nothing is written. Arguments and errors as in `initialize`.

    Example:
        >>> import ghn_init, torch
        >>> p = ghn_init.predict(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()))
        >>> p.tensors["0.weight"].shape
        torch.Size([8, 3, 3, 3])
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed!r}; expected an integer from 0 to 2**63 - 1.")
    conditioning = Conditioning.of(condition)
    graph = trace(model, example_inputs)
    parameters = dict(model.named_parameters())
    by_id = {id(parameter): name for name, parameter in parameters.items()}
    names = {name: by_id[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    outputs = getattr(model, "num_classes", None)
    if head == "auto" and isinstance(outputs, int) and outputs == 0:
        head = True  # timm's mark of a model without a head, whose last layer is one like the others
    chosen = {**own_vectors(conditioning, parameters), **left_out(names, graph, head, only, exclude)}
    hypernetwork = _on_device(ghn, parameters, device)
    classes = hypernetwork.config.num_classes
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    kept = {**graph.kept, **other_head(graph, classes, head), **unwritable(parameters), **chosen}
    slots = [slot for slot in slots_of(graph, shapes, classes) if slot.name not in kept]
    by_name = {slot.name: slot for slot in slots}
    weights = chosen_weights(conditioning, graph, parameters, by_name)
    report = _report(graph, parameters, slots, kept, hypernetwork)
    if conditioning is not None:
        report = report.with_conditioning(weights, conditioning.note)
    if strict:
        _refuse(report, chosen)
    log.info("%s: %s", type(model).__name__, "; ".join([report.summary, *report.warnings]))
    with torch.autocast(hypernetwork.embed.weight.device.type, enabled=False):
        cores = _decode(hypernetwork, graph, slots)
    return Prediction(model, graph, kept, report, by_name, cores, seed, conditioning, weights)


def _on_device(ghn: GHN | str | os.PathLike[str] | None, parameters: Mapping[str, Tensor], device: torch.device | str) -> GHN:
    """The hypernetwork, in float32, where it is to compute; the caller's own is never moved."""
    where = torch.device(device) if device != "auto" else next(iter(parameters.values())).device
    if where.type == "meta":
        where = torch.device("cpu")
    if not isinstance(ghn, GHN):
        return load(DEFAULT if ghn is None else ghn).to(where)
    weight = ghn.embed.weight
    if weight.device == where and weight.dtype == torch.float32:
        return ghn
    return copy.deepcopy(ghn).to(where, torch.float32)


@torch.no_grad()
def _decode(ghn: GHN, graph: Graph, slots: list[Slot]) -> dict[str, Tensor]:
    """Decoded cores by name, in topological order."""
    (h,) = ghn.embed_nodes([graph])
    cores = dict.fromkeys((slot.name for slot in slots), h)
    broken = []
    for slot, core in ghn.decode(slots, h):
        cores[slot.name] = core.clone()  # not a view of everything that was decoded with it
        if not torch.isfinite(core).all():
            broken.append(slot.name)
    if broken:
        raise CheckpointError(
            f"the hypernetwork predicts values that are not finite for {broken[:3]}; its tensors are damaged."
        )
    return cores


def _report(graph: Graph, parameters: Mapping[str, Tensor], slots: list[Slot], kept: Mapping[str, str], ghn: GHN) -> Report:
    by_name = {slot.name: slot for slot in slots}
    rows = []
    for name, parameter in parameters.items():
        slot = by_name.get(name)
        if slot is None:
            rows.append(Row(name, tuple(parameter.shape), None, None, kept[name]))
            continue
        node = graph.nodes[slot.node]
        rows.append(Row(name, tuple(parameter.shape), node.primitive, _core_shape(slot, ghn), _unusual(node, slot, ghn)))
    counts = {
        "parameters that keep their values": sum(row.primitive is None for row in rows),
        "parameters that are approximated": sum(row.primitive is not None and bool(row.note) for row in rows),
    }
    warnings = [f"{what}: {count}" for what, count in counts.items() if count]
    return Report(tuple(rows), tuple(warnings))


def _core_shape(slot: Slot, ghn: GHN) -> tuple[int, ...]:
    M0, M1 = ghn.config.max_shape[:2]
    if slot.kind == "classifier_weight":
        return (slot.sizes[0], min(slot.sizes[1], M1))
    if slot.kind in ("weight", "position"):
        return (min(slot.sizes[0], M0), min(slot.sizes[1], M1), *slot.sizes[2:])
    return (min(slot.sizes[0], ghn.config.num_classes if slot.kind == "classifier_bias" else max(M0, M1)),)


def _unusual(node: Node, slot: Slot, ghn: GHN) -> str:
    """What the hypernetwork can only approximate about a parameter."""
    notes = []
    S, largest = ghn.config.max_shape[2], ghn.shape_enc.channels[-1]
    if slot.kind in ("weight", "position") and max(slot.sizes[2:]) > S:
        notes.append(f"kernel {slot.sizes[2]}×{slot.sizes[3]} interpolated from {S}×{S}")
    if len(slot.layout) > 4:
        notes.append("one kernel repeated along the depth")
    widest = max((node.shape or (0,))[:2])
    if widest > largest:
        notes.append(f"width {widest} read as {largest}")
    return "; ".join(notes)


def _refuse(report: Report, chosen: Mapping[str, str]) -> None:
    problems = [f"'{row.name}': {row.note}" for row in report.rows if row.note and row.name not in chosen]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise StrictError(f"{'; '.join(problems[:5])}{more}. Pass strict=False to accept; predict(model).report shows all.")

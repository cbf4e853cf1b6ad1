"""One run's recipe: what it is made of, written beside its state, and compared when the run goes on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from math import inf
from operator import getitem
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from ghn_init.errors import TrainingError
from ghn_init.training.numbers import real, switch, whole
from ghn_init.version import __version__

T = TypeVar("T")

FILE = "recipe.json"

MAY_CHANGE = ("steps", "budget", "least_examples", "warmup", "cooldown", "lr", "save_minutes")
"""Fields of `TrainConfig` under which a run may go on with another value; `recipe.json` notes when it did."""


@dataclass(frozen=True)
class TrainConfig:
    """One run's recipe.

    Attributes:
        steps: Optimiser steps in all.
        meta_batch: Networks per step.
        batch_size: Examples per network; each network of a step sees examples of its own.
        budget: Core-seconds that a network may take, as `ghn_init.prediction.cost` estimates them: costlier networks get fewer
            examples. None: all get `batch_size`.
        least_examples: Networks whose budget allows fewer examples are left out.
        pool: How many different training networks each task has.
        optimizer: `adamw` or `muon`.
        lr: Peak learning rate.
        warmup: Steps of linear warm-up.
        cooldown: Share of the other steps in which the rate falls, as half a cosine; before, it stays at its peak.
        weight_decay: The optimiser's.
        parameter_decay: Weight of the squared norm of the predicted parameters in the loss (GHN-3 decays them with 3e-5).
        equal_gradients: Scale each network's gradient, by its decoded cores, to the same norm; else networks with steep losses
            lead, whatever the others' share.
        clip: Largest gradient norm.
        average: Decay of the weight average.
        bf16: Run the networks in bfloat16 where it is faster.
        save_minutes: Minutes between two writes of the state.
        seed: Of initialisation, networks, examples.
    """

    steps: int = 10_000
    meta_batch: int = 4
    batch_size: int = 64
    budget: float | None = None
    least_examples: int = 16
    pool: int = 1_000
    optimizer: str = "adamw"
    lr: float = 1e-3
    warmup: int = 200
    cooldown: float = 1.0
    weight_decay: float = 1e-2
    parameter_decay: float = 0.0
    equal_gradients: bool = False
    clip: float = 5.0
    average: float = 0.999
    bf16: bool = True
    save_minutes: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Takes numbers as Python's own; refuses what no run can follow.

        Raises:
            TrainingError: A value is of another kind, or out of its range.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None or "None" not in str(field.type):
                object.__setattr__(self, field.name, KINDS[str(field.type)](field.name, value))
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                wanted = f"{low} to {high}" if high < inf else f"{low} at least"
                raise TrainingError(f"{name} is {value!r}; expected {wanted}.")
        for name in ABOVE_0:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{name} is {value!r}; expected a number above 0.")


KINDS: dict[str, Callable[[str, Any], Any]] = {
    "int": whole,
    "float": real,
    "float | None": real,
    "bool": switch,
    "str": lambda name, value: value,  # `Optimizers` knows which there are
}
RANGES = {
    "steps": (0, inf),
    "meta_batch": (1, inf),
    "batch_size": (1, inf),
    "least_examples": (1, inf),
    "pool": (1, inf),
    "warmup": (0, inf),
    "cooldown": (0, 1),
    "weight_decay": (0, inf),
    "parameter_decay": (0, inf),
    "average": (0, 1),
    "save_minutes": (0, inf),
    "seed": (0, 2**63 - 1),
}
ABOVE_0 = ("lr", "clip", "budget")


class TrainOptions(TypedDict, total=False):
    """The fields of `TrainConfig` as keywords, for type checkers; a test holds the two together."""

    steps: int
    meta_batch: int
    batch_size: int
    budget: float | None
    least_examples: int
    pool: int
    optimizer: str
    lr: float
    warmup: int
    cooldown: float
    weight_decay: float
    parameter_decay: float
    equal_gradients: bool
    clip: float
    average: float
    bf16: bool
    save_minutes: float
    seed: int


def changed(config: TrainConfig | None, changes: Mapping[str, Any]) -> TrainConfig:
    """The recipe with some fields changed.

    Raises:
        TypeError: There is no such field.
    """
    known = [field.name for field in fields(TrainConfig)]
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TypeError(f"train() takes no {name!r}; {hint}A recipe has {', '.join(known)}.")
    return replace(config or TrainConfig(), **changes)


def versions() -> dict[str, str]:
    """What the run was made with."""
    import torch

    return {"ghn_init": __version__, "torch": str(torch.__version__)}


def check(
    path: Path, contents: Mapping[str, Any], config: TrainConfig, step: int, resumes: bool, formerly: Mapping[str, Any]
) -> dict[str, Any]:
    """Compares what a run is asked for with what it was begun with.

    Args:
        path: The run's `recipe.json`.
        contents: Tasks, objective, hypernetwork, …: all that the recipe's fields don't say.
        config: The recipe's fields.
        step: Steps that the run has taken.
        resumes: There is a state to go on from; else the run begins.
        formerly: Those of `contents` for which earlier versions had other words, in these.

    Returns:
        What is to be written to `path`: versions are those of now, changes of fields that may change are noted by step.

    Raises:
        TrainingError: It was begun with something else that may not change, or by a version that wrote no recipe.
    """
    wanted = json.loads(json.dumps({"recipe": asdict(config), **contents}))
    if not resumes:
        return {**wanted, "versions": versions(), "changes": []}
    try:
        begun = json.loads(path.read_text())
        flat_begun, flat_wanted = flattened({name: begun[name] for name in wanted}), flattened(wanted)
        alike = {name: flat_wanted[name] for name, words in flattened(formerly).items() if flat_begun.get(name) == words}
        flat_begun |= alike
        notes: list[Any] = list(begun["changes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path.parent} holds a state, but no {path.name} that says of what run ({error!r}); pass another folder. "
            f"Where it has a finished checkpoint too, ghn=ghn_init.load({str(path.parent)!r}), on the command line --start, "
            f"goes on from its weights."
        ) from error
    names = sorted(
        name for name in flat_begun.keys() | flat_wanted.keys() if flat_begun.get(name, None) != flat_wanted.get(name, None)
    )
    free = {f"recipe.{name}" for name in MAY_CHANGE}
    if wrong := [name for name in names if name not in free]:
        told = "; ".join(f"{name} is {flat_wanted.get(name)!r}, was {flat_begun.get(name)!r}" for name in wrong[:5])
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise TrainingError(
            f"the run in {path.parent} was begun with another recipe: {told}{more}. Go on with what it was begun with, or pass "
            f"another folder; {', '.join(MAY_CHANGE)} may change."
        )
    if names:
        moved = {name.removeprefix("recipe."): [flat_begun.get(name), flat_wanted.get(name)] for name in names}
        notes.append({"step": step, **moved})
    return {**wanted, "versions": versions(), "changes": notes}


def begun_with(path: Path) -> dict[str, Any] | None:
    """Fields of `TrainConfig` in a run's `recipe.json`; None where there is none that can be read (`check` says why)."""
    try:
        return dict(json.loads(path.read_text())["recipe"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def as_begun(given: Mapping[str, T], path: Path, *place: str) -> dict[str, T]:
    """What is given by name, in the order that a run's `recipe.json` has at a place in it; in its own where there is none.

    The order decides whose turn it is, which column is whose, and in which order gradients are added up.
    """
    try:
        names = reduce(getitem, place, json.loads(path.read_text()))
        return {name: given[name] for name in [*names, *given] if name in given}
    except (OSError, ValueError, KeyError, TypeError):  # `check` says why
        return dict(given)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` → `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {f"{prefix}{name}": value}
    return flat

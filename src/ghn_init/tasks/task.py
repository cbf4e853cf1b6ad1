"""What a hypernetwork can be trained for: the few things that training has to know of a task."""

from __future__ import annotations

import re
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from ghn_init.models.made_of import DEPTH, digest

Batch = tuple[tuple[Tensor, ...], Tensor]
"""The positional arguments of a network's forward pass, and the targets."""

_SAY_LITTLE = ("<lambda>", "<locals>", " object>")
"""In the representations of functions and objects that are told by nothing else than their place in memory."""


@runtime_checkable
class Task(Protocol):
    """Networks that take the same inputs and have outputs of the same kind, data for them, and a loss.

    `ghn_init.tasks.ImageTask` is one; your own needs no base class. `docs/add_a_task.md` of the repository shows one. The names
    of its classes, in the order of the outputs, go into the hypernetwork's configuration where it has an attribute `classes`.

    Attributes:
        name: Under which a hypernetwork keeps the task's head: lower-case letters, digits, `-` and `_`.
        outputs: Of its networks, per example: the last axis of what they return.
        fingerprint: Tells data apart; a run does not go on with other data.
    """

    @property
    def name(self) -> str:
        """Of the task."""

    @property
    def outputs(self) -> int:
        """How many."""

    @property
    def fingerprint(self) -> str:
        """Of the data."""

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Positional arguments of a network's forward pass on two examples; floating ones may be on the meta device."""

    def batch(self, number: int, size: int, seed: int) -> Batch:
        """The `number`-th training batch of `size` examples, the same for the same arguments; examples are the first axis."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What is minimised, a scalar in nats: about ln(outputs) for a network that knows nothing."""

    def accuracy(self, outputs: Tensor, targets: Tensor) -> float:
        """Share of right answers, from 0 to 1."""


def class_names(task: Task) -> tuple[str, ...]:
    """Names of a task's classes in the order of its outputs, where it has them in an attribute `classes`; else empty.

    Numbers in order, which `datasets` puts where there are no names, are none.
    """
    names = getattr(task, "classes", ())
    known = isinstance(names, list | tuple) and len(names) == task.outputs and all(isinstance(name, str) for name in names)
    return tuple(names) if known and tuple(names) != tuple(map(str, range(len(names)))) else ()


def described(value: Any, within: tuple[int, ...] = ()) -> str:
    """What tells one objective, transform or other part of a run from another in words that are the same tomorrow.

    Functions are told by their names; those without one of their own (lambdas, functions in functions, their partials) also by
    a digest of code, defaults and what they take from around them. Objects are told by their representations; those that say
    nothing (`<module.Augment object>`), themselves or of a part, also by a digest of the object's attributes.

    Args:
        value: Whatever the caller passed.
        within: What this is a part of, by `id`: an object may hold itself.
    """
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, set | frozenset):  # in an order that is another one in each process
        return str(sorted(described(one, within) for one in value))
    if isinstance(value, MethodType):
        return f"{value.__module__}.{value.__qualname__} of {described(value.__self__, within)}"
    named = hasattr(value, "__qualname__")  # of a function or class the representation says less
    words = f"{value.__module__}.{value.__qualname__}" if named else re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    code = isinstance(value, FunctionType | partial)
    made_of = value if code else None if named else getattr(value, "__dict__", None)
    if not made_of or id(value) in within or len(within) == DEPTH or not any(mark in words for mark in _SAY_LITTLE):
        return words
    return f"{words} {digest(made_of, partial(described, within=(*within, id(value))))}"

"""What has to be known of a hypernetwork to build it, stored beside its tensors."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from reprlib import repr as short  # values are a file's, of any length
from typing import Any

from ghn_init.errors import CheckpointError

HYPERNETS = ("gatedgnn", "mlp")
UNNAMED = "classes"
"""The task of a file that knows of one alone and doesn't say which."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class GHNConfig:
    """Configuration of a GHN-1, a GHN-2, a GHN-3 or the MLP ablation, under the published names.

    `GHNConfig.ghn1`, `ghn2`, `ghn3` and `mlp` name the published variants.

    Attributes:
        tasks: Name of each task that it knows → number of outputs of the networks that solve it; each has a head of its own.
        max_shape: Largest kernel that the decoder produces: output channels, input channels, height, width.
        hid: Width D of the node embeddings; a multiple of 4.
        hypernet: `gatedgnn`, or `mlp` for the ablation without message passing; a GHN-3 has neither.
        ve: Virtual edges (GHN-2).
        layernorm: Layer norm after the graph network (GHN-2, GHN-3).
        weight_norm: Predicted tensors are scaled by their fan-in (GHN-2, GHN-3).
        layers: Transformer layers (GHN-3); 0 for the others.
        heads: Attention heads (GHN-3).
        class_width: Channel count that the shape vocabulary has besides the fixed ones. Published hypernetworks have that of
            their data set's classes there; None, the fixed vocabulary alone, is right for all others.
        classes: Task → names of its classes in the order of its outputs, where they are known.
        as_published: Whether what is published of details holds for it; by default where it has one task, whose number of
            classes is `class_width`. One that gets more tasks stays what it is.
    """

    tasks: Mapping[str, int] = field(hash=False)
    max_shape: tuple[int, int, int, int] = (64, 64, 11, 11)
    hid: int = 32
    hypernet: str = "gatedgnn"
    ve: bool = True
    layernorm: bool = True
    weight_norm: bool = True
    layers: int = 0
    heads: int = 8
    class_width: int | None = None
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    as_published: bool | None = None

    @property
    def published(self) -> bool:
        """Whether what is published of details holds for it: what is said of it, else whether it is like published ones."""
        if self.as_published is not None:
            return self.as_published
        return list(self.tasks.values()) == [self.class_width]

    def __post_init__(self) -> None:
        self._check_tasks()
        self._check_classes()
        self._take_plain()
        sizes = self.max_shape
        if len(sizes) != 4 or min(sizes) < 1 or sizes[2] != sizes[3]:
            raise CheckpointError(f"max_shape is {short(sizes)}; expected four positive sizes (M0, M1, S, S).")
        if self.hid < 4 or self.hid % 4:
            raise CheckpointError(f"hid is {short(self.hid)}; expected a positive multiple of 4.")
        if self.layers < 0:
            raise CheckpointError(f"layers is {short(self.layers)}; expected 0 (no GHN-3) or more.")
        if self.layers and (self.heads < 1 or self.hid % self.heads):
            raise CheckpointError(f"heads is {short(self.heads)}; expected a divisor of hid, {short(self.hid)}.")
        if self.hypernet not in HYPERNETS:
            raise CheckpointError(f"hypernet is {short(self.hypernet)}; expected one of {HYPERNETS}.")
        if self.class_width is not None and self.class_width < 1:
            raise CheckpointError(f"class_width is {short(self.class_width)}; expected at least 1, or None.")
        if self.as_published and self.class_width is None:
            raise CheckpointError("as_published is True and class_width None; expected the width that it knows of its classes.")

    def _take_plain(self) -> None:
        """Numbers and switches as Python's own, which JSON can hold; NumPy's are taken too."""
        for name in ("hid", "layers", "heads", "class_width"):
            value = getattr(self, name)
            if value is None and name == "class_width":
                continue
            if (plain := _whole(value)) is None:
                raise CheckpointError(f"{name} is {short(value)}; expected a whole number.")
            object.__setattr__(self, name, plain)
        sizes = [_whole(size) for size in self.max_shape] if isinstance(self.max_shape, Iterable) else [None]
        if None in sizes:
            raise CheckpointError(f"max_shape is {short(self.max_shape)}; expected four positive sizes (M0, M1, S, S).")
        object.__setattr__(self, "max_shape", tuple(sizes))
        for name in ("ve", "layernorm", "weight_norm", "as_published"):
            value = getattr(self, name)
            if value is None and name == "as_published":
                continue
            if value not in (True, False):
                raise CheckpointError(f"{name} is {short(value)}; expected True or False.")
            object.__setattr__(self, name, bool(value))

    def _check_tasks(self) -> None:
        if not isinstance(self.tasks, Mapping) or not self.tasks:
            raise CheckpointError(
                f"tasks is {short(self.tasks)}; expected names with their numbers of outputs, such as {{'cifar10': 10}}."
            )
        tasks = {}
        for name, outputs in self.tasks.items():
            check_task_name(name)
            tasks[name] = _whole(outputs) or 0
            if tasks[name] < 1:
                raise CheckpointError(f"the task {name!r} has {short(outputs)} outputs; expected a number of at least 1.")
        object.__setattr__(self, "tasks", tasks)

    def _check_classes(self) -> None:
        if not isinstance(self.classes, Mapping):
            raise CheckpointError(f"classes is {short(self.classes)}; expected names of tasks with those of their classes.")
        for task, names in self.classes.items():
            if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
                raise CheckpointError(f"the classes of {short(task)} are {short(names)}; expected a list of names.")
            if self.tasks.get(task) != len(names):
                raise CheckpointError(
                    f"there are {len(names)} names for classes of {short(task)}, and the tasks are {short(self.tasks)}; "
                    f"expected one for each output of a task."
                )
        object.__setattr__(self, "classes", {task: tuple(names) for task, names in self.classes.items()})

    @classmethod
    def ghn1(cls, tasks: Mapping[str, int], **changes: Any) -> GHNConfig:
        """No virtual edges, layer norm or fan-in scaling (arXiv 1810.05749)."""
        return cls(tasks, **{"ve": False, "layernorm": False, "weight_norm": False, **changes})

    @classmethod
    def ghn2(cls, tasks: Mapping[str, int], **changes: Any) -> GHNConfig:
        """With all three (arXiv 2110.13100)."""
        return cls(tasks, **changes)

    @classmethod
    def ghn3(cls, tasks: Mapping[str, int], hid: int, layers: int, heads: int, **changes: Any) -> GHNConfig:
        """A graph transformer; the decoder is as wide as the embeddings (arXiv 2303.04143)."""
        sizes = {"max_shape": (hid, hid, 16, 16), "hid": hid, "layers": layers, "heads": heads}
        return cls(tasks, **{**sizes, **changes})

    @classmethod
    def mlp(cls, tasks: Mapping[str, int], **changes: Any) -> GHNConfig:
        """The ablation that looks at no graph (arXiv 2110.13100)."""
        return cls(tasks, **{"hypernet": "mlp", **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: str = UNNAMED) -> GHNConfig:
        """Reads a configuration; keys that don't describe the architecture are ignored.

        Args:
            values: As `to_dict` gives them, or as published files have them: `num_classes` in the place of `tasks`.
            task: What the one task of a published file is called.

        Raises:
            CheckpointError: A value is missing, of the wrong type or out of range.
        """
        if values.get("decoder", "conv") != "conv":
            raise CheckpointError(f"decoder is {short(values['decoder'])}; this version reads 'conv'.")
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        if "tasks" not in known:
            known |= _single(values, task)
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,), "str": (str,), "bool": (bool,), "int | None": (int, type(None)), "bool | None": (bool, type(None)),
        }  # fmt: skip
        for name, described in cls.__dataclass_fields__.items():
            kind = kinds.get(str(described.type))
            if name in known and kind is not None and type(known[name]) not in kind:
                raise CheckpointError(f"{name} is {short(known[name])}; expected {kind[0].__name__}.")
        if "max_shape" in known:
            sizes = known["max_shape"]
            if not isinstance(sizes, list | tuple) or not all(type(size) is int for size in sizes):
                raise CheckpointError(f"max_shape is {short(sizes)}; expected four integers.")
            known["max_shape"] = tuple(sizes)
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        values = asdict(self)
        values["max_shape"] = list(self.max_shape)
        if not self.layers:
            del values["layers"], values["heads"]
        for name in ("class_width", "as_published"):
            if values[name] is None:
                del values[name]
        values["classes"] = {task: list(names) for task, names in self.classes.items()}
        if not self.classes:
            del values["classes"]
        return values

    def with_tasks(self, tasks: Mapping[str, int]) -> GHNConfig:
        """The same with more tasks, which change nothing of what it predicts without them.

        Raises:
            CheckpointError: One of them is known with another number of outputs.
        """
        for name, outputs in tasks.items():
            if self.tasks.get(name, outputs) != outputs:
                raise CheckpointError(
                    f"the task {name!r} has {outputs} outputs, the hypernetwork knows it with {self.tasks[name]}; give it "
                    f"another name."
                )
        known = {**self.tasks, **tasks}
        return replace(self, tasks=known, as_published=True if self.published and known != self.tasks else self.as_published)

    def with_classes(self, classes: Mapping[str, Sequence[str]]) -> GHNConfig:
        """The same with the names of more tasks' classes.

        Raises:
            CheckpointError: A task's are known already, and are others or in another order.
        """
        for task, names in classes.items():
            if difference := unlike(self.classes.get(task, names), names):
                raise CheckpointError(
                    f"the task {task!r} has other classes than the hypernetwork knows it with: {difference}; give it another "
                    f"name, or its classes the names and the order that they have in the hypernetwork's config.classes."
                )
        return replace(self, classes={**self.classes, **classes})

    def tasks_with(self, outputs: int) -> list[str]:
        """Names of the tasks that have so many outputs."""
        return [name for name, own in self.tasks.items() if own == outputs]

    @property
    def described_tasks(self) -> str:
        """`cifar10 (10), food (101)`: names and numbers of outputs, for errors."""
        return ", ".join(f"{name} ({outputs})" for name, outputs in self.tasks.items())


def _whole(value: Any) -> int | None:
    """An integer as Python's own; None for anything else, also for True and False."""
    try:
        return None if isinstance(value, bool) else int(operator.index(value))
    except TypeError:
        return None


def unlike(known: Sequence[str], given: Sequence[str]) -> str:
    """`class 3 is 'ship', in the data 'truck'`: the first difference of as many names; empty where there is none."""
    for number, (own, other) in enumerate(zip(known, given, strict=False)):
        if own != other:
            return f"class {number} is {own!r}, in the data {other!r}"
    return ""


def check_task_name(name: Any) -> None:
    """Refuses what can't name a task's head.

    Raises:
        CheckpointError: Not lower-case letters, digits, `-` and `_`, or a word that stands for something else.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == "auto":
        raise CheckpointError(
            f"{short(name)} names no task; expected at most 64 lower-case letters, digits, '-' and '_', and not 'auto'."
        )


def _single(values: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The one task of a published configuration; its number of classes is a word of the vocabulary as well."""
    if "num_classes" not in values:
        raise CheckpointError(f"the configuration has neither 'tasks' nor 'num_classes'; it has {short(sorted(values))}.")
    classes = values["num_classes"]
    if type(classes) is not int or classes < 1:
        raise CheckpointError(f"num_classes is {short(classes)}; expected a number of at least 1.")
    return {"tasks": {task: classes}, "class_width": classes}

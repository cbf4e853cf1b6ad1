"""Tensors in nested containers and objects."""

from __future__ import annotations

from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.tracing.holders import mapped, tensors_in
from zoo import Fn, conv, images


@dataclass(frozen=True)
class Frozen:
    image: Any


class Slotted:
    __slots__ = ("image",)

    def __init__(self, image: Any) -> None:
        self.image = image


class Stored:
    """As PyTorch Geometric's `Data`: attributes live in a store."""

    def __init__(self, **content: Any) -> None:
        self.__dict__["_store"] = content

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_store"][name]
        except KeyError:
            raise AttributeError(name) from None


Pair = namedtuple("Pair", "image")
HOLDERS = {
    "dataclass": Frozen,
    "slots": Slotted,
    "store": lambda image: Stored(image=image),
    "namespace": lambda image: SimpleNamespace(image=image),
    "named tuple": Pair,
    "nested": lambda image: SimpleNamespace(image=[image]),
    "queue": lambda image: SimpleNamespace(image=deque([image], maxlen=3)),
}


def first(image: Any) -> Tensor:
    return image[0] if isinstance(image, list | deque) else image


@pytest.mark.parametrize("name", HOLDERS)
def test_tensors_in_objects_are_inputs(name: str) -> None:
    model = Fn(lambda m, batch: m.a(m.norm(first(batch.image))), norm=nn.BatchNorm2d(3), a=conv())
    graph = ghn_init.trace(model, (HOLDERS[name](images()),))
    assert graph.primitives == {"input": 1, "bn": 1, "conv": 1, "bias": 1}
    assert graph.kept == {}


@pytest.mark.parametrize("name", HOLDERS)
def test_what_holds_a_tensor_is_copied_and_stays_as_it_is(name: str) -> None:
    tensor = torch.ones(2)
    before = HOLDERS[name](tensor)
    after = mapped(lambda t: t + 1, before)
    assert type(after) is type(before)
    assert first(before.image) is tensor
    assert torch.equal(first(after.image), torch.full((2,), 2.0))


@pytest.mark.parametrize(
    "tree", [OrderedDict(a=1), UserDict(a=1), SimpleNamespace(a=[1]), [1, {"a": None}], deque([1]), nn.Linear(1, 1)]
)
def test_what_holds_no_tensor_is_the_same_object(tree: Any) -> None:
    assert mapped(torch.neg, tree) is tree


def test_what_holds_itself_ends() -> None:
    loop = SimpleNamespace(x=torch.ones(1))
    loop.itself = loop
    assert len(list(tensors_in([loop, loop.x]))) == 1

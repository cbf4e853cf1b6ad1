"""Which tensors share memory, against their elements one by one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init import GHN
from ghn_init.prediction.memory import overlap, reach, share
from zoo import Fn, param, vectors

WHOLE = torch.zeros(6, 8)
TENSORS = {
    "the whole": WHOLE,
    "left columns": WHOLE[:, :4],
    "right columns": WHOLE[:, 4:],
    "middle columns": WHOLE[:, 3:5],
    "every second column": WHOLE[:, ::2],
    "every other column": WHOLE[:, 1::2],
    "upper rows": WHOLE[:3],
    "lower rows": WHOLE[3:],
    "a column": WHOLE[:, 2],
    "turned": WHOLE.t()[5:],
    "repeated": WHOLE[1, :1].expand(3, 4),
    "one number": WHOLE[2, 6],
    "halves of numbers": WHOLE.view(torch.float16)[:, 9:11],
    "other halves of numbers": WHOLE.view(torch.float16)[:, 11:],
}


def places(tensor: Tensor) -> set[int]:
    """Offsets of all bytes of a tensor, one by one."""
    size, found = tensor.element_size(), set()
    for index in itertools.product(*map(range, tensor.shape)):
        offset = tensor.storage_offset() + sum(k * step for k, step in zip(index, tensor.stride(), strict=True))
        found |= set(range(offset * size, (offset + 1) * size))
    return found


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_share_memory_where_a_byte_is_of_both(name: str) -> None:
    one = TENSORS[name]
    for other in TENSORS.values():
        shared = overlap(reach(one), reach(other)) and share(one, other)
        assert shared == (not places(one).isdisjoint(places(other)))


def test_columns_of_one_tensor_are_predicted(ghn: GHN) -> None:
    whole = torch.randn(16, 8)

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head((x[:, :4] @ m.a.t() + x[:, 4:] @ m.b.t()).relu())

    model = Fn(forward, a=nn.Parameter(whole[:, :4]), b=nn.Parameter(whole[:, 4:]), head=nn.Linear(16, 3))
    apart = Fn(forward, a=param(16, 4), b=param(16, 4), head=nn.Linear(16, 3))
    expected = ghn_init.predict(apart, ghn, vectors(2, 8), head=True, condition="none").tensors
    ghn_init.initialize(model, ghn, vectors(2, 8), head=True, condition="none")
    assert torch.equal(whole, torch.cat([expected["a"], expected["b"]], 1))

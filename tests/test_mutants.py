"""Facts of slots that no other test sees: small changes of the code that used to pass all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ghn_init.graph import Graph, Node
from ghn_init.hypernetwork.slots import Slot, fill, slots_of


def test_rows_for_class_tokens_have_a_fiftieth_as_deviation() -> None:
    slot = Slot("p", 0, "position", (1, 4000, 2, 2), (1, 5, 4000), (1, 5, 4000))
    rows = fill(slot, torch.zeros(1, 4000, 2, 2), torch.Generator().manual_seed(0))
    assert rows[0, 0].std().item() == pytest.approx(0.02, rel=0.05)
    assert rows[0, 0].mean().item() == pytest.approx(0, abs=0.002)
    assert rows[0, 1:].abs().max() == 0


@pytest.mark.parametrize("layout", [(1, 1, 6), (1, 6, 1)])
def test_tables_of_one_row_or_column_are_no_grids(layout: tuple[int, ...]) -> None:
    core = torch.randn(*layout, 1)
    slot = Slot("p", 0, "position", (*layout, 1), layout, layout)  # type: ignore[arg-type]
    assert torch.equal(fill(slot, core), core[..., 0])


@pytest.mark.parametrize(("kernel", "head"), [((1, 1), True), ((), True), ((3, 3), False), ((1, 3), False)])
def test_heads_are_linear(kernel: tuple[int, ...], head: bool) -> None:
    graph = Graph((Node("input"), Node("conv", (10, 8, *kernel), "w", head=True)), np.array([[0], [1]]))
    (slot,) = slots_of(graph, {"w": (10, 8, *kernel)})
    assert slot.head == head

"""Symbolic strides: what views do to the axes of a parameter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ghn_init.hypernetwork.slots import stacked, unstacked
from ghn_init.tracing.axes import expanded, fits, looked_up, stack_of, stored, viewed


def test_axes_of_size_one_are_no_atoms() -> None:
    assert stored((4, 1, 6)) == (((6, 4),), (), ((1, 6),))


def test_views_split_and_merge() -> None:
    axes = stored((4, 6))
    assert viewed(axes, (2, 2, 6)) == (((12, 2),), ((6, 2),), ((1, 6),))
    assert viewed(axes, (24,)) == (((6, 4), (1, 6)),)
    assert viewed(axes, (8, 3)) == (((6, 4), (3, 2)), ((1, 3),))
    assert viewed(axes, (3, 8)) is None
    assert viewed(axes, (4, 5)) is None


def test_expanded_and_looked_up_axes_are_no_ones() -> None:
    assert expanded(stored((4, 1)), (3, 4, 5)) == (((0, 3),), ((1, 4),), ((0, 5),))
    assert expanded(stored((4, 1)), (4,)) is None
    assert looked_up(stored((4, 6)), 0, (2, 3)) == (((0, 2),), ((0, 3),), ((1, 6),))
    assert fits(looked_up(stored((4, 6)), 0, (2, 3)), (2, 3, 6))


@pytest.mark.parametrize(("out", "inner"), [(0, 1), (1, 2), (2, 0)])
def test_a_slice_that_was_selected_belongs_to_a_stack_of_all(out: int, inner: int) -> None:
    shape = (3, 4, 5)
    axes = tuple(stored(shape)[k] for k in (out, inner))
    stack = stack_of(shape, axes, 0, 1)
    assert stack is not None
    assert (stack.slices, stack.shape) == (shape[3 - out - inner], (shape[out], shape[inner]))


def test_what_was_looked_up_beside_the_outputs_is_a_batch() -> None:
    shape = (4, 6, 5)
    batch, tops, inner, outer = looked_up(stored(shape), 0, (7, 2))
    folded = (batch, inner, (*tops, *outer))
    stack = stack_of(shape, folded, -1, -2)
    assert stack is not None
    assert (stack.slices, stack.shape) == (4, (5, 6))
    assert stack_of(shape, (batch, (*tops, *inner), outer), -1, -2) is None


def test_a_table_that_is_looked_up_is_no_stack() -> None:
    assert stack_of((9, 8), looked_up(stored((9, 8)), 0, (5,)), -1, -2) is None


@given(st.permutations(range(4)), st.lists(st.integers(2, 4), min_size=4, max_size=4))
def test_stacking_and_back_is_the_parameter(order: list[int], shape: list[int]) -> None:
    axes = tuple(stored(shape)[k] for k in order)
    stack = stack_of(shape, axes, -2, -1)
    assert stack is not None
    parameter = torch.arange(float(torch.tensor(shape).prod())).view(shape)
    assert torch.equal(unstacked(stack, stacked(stack, parameter)).reshape(shape), parameter)

"""Blocks of one tensor."""

from __future__ import annotations

import torch

from ghn_init.hypernetwork.blocks import Block, blocks

WANTED = [Block(0, 0, 2, 3), Block(1, 1, 3, 2), Block(0, 0, 4, 5), Block(0, 0, 2, 3)]


def test_gradients_are_those_of_slicing() -> None:
    whole = torch.randn(4, 5, 2, dtype=torch.float64, requires_grad=True)
    factors = {block: torch.randn(block.rows, block.columns, 2, dtype=torch.float64) for block in WANTED}
    found = blocks(whole, WANTED)
    sum((found[block] * factors[block]).sum() for block in WANTED).backward()
    mine, whole.grad = whole.grad, None
    for top, left, rows, columns in WANTED:
        block = Block(top, left, rows, columns)
        torch.testing.assert_close(found[block], whole[top : top + rows, left : left + columns])
        (whole[top : top + rows, left : left + columns] * factors[block]).sum().backward()
    torch.testing.assert_close(mine, whole.grad)


def test_without_gradients_nothing_is_copied() -> None:
    whole = torch.randn(4, 5, requires_grad=True)
    with torch.no_grad():
        (found,) = blocks(whole, WANTED[:1]).values()
    assert found.data_ptr() == whole.data_ptr()


def test_a_block_that_is_not_used_has_no_gradient() -> None:
    whole = torch.ones(4, 5, requires_grad=True)
    blocks(whole, WANTED)[WANTED[0]].sum().backward()
    assert whole.grad is not None
    assert whole.grad.sum() == 6

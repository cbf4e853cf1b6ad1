"""`torch.cond` in a forward pass: a real run takes the branch that its predicate chooses, as an `if` would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch._higher_order_ops.cond import cond_op

from ghn_init.tracing.record import Recorder


@cond_op.py_impl(Recorder)  # type: ignore[untyped-decorator]
def _chosen(
    recorder: Recorder,
    predicate: Tensor | bool,
    true_branch: Callable[..., Any],
    false_branch: Callable[..., Any],
    operands: Sequence[Any],
) -> Any:
    """PyTorch has taken the mode off; the branch's operations are recorded under it."""
    with recorder:
        return (true_branch if predicate else false_branch)(*operands)

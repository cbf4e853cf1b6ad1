"""Rules by the name of the operator that they are for: the package's own, and those that users register."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch._ops import OpOverloadPacket

from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call

Rule = Callable[[GraphBuilder, Call], None]
_R = TypeVar("_R", bound=Rule)

RULES: dict[str, Rule] = {}
"""Operator → the rule in force. Operators without one are contracted."""

WHOLE = RULES.keys()
"""Operators that the recorder must not take apart: a live view, so that a rule registered later counts as well."""

_BUILT_IN: dict[str, Rule] = {}


def register_rule(*ops: str, replace: bool = False) -> Callable[[_R], _R]:
    """Teaches the tracer an operator: decorates the rule that says what the operator's result holds.

    A rule takes the `GraphBuilder` and the recorded `Call`; it adds nodes, or none, and assigns a `Flow` to `call.outputs`. It
    holds for all traces from then on, also of an operator that PyTorch could take apart, and for in-place variants (`name_`).
    docs/add_an_operation.md goes through two examples.

    Args:
        ops: Names as reports have them: 'namespace::name' of a custom operator, without the overload; 'name' alone of
            PyTorch's own (`torch.ops.aten`).
        replace: Put the rule in the place of the one that is there, the package's own or yours.

    Returns:
        The decorator, which returns the rule as it is.

    Raises:
        TypeError: `ops` are no names.
        ValueError: There is no such operator (yet), or it has a rule and `replace` is False. Nothing is registered then.

    Example:
        >>> import torch
        >>> from ghn_init import trace
        >>> from ghn_init.tracing.rules import register_rule, unregister_rule
        >>> class Maxout(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.a, self.b = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8)
        ...     def forward(self, x):
        ...         return torch.maximum(self.a(x), self.b(x))
        >>> @register_rule("maximum")
        ... def maximum(b, call):
        ...     b.assign(call.outputs, b.merge("sum", [b.flow(value) for value in call.inputs]))
        >>> trace(Maxout(), torch.zeros(2, 4)).primitives
        {'input': 1, 'conv': 2, 'bias': 2, 'sum': 1}
        >>> unregister_rule("maximum")
    """
    names = _existing(ops)

    def register(function: _R) -> _R:
        _enter(names, function, replace)
        return function

    return register


def unregister_rule(*ops: str) -> None:
    """Takes rules back that `register_rule` registered; the package's own, where there is one, holds again.

    Args:
        ops: Names as they were registered.

    Raises:
        ValueError: One of them has no registered rule. Nothing is taken back then.
    """
    names = [_plain(op) for op in ops]
    missing = [op for op in names if RULES.get(op) is _default(op)]
    if missing:
        raise ValueError(f"no rule was registered for {_quoted(missing)}; the package's own rules can't be taken back.")
    for op in names:
        _set(op, _default(op))


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Registers one of the package's own rules; PyTorch releases differ, so that not every operator has to exist."""

    def register(function: Rule) -> Rule:
        _enter(ops, function, replace=False)
        _BUILT_IN.update(dict.fromkeys(ops, function))
        return function

    return register


def argument(call: Call, position: int, name: str = "", default: Any = None) -> Any:
    """An operator's argument, however it was passed; tensors are `Value`s.

    PyTorch leaves out trailing arguments that have their default value, so `call.args` may be shorter than the schema.

    Args:
        call: The recorded call.
        position: Where it stands in the operator's schema.
        name: Its name there, which counts for keyword-only arguments.
        default: What it is where it was left out.
    """
    if position < len(call.args):
        return call.args[position]
    return call.kwargs.get(name, default)


def where(function: Rule) -> str:
    """Dotted name of a rule, for errors."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"


def _existing(ops: tuple[str, ...]) -> list[str]:
    """The names as the recorder sees them. A rule for a name that never occurs would be silent."""
    if not ops or not all(isinstance(op, str) for op in ops):
        shown = ", ".join(map(repr, ops)) or "nothing"
        raise TypeError(f"register_rule takes operators by name, such as 'mylib::fused_linear' or 'gelu'; got {shown}.")
    names = [_plain(op) for op in ops]
    unknown = [op for op in names if not isinstance(_operator(op), OpOverloadPacket)]
    if unknown:
        raise ValueError(
            f"there is no operator {_quoted(unknown)}; define it before its rule, and name it 'namespace::name' without an "
            f"overload, or 'name' alone if it is PyTorch's own (torch.ops.aten)."
        )
    return names


def _operator(op: str) -> Any:
    space, _, name = op.rpartition("::")
    return getattr(getattr(torch.ops, space or "aten"), name, None)


def _enter(ops: Iterable[str], function: Rule, replace: bool) -> None:
    taken = [op for op in ops if op in RULES]
    if taken and not replace:
        owners = ", ".join(dict.fromkeys(where(RULES[op]) for op in taken))
        raise ValueError(
            f"{_quoted(taken)} already has a rule: {owners}; pass replace=True to put {where(function)} in its place."
        )
    for op in ops:
        _set(op, function)


def _set(op: str, function: Rule | None) -> None:
    """Gives an operator its rule, and its in-place variant the same one unless that has its own."""
    before = RULES.get(op)
    for name in (op, op + "_"):
        if RULES.get(name) is before:
            if function is None:
                RULES.pop(name, None)
            else:
                RULES[name] = function


def _default(op: str) -> Rule | None:
    """What holds where nobody registered anything for `op`."""
    return RULES.get(op[:-1]) if op.endswith("_") else _BUILT_IN.get(op)


def _plain(op: str) -> str:
    return op.removeprefix("aten::")


def _quoted(ops: Iterable[str]) -> str:
    return ", ".join(f"'{op}'" for op in ops)

"""Rules by the name of the operation that they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ghn_init.tracing.flow import GraphBuilder
from ghn_init.tracing.record import Call

Rule = Callable[[GraphBuilder, Call], None]
RULES: dict[str, Rule] = {}


def rule(*ops: str) -> Callable[[Rule], Rule]:
    """Registers a rule for ATen operations, in-place variants included."""

    def register(function: Rule) -> Rule:
        for op in ops:
            RULES[op] = RULES[op + "_"] = function
        return function

    return register


def argument(call: Call, position: int, name: str = "", default: Any = None) -> Any:
    """An operation's argument, however it was passed."""
    if position < len(call.args):
        return call.args[position]
    return call.kwargs.get(name, default)

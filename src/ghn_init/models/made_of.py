"""What tells networks apart beside their values: classes, settings, the code of what is not PyTorch's."""

from __future__ import annotations

from types import CodeType, FunctionType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy


def made_of(module: nn.Module) -> str:
    """The same tomorrow, in another process and for another module that is made alike; not of values, and not of the mode.

    Of each part: its class and that class's `forward`; its public attributes that are numbers, words, functions or tuples of
    these (strides, activations); names and shapes of parameters. What a class's other methods do is not seen.
    """
    parts = [(name, *_class(part), _settings(part)) for name, part in module.named_modules()]
    shapes = [(name, None if is_lazy(value) else tuple(value.shape)) for name, value in module.named_parameters()]
    return repr((parts, shapes))


def _class(part: nn.Module) -> tuple[str, str | None]:
    kind = type(part)
    return kind.__qualname__, None if kind.__module__.startswith("torch.") else _plain(kind.forward)


def _settings(part: nn.Module) -> list[tuple[str, str]]:
    found = ((name, _plain(value)) for name, value in vars(part).items() if not name.startswith("_") and name != "training")
    return sorted((name, words) for name, words in found if words is not None)


def _plain(value: Any) -> str | None:
    """In words; None of what has none that are the same tomorrow."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, tuple | list):
        return str([_plain(each) for each in value])
    if isinstance(value, FunctionType):
        return f"{value.__qualname__} {_code(value.__code__)}"
    return getattr(value, "__qualname__", None) if callable(value) else None


def _code(code: CodeType) -> str:
    """Instructions, names and constants, wherever in a file they stand."""
    constants = [_code(each) if isinstance(each, CodeType) else _plain(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"

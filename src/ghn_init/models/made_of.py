"""What tells networks apart beside their values: classes, settings, the code of what is not PyTorch's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial
from types import CellType, CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

DEPTH = 5
"""Of what holds others."""


def made_of(module: nn.Module) -> str:
    """The same tomorrow, in another process and for another module that is made alike; not of values, and not of the mode.

    Of each part: its class and that class's `forward`; its public attributes that are numbers, words, functions, or tuples,
    lists and mappings of these (strides, activations); names and shapes of parameters. What a class's other methods do is not
    seen.
    """
    parts = [(name, *_class(part), _settings(part)) for name, part in module.named_modules()]
    shapes = [(name, None if is_lazy(value) else tuple(value.shape)) for name, value in module.named_parameters()]
    return repr((parts, shapes))


def digest(value: Any, otherwise: Callable[[Any], str]) -> str:
    """Of a function's code, its defaults and what it takes from around it: a few letters that are the same tomorrow.

    Args:
        value: The function, a `functools.partial` of one, or an object's attributes by name.
        otherwise: Says what has no words here, modules and tensors among it.
    """
    return hashlib.sha256(str(_plain(value, otherwise=otherwise)).encode()).hexdigest()[:12]


def _class(part: nn.Module) -> tuple[str, str | None]:
    kind = type(part)
    return kind.__qualname__, None if kind.__module__.startswith("torch.") else _plain(kind.forward)


def _settings(part: nn.Module) -> list[tuple[str, str]]:
    found = ((name, _plain(value)) for name, value in vars(part).items() if not name.startswith("_") and name != "training")
    return sorted((name, words) for name, words in found if words is not None)


def _plain(value: Any, depth: int = DEPTH, otherwise: Callable[[Any], str | None] = lambda _: None) -> str | None:
    """In words; None of what lies too deep, and `otherwise` of what has none that are sure to be the same tomorrow."""

    def each(values: Iterable[Any]) -> str:
        return str([_plain(one, depth - 1, otherwise) for one in values])

    if value is None or isinstance(value, bool | int | float | complex | str | bytes | range | slice | torch.dtype):
        return repr(value)
    if depth == 0:
        return None
    if isinstance(value, tuple | list):
        return each(value)
    if isinstance(value, dict):
        return each(value.items())
    if isinstance(value, partial):
        return f"partial {each((value.func, value.args, value.keywords))}"
    if isinstance(value, FunctionType):
        bound = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return f"{value.__qualname__} {_code(value.__code__)} {each((value.__defaults__, value.__kwdefaults__, bound))}"
    name = getattr(value, "__qualname__", None) if callable(value) else None
    return otherwise(value) if name is None else name


def _is_filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _code(code: CodeType) -> str:
    """Instructions, names and constants, wherever in a file they stand."""
    constants = [_code(each) if isinstance(each, CodeType) else _plain(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"

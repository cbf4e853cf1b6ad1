"""Parametrized weights: each counts as the parameter that it is made from, since what is predicted is the weight."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils.hooks import RemovableHandle


@contextlib.contextmanager
def seen_through(model: nn.Module, register: Callable[[Tensor, str], object]) -> Iterator[dict[str, str]]:
    """Meanwhile weights that parametrizations make are registered as the parameters that they are made from.

    Args:
        model: That runs meanwhile.
        register: Takes a weight and the dotted name of the parameter that it counts as.

    Yields:
        Parameters of parametrizations that ran → the parameter of whose weight they make another; it grows.
    """
    reparametrising: dict[str, str] = {}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    handles = []
    for name, part in _parametrized(model):
        own = [names[id(parameter)] for step in part.children() for parameter in step.parameters()]
        handles.append(_see_through(part, f"{name}.original", own, register, reparametrising))
    try:
        yield reparametrising
    finally:
        for handle in handles:
            handle.remove()


def _parametrized(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Parametrizations with an inverse that make a weight from one parameter, by dotted name.

    What has none is followed as the function that it is: nothing else would divide the constant of `0.1 * w` out.
    """
    for name, part in model.named_modules():
        if not isinstance(part, ParametrizationList) or not isinstance(getattr(part, "original", None), nn.Parameter):
            continue
        if all(hasattr(step, "right_inverse") for step in part):
            yield name, part


def _see_through(
    part: nn.Module, name: str, own: list[str], register: Callable[[Tensor, str], object], reparametrising: dict[str, str]
) -> RemovableHandle:
    """`own`: names of the parameters that the parametrization brings along."""

    def rebind(module: nn.Module, args: Any, weight: Tensor) -> None:
        if weight.shape == module.original.shape:  # type: ignore[union-attr]
            register(weight, name)
            reparametrising.update(dict.fromkeys(own, name))

    return part.register_forward_hook(rebind)

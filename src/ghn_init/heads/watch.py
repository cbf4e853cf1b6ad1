"""What heads are applied to while a model runs, and on request other results in the place of theirs."""

# Axes: B images, C channels, K classes, L positions, D features

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ghn_init.errors import HeadError

_OPERANDS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), (0, 1, False)),
    **dict.fromkeys(("matmul", "__matmul__", "mm"), (0, 1, True)),
    "addmm": (1, 2, True),
}
"""Function → the places of its input and its weight, and whether it takes that as (in, out)."""
NOT_FITTED = 'such heads are not fitted: initialize(…, exclude="<head>.*") leaves it out'
"""The end of errors that say why."""
_FLIPS = (torch.t, Tensor.t, Tensor.T.__get__, Tensor.mT.__get__)  # type: ignore[attr-defined]


class Watch(TorchFunctionMode):
    """Recognises heads by their weights, whatever module or function applies them.

    Args:
        weights: Dotted name → the parameter.
        instead: Dotted name → (K,) what each head shall give in the place of its own result, the same everywhere.

    Attributes:
        features: Dotted name → (B, D) of the last run, a mean over positions.
        flipped: Dotted name → whether the parameter is stored (in, out).
        least: The smallest value that a head gave.
    """

    def __init__(self, weights: Mapping[str, Tensor], instead: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.weights, self.instead = weights, instead or {}
        self.features: dict[str, Tensor] = {}
        self.flipped: dict[str, bool] = {}
        self.least = float("inf")
        self._views: list[tuple[Tensor, str]] = []

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operands = [*args, *kwargs.values()]
        for name, weight in self.weights.items():
            if func in _FLIPS and operands[0] is weight:
                self._views.append((result, name))
                return result
        for weight, name, flipped in self._known():
            if any(operand is weight for operand in operands) and getattr(func, "__name__", "") in _OPERANDS:
                return self._applied(func.__name__, operands, weight, name, flipped, result)
        return result

    def _known(self) -> list[tuple[Tensor, str, bool]]:
        own = [(weight, name, False) for name, weight in self.weights.items()]
        return own + [(view, name, True) for view, name in self._views]

    def _applied(self, op: str, operands: list[Any], weight: Tensor, name: str, flipped: bool, result: Tensor) -> Tensor:
        """Notes a head's input; returns its result, or what shall stand in its place."""
        x_at, weight_at, as_in_out = _OPERANDS[op]
        if len(operands) <= weight_at or operands[weight_at] is not weight:
            raise HeadError(f"the head '{name}' is applied by {op} in a way that is not understood; {NOT_FITTED}.")
        if name in self.features:
            raise HeadError(f"the head '{name}' is applied several times in one forward pass; {NOT_FITTED}.")
        x, of_convolution = operands[x_at], op.startswith("conv")
        self.features[name] = (_of_convolution(x, weight, result, name) if of_convolution else _of_linear(x)).detach()
        self.flipped[name] = flipped != as_in_out
        self.least = min(self.least, float(result.amin()))
        if name not in self.instead:
            return result
        values = self.instead[name].to(result)
        return torch.ones_like(result) * (values.view(-1, *[1] * (result.dim() - 2)) if of_convolution else values)


def _of_linear(x: Tensor) -> Tensor:
    """(B, …, D) → (B, D)."""
    return x.flatten(1, -2).mean(1) if x.dim() > 2 else x


def _of_convolution(x: Tensor, weight: Tensor, result: Tensor, name: str) -> Tensor:
    """(B, C, …) → (B, C), or (B, C × kernel) where the kernel covers all of it."""
    if x.shape[1:] == weight.shape[1:] and result[0, 0].numel() == 1:
        return x.flatten(1)
    if weight[0, 0].numel() == 1 and x.shape[2:] == result.shape[2:] and x.shape[1] == weight.shape[1]:
        return x.flatten(2).mean(2)
    raise HeadError(
        f"the head '{name}' is a convolution of kernel {tuple(weight.shape[2:])} on maps of {tuple(x.shape[2:])}; a head can "
        f"be fitted that is 1×1, of stride 1, without groups, or as large as the maps."
    )

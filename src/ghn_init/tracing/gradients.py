"""Forward passes that speak of gradients: hooks on them are let be, since none will come; taking them is an error."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch.autograd.functional
from torch import Tensor
from torch._functorch import eager_transforms
from torch.overrides import TorchFunctionMode

_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
_TAKEN = ("grad", "backward")
_ENTRIES = (
    (eager_transforms, "grad_increment_nesting", "torch.func.grad or vjp"),
    (eager_transforms, "jvp_increment_nesting", "torch.func.jvp"),
    (torch.autograd.functional, "_autograd_grad", "torch.autograd.functional"),
)
"""Where transformations begin that a dispatch mode does not see, and that would give wrong graphs without a word."""


class DifferentiatesError(Exception):
    """The forward pass takes gradients, by the function that the message names."""


class Handle:
    """Of a hook that will never be called."""

    def remove(self) -> None:
        """There is nothing to remove."""


class _Function:
    """In the place of a tensor's `grad_fn`: takes hooks; what else is asked of it has no answer."""

    def register_hook(self, hook: Any) -> Handle:
        """As of tensors."""
        return Handle()

    register_prehook = register_hook

    def __getattr__(self, name: str) -> Any:
        raise DifferentiatesError(f"it reads grad_fn.{name}")


class WithoutGradients(TorchFunctionMode):
    """Hooks of gradients, which tensors refuse in inference mode, are accepted and forgotten.

    It costs a call of Python for each function of PyTorch, so that only a run that failed for want of it is repeated with it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__self__", None) is Tensor.grad_fn and func.__name__ == "__get__":
            return _Function()
        name = getattr(func, "__name__", "")
        if name in _HOOKS:
            return Handle()
        if name == "retain_grad":
            return None
        if name in _TAKEN:
            raise DifferentiatesError(f"torch.autograd.{name}")
        return func(*args, **(kwargs or {}))


def is_about_gradients(error: Exception) -> bool:
    """Whether a forward pass may have failed because its tensors have no gradients, or None for `grad_fn`."""
    words = str(error)
    if isinstance(error, RuntimeError):
        return any(word in words for word in ("require grad", "requires_grad"))
    if isinstance(error, AssertionError):
        return not words or "gradient" in words
    return isinstance(error, AttributeError | TypeError) and "NoneType" in words


@contextlib.contextmanager
def no_transformations() -> Iterator[None]:
    """Meanwhile derivatives by functions, as of `torch.func`, raise `DifferentiatesError` in this thread."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _ENTRIES]
    for module, name, what in _ENTRIES:
        setattr(module, name, _refusing(what, getattr(module, name), threading.get_ident()))
    try:
        yield
    finally:
        for module, name, function in before:
            setattr(module, name, function)


def _refusing(what: str, function: Callable[..., Any], thread: int) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:  # one that trains meanwhile
            return function(*args, **kwargs)
        raise DifferentiatesError(what)

    return refuse

"""Forward passes that hook gradients are traced; those that take them get an error with the reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.autograd.functional
from torch import Tensor, nn
from torch._functorch import eager_transforms

import ghn_init
from ghn_init.errors import TraceError
from zoo import Fn, vectors


def energy(m: Any, x: Tensor) -> Tensor:
    return m.b(m.a(x).tanh()).sum()


def by_grad(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(energy(m, x), x)[0]


def by_backward(m: Any, x: Tensor) -> Any:
    x = x.requires_grad_()
    energy(m, x).backward()
    return x.grad


def by_grad_fn(m: Any, x: Tensor) -> Tensor:
    z = m.a(x)
    return m.b(z) * len(z.grad_fn.next_functions)  # type: ignore[union-attr]


TAKEN = {
    "it reads grad_fn.next_functions": by_grad_fn,
    "torch.autograd.grad": by_grad,
    "torch.autograd.backward": by_backward,
    "torch.func.grad or vjp": lambda m, x: torch.func.grad(lambda t: energy(m, t))(x),
    "torch.func.jvp": lambda m, x: torch.func.jvp(lambda t: energy(m, t), (x,), (x,))[1],
    "torch.autograd.functional": lambda m, x: torch.autograd.functional.jacobian(lambda t: energy(m, t), x),
}


@pytest.mark.parametrize("what", TAKEN)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_forward_that_takes_gradients_gets_the_true_reason(what: str) -> None:
    model = Fn(TAKEN[what], a=nn.Linear(8, 4), b=nn.Linear(4, 1))
    with pytest.raises(TraceError, match=rf"Fn differentiates \({re.escape(what)}\).*no other inputs would help"):
        ghn_init.trace(model, vectors(2, 8))
    assert "refuse" not in eager_transforms.grad_increment_nesting.__qualname__
    assert torch.func.grad(lambda t: energy(model, t))(vectors(2, 8)).shape == (2, 8)  # PyTorch's own is back


def test_gradients_that_are_taken_in_training_mode_alone_do_not_matter() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return (energy(m, x), by_grad(m, x)) if m.training else energy(m, x)

    graph = ghn_init.trace(Fn(forward, a=nn.Linear(8, 4), b=nn.Linear(4, 1)), vectors(2, 8))
    assert (graph.primitives["conv"], dict(graph.kept)) == (2, {})


def test_an_error_in_eval_mode_does_not_hide_that_training_mode_takes_gradients() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return by_grad(m, x) if m.training else m.missing(x)

    with pytest.raises(TraceError, match=r"differentiates \(torch.autograd.grad\)"):
        ghn_init.trace(Fn(forward, a=nn.Linear(8, 4), b=nn.Linear(4, 1)), vectors(2, 8))


def test_hooks_of_modules_that_hook_gradients_are_let_be() -> None:
    seen: list[Tensor] = []
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].register_forward_hook(lambda module, args, out: (out.register_hook(seen.append), None)[1])
    assert ghn_init.trace(model, vectors(2, 8)).primitives == {"input": 1, "conv": 2, "bias": 2}
    model(torch.ones(2, 8)).sum().backward()
    assert len(seen) == 1


HOOKS = {
    "several tensors": lambda z, fn: torch.autograd.graph.register_multi_grad_hook([z, z.tanh()], fn),
    "any of several": lambda z, fn: torch.autograd.graph.register_multi_grad_hook([z], fn, mode="any"),
    "a function": lambda z, fn: z.grad_fn.register_hook(fn),
    "a function, before": lambda z, fn: z.grad_fn.register_prehook(fn),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_of_what_made_a_tensor_are_let_be(name: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.a(x)
        HOOKS[name](z, lambda *_: None).remove()
        return m.b(z)

    model = Fn(forward, a=nn.Linear(8, 4), b=nn.Linear(4, 2))
    assert ghn_init.trace(model, vectors(2, 8)).primitives == {"input": 1, "conv": 2, "bias": 2}
    model(torch.ones(2, 8))


def test_an_error_of_nothing_stays_what_it_is() -> None:
    with pytest.raises(TraceError, match="'NoneType' object has no attribute 'shape'"):
        ghn_init.trace(Fn(lambda m, x: m.a(m.missing.shape), a=nn.Linear(8, 4), missing=None), vectors(2, 8))

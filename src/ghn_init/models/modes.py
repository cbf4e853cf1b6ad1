"""Eval mode, also of programs of `torch.export`, whose operations have the mode that they were exported in."""

from __future__ import annotations

from torch import nn

from ghn_init.errors import UnsupportedModelError
from ghn_init.tracing.unwrap import taken_off


def eval_(model: nn.Module) -> None:
    """As `model.eval()`, which programs of `torch.export` refuse; they are not changed."""
    if not any(map(_is_exported, model.modules())):
        model.eval()
        return
    for module in model.modules():
        module.training = False


def check_modes(model: nn.Module) -> None:
    """Refuses programs of `torch.export` for what runs a model in both modes.

    Raises:
        UnsupportedModelError: It is one, or has one inside.
    """
    found = next((name or type(taken_off(model)[0]).__name__ for name, m in model.named_modules() if _is_exported(m)), None)
    if found is not None:
        raise UnsupportedModelError(
            f"{found} was made by torch.export, which fixed what training and eval mode do; nothing can be fitted to data "
            f"there: initialise with data before exporting."
        )


def check_norms(model: nn.Module) -> None:
    """Refuses programs of `torch.export` whose norms can no longer take statistics.

    Raises:
        UnsupportedModelError: They were taken apart, by `run_decompositions`.
    """
    for module in filter(_is_exported, model.modules()):
        nodes = getattr(getattr(module, "graph", None), "nodes", ())
        if taken_apart := next((node.target for node in nodes if "native_batch_norm" in str(node.target)), None):
            raise UnsupportedModelError(
                f"the program of torch.export was decomposed (its norms are {taken_apart}), and takes no statistics any more; "
                f"recalibrate before run_decompositions, or before exporting."
            )


def _is_exported(module: nn.Module) -> bool:
    return any(base.__module__ == "torch.export._unlift" for base in type(module).__mro__)

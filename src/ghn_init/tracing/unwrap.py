"""Finds the model inside of wrappers, and refuses models whose parameters can't be predicted into."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from ghn_init.errors import UnsupportedModelError

# By name, here and below: not every build of PyTorch has `torch.distributed`, and none has torchao.
_WRAPPED_IN = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module", "DataParallel": "module"}


def unwrap(model: nn.Module) -> tuple[nn.Module, str]:
    """Takes off `torch.compile`, DataParallel and DistributedDataParallel.

    Returns:
        The model, and the prefix that the wrappers put before its parameter names.

    Raises:
        UnsupportedModelError: Not a module, or no parameters, or parameters of a kind that can't be written.
    """
    if not isinstance(model, nn.Module):
        raise UnsupportedModelError(f"expected a torch.nn.Module, got {type(model).__name__}; pass the model itself.")
    model, prefix = taken_off(model)
    _check(model)
    return model, prefix


def taken_off(model: nn.Module) -> tuple[nn.Module, str]:
    """As `unwrap`, of a model that need not be one to predict for."""
    prefix = ""
    for wrapper, attribute in _wrappers(model):
        model, prefix = getattr(wrapper, attribute), f"{prefix}{attribute}."
    return model, prefix


def _wrappers(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """From the outermost on, and the attribute that holds what is inside."""
    while (attribute := _WRAPPED_IN.get(type(model).__name__)) and type(model).__module__.startswith("torch."):
        inner = getattr(model, attribute, None)
        if not isinstance(inner, nn.Module):
            return
        yield model, attribute
        model = inner


def check_one_process(model: nn.Module) -> None:
    """Refuses replicas, which DistributedDataParallel holds to be alike, for what is computed from a process's own images.

    Raises:
        UnsupportedModelError: They are in several processes.
    """
    for wrapper, _ in _wrappers(model):
        if type(wrapper).__name__ != "DistributedDataParallel" or not torch.distributed.is_initialized():
            continue
        if (count := torch.distributed.get_world_size(getattr(wrapper, "process_group", None))) > 1:
            raise UnsupportedModelError(
                f"{type(taken_off(model)[0]).__name__} is distributed over {count} processes: each would fit its own "
                f"head and statistics to its own images, and nothing makes the replicas alike again. Do it before "
                f"wrapping, or pass the model inside, with the same images in every process."
            )


def check_values(model: nn.Module) -> None:
    """Refuses a model whose parameters have no values to start from.

    Raises:
        UnsupportedModelError: One of them is on the meta device.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        name = type(taken_off(model)[0]).__name__
        raise UnsupportedModelError(f"{name} is on the meta device, without values; initialise it first.")


def _check(model: nn.Module) -> None:
    """Raises one error that names everything that stands in the way."""
    problems = list(_problems(model))
    if problems:
        kinds = dict.fromkeys(way for _, way in problems)
        shown = ", ".join(what for what, _ in problems[:5])
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UnsupportedModelError(f"{type(model).__name__} can't be initialised: {shown}{more}; {'; '.join(kinds)}.")
    if next(model.parameters(), None) is None:
        raise UnsupportedModelError(f"{type(model).__name__} has no parameters; there is nothing to initialise.")


def _problems(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Pairs of what is wrong, and the way out."""
    trainable = any(parameter.requires_grad for parameter in model.parameters())
    for name, module in model.named_modules():
        kind = type(module)
        if kind.__name__ in ("FullyShardedDataParallel", "FSDPModule"):
            yield f"{name or 'the model'} is sharded by {kind.__name__}", "initialise before sharding"
        elif isinstance(module, torch.jit.ScriptModule):
            # A part that is frozen beside trainable parameters is kept. In scripted wholes PyTorch swaps no parameters.
            if any(parameter.requires_grad or not trainable for parameter in module.parameters()):
                yield f"{name or 'the model'} is compiled by TorchScript", "initialise before scripting"
                return
        elif _is_quantised(module):
            yield f"{name or 'the model'} is a quantised {kind.__name__}", "initialise before quantising"
        elif _is_offloaded(module):
            yield f"{name or 'the model'} is offloaded by Accelerate", "initialise before offloading"
            return
    for name, parameter in model.named_parameters():
        kind = type(parameter)
        if kind is nn.Parameter and not parameter.is_quantized:
            continue
        if isinstance(parameter, UninitializedParameter):
            yield f"'{name}' is not initialised yet (lazy module)", "run one forward pass on a batch of data first"
        elif kind.__name__ == "DTensor" or hasattr(parameter, "device_mesh"):
            yield f"'{name}' is a {kind.__name__}", "initialise before sharding"
        elif parameter.is_quantized or kind.__module__.startswith(("torchao", "bitsandbytes")):
            yield f"'{name}' is {kind.__name__} of {parameter.dtype}", "initialise before quantising"


def _is_quantised(module: nn.Module) -> bool:
    """Holds quantised weights; stubs and operators that stand by for a later quantisation hold nothing."""
    kind = type(module)
    from_torch = kind.__module__.startswith("torch") and ".quantized" in kind.__module__
    return from_torch and kind.__name__ != "LinearPackedParams" and bool(module.state_dict())


def _is_offloaded(module: nn.Module) -> bool:
    """Accelerate brings its parameters from elsewhere before each forward pass."""
    hook = getattr(module, "_hf_hook", None)
    return any(getattr(each, "offload", False) for each in (hook, *getattr(hook, "hooks", ())))

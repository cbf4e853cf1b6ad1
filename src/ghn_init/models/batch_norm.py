"""Running statistics of norms, which are not predicted, from a few batches of data."""

# Axes: B images

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from ghn_init.errors import RecalibrationError
from ghn_init.models.batches import NO_BATCHES, Inputs, check_loader, forward, inputs_of
from ghn_init.models.modes import check_norms, eval_
from ghn_init.models.norm_calls import averaging, may_hold_statistics
from ghn_init.models.restored import buffers_kept
from ghn_init.progress import watched
from ghn_init.tracing.unwrap import check_one_process, check_values

Statistics = Sequence[tuple[nn.Module, Sequence[tuple[Tensor, Tensor]]]]
"""Norms, and their buffers with the values of before."""


def recalibrate_batchnorm(model: nn.Module, loader: Iterable[Any], max_batches: int | None = 100) -> nn.Module:
    """Recomputes the running statistics of all norms that have them, in place, as `torch.optim.swa_utils.update_bn` does.

    Besides PyTorch's batch norms these are its instance norms that track statistics, and modules of your own that call
    `F.batch_norm` with buffers. Call it between `initialize` and eval mode. Each batch counts the same; one of a single image,
    as a loader's last may be, is left out where others have more. Norms that no batch comes to keep their statistics. The norms
    alone run in training mode: dropout and stochastic depth stay off, as they will be when the statistics are used.

    Args:
        model: Any module, on any device. Norms that track no statistics are left alone; without others nothing is run.
        loader: Yields tensors (B, …), tuples or lists that begin with one, as (images, labels), or mappings: those keys which
            the forward takes become its keyword arguments, but for labels; else the only tensor that is no label is passed.
        max_batches: How many batches are used at most; None for all.

    Returns:
        The model; every module is in training or eval mode as before.

    Raises:
        RecalibrationError: No loader, no batch, or one that the model can't be given, or what a norm sees is not finite. The
            statistics are then as before, also where loader or forward raise errors of their own.
        TraceError: The forward fails on images of another precision than the model's.
        UnsupportedModelError: The model is on the meta device, a decomposed program of `torch.export`, or distributed
            over several processes where not all norms are `SyncBatchNorm`.
        ValueError: `max_batches` is below 1.

    Example:
        >>> import ghn_init, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> loader = torch.utils.data.DataLoader(torch.randn(12, 3, 8, 8), batch_size=4)
        >>> int(ghn_init.recalibrate_batchnorm(model, loader)[1].num_batches_tracked)
        3
    """
    check_loader(loader)
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}; expected at least 1, or None for all.")
    norms = tracking_norms(model)
    if norms:
        check_values(model)
        check_norms(model)
    if not all(isinstance(norm, nn.SyncBatchNorm) for norm in norms):  # whose statistics are of all processes' images
        check_one_process(model)
    recalibrate_(model, norms, watched(loader), max_batches)
    return model


def tracking_norms(model: nn.Module, called: Collection[str] | None = None) -> list[nn.Module]:
    """Modules that hold running statistics: PyTorch's norms that track them, and others whose buffers norms are called with.

    Args:
        model: It.
        called: Dotted names of the others; None where that is not known, for all which may be some.
    """
    return [
        module
        for name, module in model.named_modules()
        if may_hold_statistics(module) and (isinstance(module, _NormBase) or called is None or name in called)
    ]


def unfrozen_norms(
    model: nn.Module, written: Collection[str] = (), called: Collection[str] | None = None, left_out: Collection[str] = ()
) -> list[nn.Module]:
    """Those that track statistics but for those left out, and frozen ones: of what is frozen beside trainable parts, unwritten.

    Args:
        model: It.
        written: Dotted names of parameters that have new values, frozen or not.
        called: As for `tracking_norms`.
        left_out: Dotted names of parameters that the caller wants to stay as they are.
    """
    parameters = dict(model.named_parameters())
    fixed = {name for name, p in parameters.items() if not p.requires_grad and name not in written}
    if len(fixed) == len(parameters):  # a model that is frozen as a whole is one in which nothing is singled out
        if not left_out:
            return tracking_norms(model, called)
        fixed = set()
    return [norm for norm, names in parameters_around(model, called).items() if not names <= fixed.union(left_out)]


def parameters_around(model: nn.Module, called: Collection[str] | None = None) -> dict[nn.Module, set[str]]:
    """Norms that track statistics, as `tracking_norms` finds them → dotted names of their parameters.

    Of one that has none those of the smallest module around it with any: its convolution's, mostly.
    """
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    norms = tracking_norms(model, called)
    found = {norm: {by_id[id(parameter)] for parameter in norm.parameters()} for norm in norms}
    if all(found.values()):
        return found
    every = {name: by_id[id(parameter)] for name, parameter in model.named_parameters(remove_duplicate=False)}
    places = {module: name for name, module in model.named_modules()}
    for norm, names in found.items():
        around = places[norm]
        while not names and around:
            around = around.rpartition(".")[0]
            names = {name for path, name in every.items() if path.startswith(around + "." if around else "")}
        found[norm] = names
    return found


@torch.no_grad()
def recalibrate_(model: nn.Module, norms: Sequence[nn.Module], loader: Iterable[Any], max_batches: int | None = None) -> None:
    """Recomputes the statistics of some of a model's norms, as `recalibrate_batchnorm` does of all."""
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = {norm: norm.momentum for norm in norms if isinstance(norm, _BatchNorm)}
    statistics = [(norm, [(buffer, buffer.clone()) for buffer in norm.buffers(recurse=False)]) for norm in norms]
    done = False
    try:
        eval_(model)
        for norm in momenta:
            norm.reset_running_stats()
            norm.training, norm.momentum = True, None  # the plain mean over batches
        with buffers_kept(model, norms), averaging(norm for norm in norms if norm not in momenta) as called:
            strange = _run(model, itertools.islice(loader, max_batches), lambda: not momenta and not called)
        _check(model, statistics, strange)
        done = True
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for holder, buffers in statistics:
            if not done or (isinstance(holder, _BatchNorm) and _is_new(holder)):  # no batch came there
                for buffer, before in buffers:
                    buffer.copy_(before)


def _run(model: nn.Module, loader: Iterable[Any], in_vain: Callable[[], bool]) -> int:
    """Of how many images the values are not finite; one batch is enough to see that no norm takes anything from them."""
    device = next(tensor.device for tensor in itertools.chain(model.parameters(), model.buffers()))
    count = most = strange = 0
    for content in loader:
        inputs = inputs_of(model, content, device)
        if inputs.empty:
            continue
        count += 1
        most = max(most, len(inputs))
        strange += inputs.not_finite()
        if len(inputs) > 1 or most < 2:  # else norms over single positions would raise
            with torch.autocast(device.type, enabled=False):  # as heads are fitted
                _forward(model, inputs)
            if in_vain():
                break
    if not count:
        raise RecalibrationError(NO_BATCHES)
    return strange


def _forward(model: nn.Module, inputs: Inputs) -> None:
    """In words of the loader where norms see single values."""
    try:
        forward(model, inputs)
    except ValueError as error:
        if "more than 1" not in str(error):
            raise
        raise RecalibrationError(f"norms need two images: pass larger batches ({error}).") from error


def _check(model: nn.Module, statistics: Statistics, strange: int) -> None:
    """Refuses new statistics that are not finite; norms that no batch came to keep theirs, whatever they are."""
    names = {module: name for name, module in model.named_modules()}
    found = {norm: [(buffer, before) for buffer, before in pairs if not buffer.isfinite().all()] for norm, pairs in statistics}
    broken = [
        names[norm]
        for norm, pairs in found.items()
        if pairs and (isinstance(norm, _BatchNorm) or not all(_same(*pair) for pair in pairs))  # batch norms were reset
    ]
    if broken:
        cause = f"images that are not finite themselves: {strange}" if strange else "look at the weights before it"
        raise RecalibrationError(f"what the norm '{broken[0]}' sees is not finite; {cause}.")


def _same(buffer: Tensor, before: Tensor) -> bool:
    return torch.equal(buffer.nan_to_num(0), before.nan_to_num(0)) and torch.equal(buffer.isnan(), before.isnan())


def _is_new(norm: _BatchNorm) -> bool:
    """Whether the statistics are those of a new norm, to which they were reset."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or mean.is_meta:
        return False
    return not bool(mean.any()) and bool((var == 1).all())

"""Running statistics of batch norms, which are not predicted, from a few batches of data."""

# Axes: B images

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ghn_init.errors import RecalibrationError
from ghn_init.models.batches import inputs_of
from ghn_init.progress import watched


def recalibrate_batchnorm(model: nn.Module, loader: Iterable[Any], max_batches: int | None = 100) -> nn.Module:
    """Recomputes the running statistics of all batch norms, in place, by `torch.optim.swa_utils.update_bn`.

    Call it between `initialize` and eval mode. Each batch counts the same; one of a single image, as a loader's last may be, is
    left out where others have more. Norms that no batch comes to keep their statistics. The batch norms alone run in training
    mode: dropout and stochastic depth stay off, as they will be when the statistics are used.

    Args:
        model: Any module, on any device. Norms that track no statistics are left alone; without others nothing is run.
        loader: Yields tensors (B, …), tuples or lists that begin with one, as (images, labels), or mappings: those keys which
            the forward takes become its keyword arguments, but for labels; else the only tensor that is no label is passed.
        max_batches: How many batches are used at most; None for all.

    Returns:
        The model; every module is in training or eval mode as before.

    Raises:
        RecalibrationError: No batch, or one that the model can't be given. The statistics are then as before, also where loader
            or forward raise errors of their own.
        ValueError: `max_batches` is below 1.

    Example:
        >>> import ghn_init, torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
        >>> loader = torch.utils.data.DataLoader(torch.randn(12, 3, 8, 8), batch_size=4)
        >>> int(ghn_init.recalibrate_batchnorm(model, loader)[1].num_batches_tracked)
        3
    """
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}; expected at least 1, or None for all.")
    recalibrate_(model, tracking_norms(model), watched(loader), max_batches)
    return model


def tracking_norms(model: nn.Module) -> list[_BatchNorm]:
    """Batch norms that track statistics."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]


def unfrozen_norms(model: nn.Module, written: Collection[str] = ()) -> list[_BatchNorm]:
    """Those that track statistics but for frozen ones: part of what is frozen beside trainable parameters, and not written.

    Args:
        model: It.
        written: Dotted names of parameters that have new values, frozen or not.
    """
    parameters = dict(model.named_parameters())
    fixed = {name for name, p in parameters.items() if not p.requires_grad and name not in written}
    if len(fixed) == len(parameters):  # a model that is frozen as a whole is one in which nothing is singled out
        return tracking_norms(model)
    return [norm for norm, names in parameters_around(model).items() if not names <= fixed]


def parameters_around(model: nn.Module) -> dict[_BatchNorm, set[str]]:
    """Batch norms that track statistics → dotted names of their parameters.

    Of one that has none those of the smallest module around it with any: its convolution's, mostly.
    """
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {norm: {by_id[id(parameter)] for parameter in norm.parameters()} for norm in tracking_norms(model)}
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


def recalibrate_(model: nn.Module, norms: Sequence[_BatchNorm], loader: Iterable[Any], max_batches: int | None = None) -> None:
    """Recomputes the statistics of some of a model's batch norms, as `recalibrate_batchnorm` does of all."""
    if not norms:
        return
    modes = {module: module.training for module in model.modules()}
    momenta = {module: module.momentum for module in modes if isinstance(module, _BatchNorm)}
    statistics = [(norm, [(buffer, buffer.clone()) for buffer in norm.buffers(recurse=False)]) for norm in norms]
    done = False
    try:
        batches = _Counted(itertools.islice(loader, max_batches))
        update_bn(batches, _WithTrainingNorms(model, norms))
        if not batches.count:
            raise RecalibrationError("the loader has no batches; pass one that yields images (an iterator may be used up).")
        done = True
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for norm, buffers in statistics:
            if not done or _is_new(norm):  # no batch came there
                for buffer, before in buffers:
                    buffer.copy_(before)


def _is_new(norm: _BatchNorm) -> bool:
    """Whether the statistics are those of a new norm, to which `update_bn` resets them."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None or mean.is_meta:
        return False
    return not bool(mean.any()) and bool((var == 1).all())


class _Counted:
    """Batches, each in a wrapper that `update_bn` does not look into, and how many there were."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self.count = 0

    def __iter__(self) -> Iterator[_Batch]:
        for batch in self._batches:
            self.count += 1
            yield _Batch(batch)


class _Batch:
    def __init__(self, content: Any) -> None:
        self.content = content


class _WithTrainingNorms(nn.Module):
    """The model as `update_bn` should see it: takes batches of any kind, and has no modules but the norms."""

    def __init__(self, model: nn.Module, norms: Sequence[_BatchNorm]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.hidden = (model,)  # no submodule, so that its other norms are left alone
        tensors = itertools.chain(model.parameters(), model.buffers())
        self.device = next(tensor.device for tensor in tensors)
        self.most = 0

    def train(self, mode: bool = True) -> _WithTrainingNorms:
        self.hidden[0].eval()
        for norm in self.norms:
            norm.training = mode
        return self

    def forward(self, batch: _Batch) -> None:
        (model,) = self.hidden
        inputs = inputs_of(model, batch.content, self.device)
        self.most = max(self.most, len(inputs))
        if len(inputs) == 1 < self.most:  # whose norms over single positions would raise
            return
        model(*inputs.args, **inputs.kwargs)

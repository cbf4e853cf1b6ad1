"""Running statistics of batch norms, which are not predicted, from a few batches of data."""

# Axes: B images

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from ghn_init.errors import RecalibrationError
from ghn_init.models.batches import inputs_of


def recalibrate_batchnorm(model: nn.Module, loader: Iterable[Any], max_batches: int | None = 100) -> nn.Module:
    """Recomputes the running statistics of all batch norms, in place, by `torch.optim.swa_utils.update_bn`.

    Call it between `initialize` and eval mode. Each batch counts the same. The batch norms alone run in training mode: dropout
    and stochastic depth stay off, as they will be when the statistics are used.

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
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    if not norms:
        return model
    modes = {module: module.training for module in model.modules()}
    momenta = {module: module.momentum for module in modes if isinstance(module, _BatchNorm)}
    statistics = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
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
        if not done:
            for buffer, before in statistics:
                buffer.copy_(before)
    return model


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
    """The model as `update_bn` should see it: takes batches of any kind, and has only norms to put into training mode."""

    def __init__(self, model: nn.Module, norms: list[_BatchNorm]) -> None:
        super().__init__()
        self.model, self.norms = model, norms
        tensors = itertools.chain(model.parameters(), model.buffers())
        self.device = next(tensor.device for tensor in tensors)

    def train(self, mode: bool = True) -> _WithTrainingNorms:
        self.model.eval()
        for norm in self.norms:
            norm.training = mode
        return self

    def forward(self, batch: _Batch) -> None:
        inputs = inputs_of(self.model, batch.content, self.device)
        self.model(*inputs.args, **inputs.kwargs)

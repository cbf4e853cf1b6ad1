"""What loaders yield: the model's inputs, the labels, and so many images of them as often as they are needed."""

# Axes: B images

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghn_init.errors import RecalibrationError, TraceError
from ghn_init.tracing.holders import mapped, plain
from ghn_init.tracing.unwrap import taken_off
from ghn_init.whole import whole

LABELS = ("labels", "label", "label_ids", "targets", "target")
"""Keys of mappings that are no inputs, the likeliest first."""

YIELD_WHAT_IT_TAKES = (
    "Let the loader yield what the forward takes: images of its channels and size, or mappings of its keyword arguments"
)

NO_BATCHES = "the loader has no batches; pass one that yields images (what yields them once may be used up: pass a list)."
SINGLE = "the loader yields single images; wrap it: torch.utils.data.DataLoader(data, 32)."

_OF_PRECISION = re.compile(
    r"dtype|scalar type|Input type|floating point or complex|Type promoting|not implemented for '(Byte|Half|BFloat16|Double)'"
)
"""PyTorch's words where precisions don't go together."""


@dataclass(frozen=True)
class Inputs:
    """Arguments of one forward pass."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __len__(self) -> int:
        """B; 0 where there is no tensor with a batch axis."""
        tensors = (value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor) and value.dim())
        return next((len(tensor) for tensor in tensors), 0)

    @property
    def empty(self) -> bool:
        """Whether they are of no image, as a loader's are that leaves out what it can't read."""
        tensors = [value for value in (*self.args, *self.kwargs.values()) if isinstance(value, Tensor) and value.dim()]
        return bool(tensors) and not len(self)

    def few(self, count: int = 2) -> tuple[Any, ...] | dict[str, Any]:
        """Those of the first images, as `ghn_init.trace` takes them."""
        size = len(self)

        def cut(value: Any) -> Any:
            return value[:count] if isinstance(value, Tensor) and value.dim() and len(value) == size else value

        return tuple(map(cut, self.args)) if self.args else {name: cut(value) for name, value in self.kwargs.items()}

    def not_finite(self) -> int:
        """How many of the B have values that are not finite; batch norms spread them over all."""
        finite = torch.ones(len(self), dtype=torch.bool, device="cpu")
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, Tensor) and value.dim() and len(value) == len(self):
                finite &= value.isfinite().flatten(1).all(1).cpu() if value.dim() > 1 else value.isfinite().cpu()
        return int((~finite).sum())


def inputs_of(model: nn.Module, content: Any, device: torch.device) -> Inputs:
    """What of a batch the model is given.

    Args:
        model: Whose forward takes it.
        content: A tensor (B, …), a tuple or list that begins with one, or a mapping: those keys which the forward takes become
            its keyword arguments, but for labels; else the only tensor that is no label is passed.
        device: Where tensors go.

    Raises:
        RecalibrationError: Something else, or a mapping with other keys.
    """
    images = content[0] if isinstance(content, list | tuple) and content else content
    if isinstance(images, Tensor):
        return Inputs((images.to(device),), {})
    if isinstance(images, Mapping):
        return _from_mapping(model, images, device)
    begins = "" if images is content else f" that begins with {type(images).__name__}"
    raise RecalibrationError(
        f"the loader yields {type(content).__name__}{begins}; expected a tensor, a tuple or list that begins with one, or a "
        f"mapping."
    )


def forward(model: nn.Module, inputs: Inputs) -> Any:
    """What a model returns.

    Raises:
        TraceError: It fails on inputs of another precision than its parameters', or on bytes: with PyTorch's words alone nobody
            knows whose.
    """
    try:
        return model(*inputs.args, **inputs.kwargs)
    except RuntimeError as error:
        if (told := _of_precision(model, (*inputs.args, *inputs.kwargs.values()), error)) is None:
            raise
        raise told from error


@contextmanager
def traced_on(model: nn.Module, inputs: tuple[Any, ...] | dict[str, Any]) -> Iterator[None]:
    """Tracing a model on a loader's images fails in words of the loader: the user has not passed example inputs."""
    try:
        yield
    except TraceError as error:
        values = inputs.values() if isinstance(inputs, dict) else inputs
        told = _of_precision(model, values, error.__cause__) or TraceError(_of_the_loader(str(error), values))
        raise told from error.__cause__


def _of_the_loader(text: str, inputs: Iterable[Any]) -> str:
    what, takes, _ = text.replace(" from example_inputs", " from the loader").rpartition("Pass what it takes: ")
    may_be_single = any(isinstance(value, Tensor) and value.dim() == 3 for value in inputs)
    way = "; of single images make batches: torch.utils.data.DataLoader(data, 32)" if may_be_single else ""
    return f"{what}{YIELD_WHAT_IT_TAKES}{way}." if takes else text


def _of_precision(model: nn.Module, inputs: Iterable[Any], error: BaseException | None) -> TraceError | None:
    """The error in words, where it comes of inputs of another precision than the parameters'."""
    own = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    tensors = (value for value in inputs if isinstance(value, Tensor))
    others = {tensor.dtype for tensor in tensors if tensor.is_floating_point() or _is_bytes(tensor)} - own
    if not own or not others or not isinstance(error, RuntimeError) or not _OF_PRECISION.search(str(error)):
        return None
    dtype, others_dtype = min(own, key=str), min(others, key=str)
    way = f"yield images.to({dtype}), or convert the model by model.to({others_dtype})"
    if not others_dtype.is_floating_point:
        way = "yield images.float() / 255, normalised as for training"
    return TraceError(
        f"the forward pass of {type(model).__name__} of {dtype} failed on images of {others_dtype}: "
        f"{str(error).removesuffix('.')}. Let the loader {way}."
    )


def _is_bytes(tensor: Tensor) -> bool:
    """Images as files hold them; of fewer axes it may be anything."""
    return tensor.dtype == torch.uint8 and tensor.dim() > 2


def _from_mapping(model: nn.Module, content: Mapping[str, Any], device: torch.device) -> Inputs:
    given = {
        name: value.to(device) if isinstance(value, Tensor) else value for name, value in content.items() if name not in LABELS
    }
    parameters = _parameters(model)
    named = {name: value for name, value in given.items() if name in parameters}
    tensors = [value for value in given.values() if isinstance(value, Tensor)]
    if named:
        return Inputs((), named)
    if len(tensors) == 1:
        return Inputs((tensors[0],), {})
    if tensors and _takes_any(parameters):
        return Inputs((), given)
    if not tensors:
        kinds = ", ".join(f"{name!r}: {type(value).__name__}" for name, value in content.items())
        raise RecalibrationError(
            f"the loader yields mappings without a tensor ({kinds}); of a Hugging Face data set pass "
            f'torch.utils.data.DataLoader(data.with_format("torch"), 32).'
        )
    raise RecalibrationError(
        f"the loader yields mappings with {sorted(content)}, the model's forward takes {list(parameters)}; yield these, or "
        f"tuples that begin with the images."
    )


def accepted(model: nn.Module, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of named arguments that the model's forward takes."""
    parameters = _parameters(model)
    return given if _takes_any(parameters) else {name: value for name, value in given.items() if name in parameters}


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Of the forward inside of wrappers."""
    return inspect.signature(taken_off(model)[0].forward).parameters


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def labels_of(content: Any) -> Any:
    """The labels of a batch: what comes second in a tuple or list, or a mapping's under a name for them; None without."""
    if isinstance(content, list | tuple):
        return content[1] if len(content) > 1 else labels_of(content[0]) if content else None
    if isinstance(content, Mapping):
        return next((content[name] for name in LABELS if content.get(name) is not None), None)
    return None


def unlabelled(loader: Iterable[Any]) -> Iterable[Any]:
    """The same batches without labels, where nothing is to be fitted to them. What can be read again can be so still."""
    check_loader(loader)
    return map(_without_labels, loader) if isinstance(loader, Iterator) else _Unlabelled(loader)


@dataclass(frozen=True)
class _Unlabelled:
    loader: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        return map(_without_labels, self.loader)


def _without_labels(content: Any) -> Any:
    images = content[0] if isinstance(content, list | tuple) and content else content
    return {k: v for k, v in images.items() if k not in LABELS} if isinstance(images, Mapping) else images


def check_loader(data: Any) -> None:
    """Refuses images, or images and their labels, in the place of a loader, whose rows would be taken for batches.

    Raises:
        RecalibrationError: They are.
    """
    if isinstance(data, Tensor):
        raise RecalibrationError(
            f"the data are a tensor of shape {tuple(data.shape)}; expected a loader, which yields batches: [images]."
        )
    if isinstance(data, list | tuple) and len(data) == 2 and isinstance(data[0], Tensor) and _are_labels(data[1], data[0]):
        raise RecalibrationError(
            f"the data are a {type(data).__name__} of images {tuple(data[0].shape)} and labels; expected a loader, which "
            f"yields batches: [(images, labels)]."
        )


def check_batch(content: Any) -> None:
    """Refuses an image and its label, as data sets yield them, in the place of a batch.

    Raises:
        RecalibrationError: They are.
    """
    if is_one_label(labels_of(content)):
        raise RecalibrationError(SINGLE)


def is_one_label(labels: Any) -> bool:
    """Whether it is a number, and not those of a batch."""
    scalar = isinstance(labels, Tensor | np.ndarray) and not labels.ndim
    return scalar or isinstance(labels, int | float | np.generic)


def _are_labels(value: Any, images: Tensor) -> bool:
    return value.dim() < images.dim() if isinstance(value, Tensor) else isinstance(value, np.ndarray)


_Batch = tuple[Any, Inputs]


def _read(loader: Iterable[Any], model: nn.Module, max_images: int) -> Iterator[_Batch]:
    """A pass. No method: one that was only begun would hold its `Batches`, which hold it, and a loader's workers with them."""
    count, device = 0, next(model.parameters()).device
    for given in loader:
        content = mapped(plain, given)
        inputs = inputs_of(model, content, device)
        if inputs.empty:
            continue
        count += len(inputs)
        yield content, inputs
        if count >= max_images:
            return


class Batches:
    """Batches of a loader until there are so many images. What can be read only once, an iterator, is held in memory.

    The first pass goes on where the look at the first batch has stopped, so that the loader starts once for each pass.

    Args:
        loader: As for `recalibrate_batchnorm`.
        model: Whose inputs it yields.
        max_images: The batch that reaches this number is the last.

    Raises:
        RecalibrationError: There is none, or none in a later pass; batches are single images, or the model can't be given them;
            or as `check_loader`.
        ValueError: `max_images` is no whole number, or below 1.
    """

    def __init__(self, loader: Iterable[Any], model: nn.Module, max_images: int) -> None:
        self.model, self.max_images = model, whole("max_images", max_images, 1, ValueError)
        if not isinstance(loader, Iterable):
            raise RecalibrationError(
                f"the data are a {type(loader).__name__}; expected a loader, which yields batches, such as "
                f"torch.utils.data.DataLoader(data, 32)."
            )
        check_loader(loader)
        self._loader = loader
        if isinstance(loader, Iterator):
            self._loader = [content for content, _ in _read(loader, model, self.max_images)]
        self._begun: tuple[_Batch, Iterator[_Batch]] | None = self._begin(NO_BATCHES)
        self.first, self.first_inputs = self._begun[0]
        check_batch(self.first)

    def __iter__(self) -> Iterator[_Batch]:
        """Each batch, its tensors plain ones, and what of it the model is given."""
        first, others = self._begun or self._begin("the loader yields its images once; pass list(loader).")
        self._begun = None
        yield first
        yield from others

    def _begin(self, without: str) -> tuple[_Batch, Iterator[_Batch]]:
        """The first batch and those after it, of the loader read anew."""
        others = _read(self._loader, self.model, self.max_images)
        first = next(others, None)
        if first is None:
            raise RecalibrationError(without)
        return first, others

    @property
    def contents(self) -> Iterator[Any]:
        """The batches alone."""
        return (content for content, _ in self)

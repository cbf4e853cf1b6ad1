"""A prediction for one model: lazily made tensors, reasons, a report, and the one place that writes parameters."""

from __future__ import annotations

import copy
import logging
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ghn_init.confidence.confidence import Expecting
from ghn_init.errors import ShapeMismatchError
from ghn_init.graph import Graph
from ghn_init.hypernetwork.ghn import GraphHyperNetwork
from ghn_init.hypernetwork.slots import Slot, fill_
from ghn_init.models.batch_norm import parameters_around
from ghn_init.models.restored import restored_on_failure
from ghn_init.prediction.conditioning import Conditioning, conditioned
from ghn_init.prediction.fates import fates
from ghn_init.prediction.parametrized import INVERTED, UNREACHED, inverse, refresh_derived_, takes
from ghn_init.prediction.report import Report
from ghn_init.prediction.running_statistics import from_noise_, same_statistics_
from ghn_init.prediction.statistics import Statistics, layer_statistics
from ghn_init.tracing.inputs import Inputs
from ghn_init.viz.colouring import Fate
from ghn_init.viz.page import to_html
from ghn_init.viz.picture import to_svg

log = logging.getLogger(__name__)


class PredictedTensors(Mapping[str, Tensor]):
    """Dotted parameter name → predicted tensor of that parameter's shape, dtype and device, made when asked for."""

    def __init__(self, prediction: Prediction) -> None:
        self._slots, self._kept, self._fill = prediction.slots, prediction.kept, prediction._fill_
        self._like, self._inverses = dict(prediction.model.named_parameters()), prediction.inverses

    def __getitem__(self, name: str) -> Tensor:
        if name in self._kept:
            raise KeyError(f"'{name}' keeps its value: {self._kept[name]}")
        like = self._like[name]
        tensor = torch.empty(like.shape, dtype=like.dtype, device="cpu" if like.is_meta else like.device)
        self._fill(tensor, name)
        if name in self._inverses:  # on a copy: an inverse may change its parametrization
            tensor = inverse(copy.deepcopy(self._inverses[name]), tensor)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._slots)

    def __len__(self) -> int:
        return len(self._slots)


def check_prediction(given: object, verb: str) -> None:
    """Refuses a model in the place of its prediction.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(given, Prediction):
        raise TypeError(f"{verb} takes a prediction, not a {type(given).__name__}; pass ghn_init.predict(model).")


def noise_of(name: str, seed: int) -> torch.Generator:
    """The random numbers of one parameter; they depend on nothing but its name and the seed."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)


@torch.no_grad()
def padding_rows(slots: Mapping[str, Slot], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dotted names of embeddings → their row of padding; zero where the model has no values yet."""
    rows = {name: parameters[name].detach()[slot.padding] for name, slot in slots.items() if slot.padding is not None}
    return {name: torch.zeros_like(row, device="cpu") if row.is_meta else row.clone() for name, row in rows.items()}


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """What a hypernetwork predicts for `model`. Nothing is written before `apply_`. Notebooks show its report and its graph.

    Attributes:
        model: The user's model.
        ghn: The hypernetwork.
        graph: Its architecture graph.
        kept: Dotted name of every parameter that keeps its value → the reason.
        report: What is predicted and what is kept; printed it is a screen.
        task: Whose head is predicted, or None.
        conditioning: What is done to weights after they were decoded, or None.
        conditioned: Dotted names of those weights.
        slots: Dotted name of every parameter that is predicted → what is decoded for it; a frozen copy has its original's.
        cores: Decoded tensors by the slots' names.
        inputs: What the model was traced with.
        padding: Dotted names of embeddings → their own row of padding, which they keep.
        inverses: Dotted names of what parametrizations make weights from → the parametrization.
        expecting: What its worth is told from, or None.
        called: Dotted names of modules whose buffers hold the statistics of norms that are called as functions.
        overwritten: Dotted names of parameters whose present values count for nothing, as the caller says.
    """

    model: nn.Module
    ghn: GraphHyperNetwork
    graph: Graph
    kept: Mapping[str, str]
    report: Report
    slots: Mapping[str, Slot]
    cores: Mapping[str, Tensor]
    inputs: Inputs
    seed: int = 0
    task: str | None = None
    conditioning: Conditioning | None = None
    conditioned: frozenset[str] = frozenset()
    padding: Mapping[str, Tensor] = field(default_factory=dict)
    inverses: Mapping[str, ParametrizationList] = field(default_factory=dict)
    expecting: Expecting | None = None
    called: frozenset[str] = frozenset()
    overwritten: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """A screen at most: what there is to look at, and the report's summary."""
        lines = [f"Prediction for {type(self.model).__name__}: {self.report.summary}", *self.report.warnings]
        return "\n  ".join(
            [*lines, f"task={self.task!r}, seed={self.seed}; see .report, .tensors, .kept, .graph; .apply_() writes"]
        )

    @property
    def tensors(self) -> PredictedTensors:
        """Dotted parameter name → predicted tensor of that parameter's shape and dtype, made when asked for."""
        return PredictedTensors(self)

    @torch.no_grad()
    def reached(self) -> Prediction:
        """The same, without those inverses that don't take what is predicted; its report says of both what becomes of them.

        On the meta device they can't be tried.
        """
        unreached = {name for name in self.inverses if not self._on_meta(name) and not self._reaches(name)}
        inverses = {name: part for name, part in self.inverses.items() if name not in unreached}
        report = self.report.with_conditioning(inverses, INVERTED).with_notes(dict.fromkeys(unreached, UNREACHED))
        return replace(self, inverses=inverses, report=report)

    def layer_statistics(self) -> Statistics:
        """Norm, scale against fan-in, copies and effective rank of what is predicted, beside the model's values as they are.

        Singular values take most of the time, seconds for a ResNet-50. After `apply_` both sides are the same.
        """
        return Statistics(list(layer_statistics(self)))

    def to_svg(self, *, fold: bool = True, depth: int | None = None) -> str:
        """The graph's picture, coloured by what happens to parameters: predicted, tiled, or kept; why is in the tooltips.

        There are the norms too, as the model's parameters are now and as predicted. Arguments as in `Graph.to_svg`.
        """
        return to_svg(self.graph, self._fates(), fold=fold, depth=depth)

    def to_html(self, name: str | None = None) -> str:
        """The picture as a page, with the choice between these colours and those of primitives, see `Graph.to_html`.

        Args:
            name: The page's title; by default the name of the model's class.
        """
        return to_html(self.graph, self._fates(), name=type(self.model).__name__ if name is None else name)

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return f"<div>{self.report._repr_html_()}{self.to_svg()}</div>"

    def _fates(self) -> dict[str, Fate]:
        return fates(self.report, dict(self.model.named_parameters()), self.tensors)

    def apply_(self, *, statistics: bool = True) -> nn.Module:
        """Writes all predicted tensors into the model's parameters, or none: what stops it on its way is taken back.

        Parameters keep identity, storage, dtype, device, memory format and `requires_grad`. Batch norms whose weights
        were predicted get the running statistics of noise, by one pass of the model (`running_statistics.py`), which keep eval
        mode sane until there are data; spectral norms get new singular vectors. Until all is written, the values of before are
        kept, which takes the memory of these parameters once more.

        Args:
            statistics: Leave batch norms theirs with False, where those of data follow.

        Returns:
            The model.

        Raises:
            ShapeMismatchError: The model is no longer the one that was traced, or it is on the meta device.
        """
        parameters = self._checked()
        with restored_on_failure([*(parameters[name] for name in self.slots), *self.model.buffers()]):
            self._write_(parameters)
            if statistics:
                self._set_running_statistics()
        return self.model

    def write_(self) -> None:
        """As `apply_` without statistics, for a caller who takes back himself what a failure leaves half written."""
        self._write_(self._checked())

    @torch.no_grad()
    def _write_(self, parameters: Mapping[str, Tensor]) -> None:
        for name in self.slots:
            if name in self.inverses:
                self._write_through_(name, parameters[name])
            else:
                self._fill_(parameters[name], name)
        refresh_derived_(self.model, self.slots)

    def _fill_(self, tensor: Tensor, name: str) -> None:
        """Writes one prediction into a tensor of the parameter's shape."""
        slot = self.slots[name]
        core, noise = self.cores[slot.name].to(tensor.device), noise_of(slot.name, self.seed)
        if self.conditioning is None or name not in self.conditioned:
            fill_(tensor, slot, core, noise)
            if name in self.padding:
                tensor[slot.padding] = self.padding[name]
            return
        whole = torch.empty(slot.shape, dtype=torch.float32, device=tensor.device)  # half precision has no QR
        fill_(whole, slot, core, noise)
        tensor.copy_(conditioned(whole, slot, self.conditioning, noise))

    def _write_through_(self, name: str, parameter: Tensor) -> None:
        """Writes the tensor from which a parametrization makes the predicted weight."""
        weight = torch.empty_like(parameter)
        self._fill_(weight, name)
        parameter.copy_(inverse(self.inverses[name], weight))

    def _reaches(self, name: str) -> bool:
        """Whether a parametrization can make the predicted weight."""
        return takes(self.inverses[name], replace(self, inverses={}).tensors[name])

    def _on_meta(self, name: str) -> bool:
        return self.model.get_parameter(name).is_meta

    @torch.no_grad()
    def _checked(self) -> dict[str, nn.Parameter]:
        """The model's parameters, which can take what is predicted."""
        parameters = dict(self.model.named_parameters())
        problems = []
        for name, slot in self.slots.items():
            parameter = parameters.get(name)
            if parameter is None:
                problems.append(f"'{name}' is gone")
            elif tuple(parameter.shape) != slot.shape:
                problems.append(f"predicted {slot.shape} for '{name}' of shape {tuple(parameter.shape)}")
            elif prod(slot.layout) * slot.slices != parameter.numel():
                problems.append(f"'{name}' of shape {slot.shape} is used as {slot.layout}, which is not understood: exclude it")
            elif parameter.is_meta:
                problems.append(f"'{name}' is on the meta device, without storage: call model.to_empty(device=…) first")
            elif parameter.is_inference():
                problems.append(f"'{name}' was made in inference mode and can't be written: make the model outside of it")
            elif any(size > 1 and step == 0 for size, step in zip(parameter.shape, parameter.stride(), strict=True)):
                problems.append(f"'{name}' is an expanded view, several of its elements share memory: clone it first")
            elif self.cores[slot.name].abs().amax() > torch.finfo(parameter.dtype).max:
                problems.append(f"the values predicted for '{name}' exceed {parameter.dtype}")
            elif name in self.inverses and not self._reaches(name):
                problems.append(f"the parametrization of '{name}' has no finite inverse of what is predicted: exclude it")
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ShapeMismatchError(
                f"{'; '.join(problems[:3])}{more}; nothing was written. If the model changed after predict(), predict again."
            )
        return parameters

    def _set_running_statistics(self) -> None:
        norms = predicted_norms(self.model, self.slots, self.called)
        if not norms:
            return
        cause = from_noise_(self.model, norms, self.inputs, self.seed)
        object.__setattr__(self, "report", self.report.with_norms(len(norms), cause))  # which only the writing shows
        if cause:
            log.warning(
                "%s: running statistics of %d batch norms could not be taken from noise (%s); eval mode is not "
                "sane before ghn_init.recalibrate_batchnorm(model, loader), or training.",
                type(self.model).__name__,
                len(norms),
                cause,
            )
        self.copy_statistics_()

    def copy_statistics_(self) -> None:
        """Norms of frozen copies get the running statistics of their originals."""
        same_statistics_(self.model, {name: slot.name for name, slot in self.slots.items() if slot.name != name}, self.called)


def predicted_norms(model: nn.Module, predicted: Collection[str], called: Collection[str] = ()) -> list[nn.Module]:
    """Norms that track statistics, as `tracking_norms` finds them, and of which a parameter is predicted.

    One without parameters is of the smallest module around it, and counts where nothing is frozen there.
    """
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad and name not in predicted}
    return [
        norm
        for norm, names in parameters_around(model, called).items()
        if not names.isdisjoint(predicted) and (any(True for _ in norm.parameters()) or names.isdisjoint(frozen))
    ]

"""Where fine-tuning may start: the model's own init, orthogonal or predicted weights, each with a random or a fitted head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from ghn_init.heads.fit import fit_on
from ghn_init.heads.start import left_out, norms_to_set, start_, without_head
from ghn_init.models.batch_norm import recalibrate_
from ghn_init.models.batches import Batches
from ghn_init.models.restored import restored_on_failure
from ghn_init.prediction.conditioning import Conditioning, chosen
from ghn_init.prediction.prediction import Prediction, noise_of
from ghn_init.prediction.report import Report
from ghn_init.tracing.unwrap import unwrap

Weights = Literal["default", "orthogonal", "predicted", "predicted+weights"]
Predict = Callable[..., Prediction]
"""A model, dotted names of what else is to be kept, and whether its head is fitted afterwards → a prediction without a head."""

FITTED = "+fitted"


@dataclass(frozen=True)
class Start:
    """A way to write a model's first values.

    Attributes:
        weights: `default` writes nothing, `orthogonal` the weights that would be predicted, `predicted+weights` predicted
            weights alone: biases and norms keep the model's own values.
        fitted: Whether the classification head is fitted in closed form.
    """

    weights: Weights
    fitted: bool

    @property
    def name(self) -> str:
        """`predicted+weights+fitted`."""
        return self.weights + (FITTED if self.fitted else "")

    def write_(self, plain: Prediction, model: nn.Module, batches: Batches, predict: Predict) -> Report:
        """Writes it, all or nothing; says what was written.

        Args:
            plain: A prediction for this model, or for one that it is a copy of.
            model: With any wrappers.
            batches: Labelled images, on which batch norms are recalibrated and the head is fitted; of the model inside.
            predict: Makes the prediction that is written.

        Raises:
            HeadError: The head can't be fitted.
            GHNInitError: As `ghn_init.predict`.
        """
        if not self.weights.startswith("predicted"):
            return self._write_classical_(replace(plain, model=model), batches)
        vectors = vectors_of(plain) if self.weights == "predicted+weights" else []
        prediction = predict(model, vectors, self.fitted)
        report = start_(prediction, batches, "" if self.fitted else "the choice took a random one", vectors)
        return report.with_reasons(dict.fromkeys(vectors, "the choice took weights alone"))

    def _write_classical_(self, plain: Prediction, batches: Batches) -> Report:
        model, fit = plain.model, None
        _, prefix = unwrap(model)
        norms = norms_to_set(plain, batches.model, left_out(plain))
        done: list[str] = []
        written: frozenset[str] = frozenset()
        with restored_on_failure([*model.parameters(), *model.buffers()]):
            if self.weights == "orthogonal":
                written = orthogonal_(plain)
                recalibrate_(batches.model, norms, batches.contents)
            if norms and (self.weights == "orthogonal" or self.fitted):
                done.append("batch norms recalibrated on the data")
            if self.fitted:
                done.append("head fitted")
                fit = fit_on(batches, prefix, norms, left_out(plain), plain.overwritten)
        why = f"the choice took {self.name}"
        report = without_head(plain.report, why).with_nothing_predicted(why, written, "orthogonal")
        return report.with_data(", ".join(done), fit)


def vectors_of(prediction: Prediction) -> list[str]:
    """Dotted names of biases and norms that would be predicted."""
    return [name for name, slot in prediction.slots.items() if len(slot.shape) < 2]


@torch.no_grad()
def orthogonal_(prediction: Prediction) -> frozenset[str]:
    """Writes orthogonal weights (Saxe et al., ICLR 2014, arXiv 1312.6120) in the place of predicted ones; not into the head.

    What a prediction would leave alone, frozen weights and those that start at zero among it, is left alone here too. Gives
    dotted names of what was written.
    """
    parameters = dict(prediction.model.named_parameters())
    names = chosen(Conditioning("orthogonal"), prediction.graph, parameters, prediction.slots) - prediction.inverses.keys()
    for name in sorted(names):
        drawn = torch.empty(parameters[name].shape, device="cpu")
        nn.init.orthogonal_(drawn, generator=noise_of(name, prediction.seed))
        parameters[name].copy_(drawn)
    return names


def starts_for(plain: Prediction) -> list[Start]:
    """All that suit a model, its own init first."""
    weights: list[Weights] = ["default", "orthogonal", "predicted", "predicted+weights"]
    if not vectors_of(plain):
        weights.remove("predicted+weights")  # the same as predicted
    return [Start(each, fitted) for each in weights for fitted in (False, True)]

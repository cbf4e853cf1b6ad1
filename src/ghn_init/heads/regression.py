"""One output's regression: features → weight and bias → the heads that make the output → a look at what it then says."""

# Axes: B images of the first batch, N of all, D features, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ghn_init.errors import HeadError
from ghn_init.heads.features import Features, run
from ghn_init.heads.places import Place
from ghn_init.heads.response import Response, centred_logits, measure_response
from ghn_init.heads.ridge import fit_ridge
from ghn_init.heads.temperature import fit_temperature
from ghn_init.heads.watch import Watch
from ghn_init.models.batches import Batches


@dataclass(frozen=True)
class Fitted:
    """Figures of a regression: (N, K) leave-one-out scores, and as in `HeadFit`."""

    left_out: Tensor
    strength: float
    temperature: float
    features: int


class Regression:
    """Of one output, in eval mode.

    Several heads whose results add up are one linear map of all that they see.

    Args:
        batches: Of the model.
        place: The output and its heads.
        features: Of all images.
        weights: Dotted name → weight of each head of the model.
    """

    def __init__(self, batches: Batches, place: Place, features: Features, weights: Mapping[str, nn.Parameter]) -> None:
        self.batches, self.place, self.features, self.weights = batches, place, features, weights
        self.names = [head.weight for head in place.heads]
        self.with_bias = next((k for k, head in enumerate(place.heads) if head.bias is not None), None)
        self.resolution = torch.finfo(weights[self.names[0]].dtype).eps

    def write_(self, parameters: Mapping[str, nn.Parameter]) -> Fitted:
        """Fits, and writes weights and biases among the model's parameters.

        Raises:
            HeadError: What follows the heads can't be made up for, or the model then says something else than was fitted.
        """
        response = measure_response(self._output, self.names, self.place.classes, max(1e-4, 8 * self.resolution))
        seen = torch.cat([self.features.of[name].double() for name in self.names], 1)
        intercept, labels = self.with_bias is not None, self.features.labels
        ridge = fit_ridge(seen, labels, self.place.classes, intercept=intercept, resolution=self.resolution)
        temperature = fit_temperature(ridge.left_out, labels)
        weight, bias = ridge.weight / temperature, ridge.bias / temperature
        self._write(parameters, weight, bias, response)
        if response.rectified:
            self._lift(parameters)
        self._check(weight, bias)
        return Fitted(ridge.left_out, ridge.strength, temperature, seen.shape[1])

    def _output(self, instead: Mapping[str, Tensor]) -> Tensor:
        """(B, K) with other results in the place of heads'."""
        return run(self.batches.model, self.batches.first_inputs, Watch(self.weights, instead))[self.place.output].cpu()

    @torch.no_grad()
    def _write(self, parameters: Mapping[str, nn.Parameter], weight: Tensor, bias: Tensor, response: Response) -> None:
        widths = [self.features.of[name].shape[1] for name in self.names]
        for k, (head, part) in enumerate(zip(self.place.heads, weight.split(widths, 1), strict=True)):
            parameter, values = parameters[head.weight], part / response.factors[k]
            parameter.copy_((values.T if self.features.flipped[head.weight] else values).reshape(parameter.shape))
            if head.bias is not None:
                own = bias / response.factors[k] if k == self.with_bias else torch.zeros_like(bias)
                parameters[head.bias].copy_(own.reshape(parameters[head.bias].shape))

    @torch.no_grad()
    def _lift(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Adds to all classes alike, which a softmax doesn't see, what the ReLU after a head would cut off."""
        (head, *others) = self.place.heads
        if others or head.bias is None:
            raise HeadError(f"a ReLU follows the head '{head.weight}', which has no bias of its own to lift it above zero.")
        least = float("inf")
        for _, inputs in self.batches:
            watch = Watch({head.weight: self.weights[head.weight]})
            run(self.batches.model, inputs, watch)
            least = min(least, watch.least)
        parameters[head.bias].sub_(min(least, 0.0))

    def _check(self, weight: Tensor, bias: Tensor) -> None:
        """What the model says of the first images is what was fitted."""
        watch = Watch(self.weights)
        output = run(self.batches.model, self.batches.first_inputs, watch)[self.place.output].cpu()
        seen = torch.cat([watch.features[name].cpu().double() for name in self.names], 1)
        off = (centred_logits(output).softmax(1) - (seen @ weight.T + bias).softmax(1)).abs().max()
        if not off <= max(1e-2, 16 * self.resolution):
            raise HeadError(
                f"with the fitted head '{self.names[0]}' the model's probabilities are off by {float(off):.2g} from what was "
                f"fitted: something between head and output is not understood, or the weights exceed their precision."
            )

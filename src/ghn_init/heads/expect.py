"""Whether a head can tell images apart: the share of its features' variance that lies between images.

Near 0 all images look alike to it, whatever the features' scale: what predicted biases can do to networks that meta-training
doesn't know.
"""

# Axes: B images, D features

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ghn_init.confidence.regression import Expectation
from ghn_init.devices import in_float64
from ghn_init.errors import HeadError
from ghn_init.graph import WEIGHT_PRIMITIVES, Graph
from ghn_init.heads.watch import Watch
from ghn_init.prediction.prediction import Prediction, check_prediction

TINY = 1e-6


def expect(prediction: Prediction, images: Tensor) -> dict[str, Expectation]:
    """What a prediction is expected to be worth, with one batch seen: sharper than what its report says.

    The model runs on it twice, with its own values and with predicted ones, in copies. Look before `apply_`.

    Args:
        prediction: Of a classifier.
        images: (B, 3, H, W), a few dozen of your own, as the model takes them.

    Returns:
        As `prediction.report.expected`, by the names of measures; nothing where that has nothing.

    Raises:
        HeadError: The model has no classification head that reads one row of features per image.
        TypeError: A model in the place of its prediction.

    Example:
        >>> import ghn_init, timm, torch
        >>> p = ghn_init.predict(timm.create_model("resnet18", num_classes=10), example_inputs=torch.zeros(2, 3, 32, 32))
        >>> ghn_init.expect(p, torch.randn(16, 3, 32, 32)).keys() == p.report.expected.keys()
        True
    """
    check_prediction(prediction, "expect")
    if prediction.expecting is None:
        return {}
    model, graph = prediction.model, prediction.graph
    return prediction.expecting.with_a_batch(spread(model, graph, images), spread(model, graph, images, prediction.tensors))


def spread(model: nn.Module, graph: Graph, images: Tensor, values: Mapping[str, Tensor] | None = None) -> float:
    """The share, 0 to 1, in eval mode but for batch norms, which take the batch's statistics. The model is left as it is.

    Args:
        model: Whose head reads (B, D) features.
        graph: The model's.
        images: (B, 3, H, W), a few dozen.
        values: Dotted name → a parameter's value in the place of the model's own.

    Raises:
        HeadError: The model has no head, or it is not applied to one row per image.
    """
    heads = [node.weight for node in graph.nodes if node.head and node.primitive in WEIGHT_PRIMITIVES and node.weight]
    if not heads:
        raise HeadError(f"{type(model).__name__} has no classification head; what would read the features is not known.")
    copied = copy.deepcopy(model).eval()
    for module in copied.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    parameters = dict(copied.named_parameters())
    with torch.no_grad():
        for name, value in (values or {}).items():
            parameters[name].copy_(value)
        watch = Watch({heads[0]: parameters[heads[0]]})
        with watch:
            copied(images)
    features = watch.features.get(heads[0])
    if features is None or features.dim() != 2 or len(features) != len(images):
        raise HeadError(f"the head '{heads[0]}' of {type(model).__name__} is not applied to one row of features per image.")
    features = in_float64(features)
    total = (features - features.mean()).square().mean()
    return float((features - features.mean(0)).square().mean() / (total + TINY * features.square().mean() + 1e-300))

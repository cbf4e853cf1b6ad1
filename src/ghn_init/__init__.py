"""Initialise neural networks with predicted weights instead of random ones.

`initialize(model)` reads the computational graph of any `torch.nn.Module` and predicts all its parameters with a pretrained
graph hypernetwork, in one forward pass.

What stands here is loaded when it is first used (PEP 562): `import ghn_init` costs no more than this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ghn_init.version import __version__ as __version__

if TYPE_CHECKING:
    from ghn_init import comparison as comparison
    from ghn_init import deepnets as deepnets
    from ghn_init import errors as errors
    from ghn_init import families as families
    from ghn_init import tasks as tasks
    from ghn_init import timm as timm
    from ghn_init.api import initialize as initialize
    from ghn_init.api import predict as predict
    from ghn_init.checkpoints.default import DEFAULT as DEFAULT
    from ghn_init.checkpoints.pretrained import GHN as GHN
    from ghn_init.checkpoints.pretrained import load as load
    from ghn_init.comparison.choose import choose as choose
    from ghn_init.comparison.race import compare as compare
    from ghn_init.comparison.result import Comparison as Comparison
    from ghn_init.confidence.regression import Expectation as Expectation
    from ghn_init.evaluation.evaluate import evaluate as evaluate
    from ghn_init.evaluation.results import Evaluation as Evaluation
    from ghn_init.graph import Graph as Graph
    from ghn_init.graph import Node as Node
    from ghn_init.heads.expect import expect as expect
    from ghn_init.heads.fit import fit_head_ as fit_head_
    from ghn_init.heads.result import HeadFit as HeadFit
    from ghn_init.hypernetwork.config import GHNConfig as GHNConfig
    from ghn_init.models.batch_norm import recalibrate_batchnorm as recalibrate_batchnorm
    from ghn_init.models.stem import adapt_stem_ as adapt_stem_
    from ghn_init.prediction.conditioning import Conditioning as Conditioning
    from ghn_init.prediction.explanation import Explanation as Explanation
    from ghn_init.prediction.explanation import explain as explain
    from ghn_init.prediction.prediction import Prediction as Prediction
    from ghn_init.prediction.report import Report as Report
    from ghn_init.ranking.rank import rank as rank
    from ghn_init.ranking.result import Ranking as Ranking
    from ghn_init.ranking.score import Score as Score
    from ghn_init.ranking.score import score as score
    from ghn_init.tasks import Images as Images
    from ghn_init.tasks import ImageTask as ImageTask
    from ghn_init.tasks import Task as Task
    from ghn_init.tracing.rules import register_rule as register_rule
    from ghn_init.tracing.trace import trace as trace
    from ghn_init.training.curve import Progress as Progress
    from ghn_init.training.loop import train as train
    from ghn_init.training.objectives import FineTune as FineTune
    from ghn_init.training.objectives import ZeroShot as ZeroShot
    from ghn_init.training.recipe import TrainConfig as TrainConfig
    from ghn_init.trials.choice import Choice as Choice

_HOMES = {
    "api": ("initialize", "predict"),
    "checkpoints.default": ("DEFAULT",),
    "checkpoints.pretrained": ("GHN", "load"),
    "comparison.choose": ("choose",),
    "comparison.race": ("compare",),
    "comparison.result": ("Comparison",),
    "confidence.regression": ("Expectation",),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.results": ("Evaluation",),
    "graph": ("Graph", "Node"),
    "heads.expect": ("expect",),
    "heads.fit": ("fit_head_",),
    "heads.result": ("HeadFit",),
    "hypernetwork.config": ("GHNConfig",),
    "models.batch_norm": ("recalibrate_batchnorm",),
    "models.stem": ("adapt_stem_",),
    "prediction.conditioning": ("Conditioning",),
    "prediction.explanation": ("Explanation", "explain"),
    "prediction.prediction": ("Prediction",),
    "prediction.report": ("Report",),
    "ranking.rank": ("rank",),
    "ranking.result": ("Ranking",),
    "ranking.score": ("Score", "score"),
    "tasks": ("ImageTask", "Images", "Task"),
    "tracing.rules": ("register_rule",),
    "tracing.trace": ("trace",),
    "training.curve": ("Progress",),
    "training.loop": ("train",),
    "training.objectives": ("FineTune", "ZeroShot"),
    "training.recipe": ("TrainConfig",),
    "trials.choice": ("Choice",),
}
"""Module → the public names that it defines; the imports above tell type checkers the same, and a test holds both together."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_ROOMS = ("comparison", "deepnets", "errors", "families", "tasks", "timm")

__all__ = ["__version__", *sorted(_HOME_OF), *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    elif name in _ROOMS:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next time it is found without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
